"""The document against the service: generated requests, and not one answer that it does not tell."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import checks

from moderation.api import ModerationApi
from moderation.auth import KeyRing, create_key
from moderation.idempotency import KEY_HEADER
from moderation.service import build_app

KEY = create_key("fuzz", ["admin"])
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
"""Not among them: what asks that every wrong input is refused. A bad item is answered beside the good ones, Google's
JSON takes `"true"` for true, and a field that OpenAI's endpoint does not know is left alone."""

serving: list[ModerationApi] = []
app = build_app(lambda: serving[0])
schema = schemathesis.openapi.from_dict(app.openapi())
schema.app = app


@pytest.fixture(scope="module", autouse=True)
def served(made_up_api: ModerationApi) -> Iterator[set[str]]:
    """The API behind the app, which is made before it; and the idempotency keys that were used."""
    made_up_api.keys = KeyRing((KEY.record,))
    serving.append(made_up_api)
    yield set()
    serving.clear()


@schema.parametrize()
@settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_nothing_is_answered_that_the_document_does_not_tell(case: schemathesis.Case, served: set[str]) -> None:
    # A key used before would only ever be answered with its conflict.
    key = case.headers.pop(KEY_HEADER, None)
    if key is not None and key not in served:
        served.add(key)
        case.headers[KEY_HEADER] = key
    case.call_and_validate(headers={"Authorization": f"Bearer {KEY.secret}"}, checks=CHECKS)
