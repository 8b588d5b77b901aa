"""The routes of policies over HTTP: what may be sent, who may send it, and what no sender can break."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient

from moderation.api import ModerationApi
from moderation.auth import KeyRing, create_key
from moderation.policy_document import POLICIES, policy_schema
from moderation.request import DOCUMENT_TYPES

URL = "/v1/policies"
TEXT = (POLICIES / "ads-default@1.yaml").read_text(encoding="utf-8")
READER, ADMIN = create_key("reader", ["moderate"]), create_key("ann", ["admin"])


@pytest.fixture(autouse=True)
def keys(made_up_api: ModerationApi) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made_up_api, "keys", KeyRing((READER.record, ADMIN.record)))
        yield


def document(name: str, version: int | str = 1, **changes: Any) -> str:
    """The shipped policy under another name, as JSON, which is YAML too."""
    return json.dumps({**yaml.safe_load(TEXT), "id": name, "version": version, **changes})


def send(
    client: TestClient, path: str, content: str | bytes = b"", *, secret: str = ADMIN.secret, **headers: str
) -> Any:
    sent = {"authorization": f"Bearer {secret}", "content-type": "application/json", **headers}
    return client.post(f"{URL}{path}", content=content, headers=sent)


def get(client: TestClient, path: str) -> Any:
    return client.get(f"{URL}{path}", headers={"authorization": f"Bearer {READER.secret}"})


def problem(answer: Any) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def test_a_version_is_added_checked_put_in_force_and_taken_back(made_up_client: TestClient) -> None:
    """With the name of the key that did it; it changes what the service says of itself at once."""
    added = send(made_up_client, "", document("flow"))
    assert (added.status_code, added.json()["ref"], added.json()["served"]) == (201, "flow@1", False)
    assert send(made_up_client, "", document("flow")).status_code == 201
    assert send(made_up_client, "", document("flow", 2)).status_code == 201
    assert problem(send(made_up_client, "", document("flow", unsupported_language="flag"))) == (409, "policy_conflict")
    for ref in ("flow@1", "flow@2"):
        assert send(made_up_client, f"/{ref}:publish").status_code == 200
    assert get(made_up_client, "/flow").json()["ref"] == "flow@2"
    back = send(made_up_client, "/flow:rollback").json()
    told = [(each["ref"], each["action"], each["by"]) for each in back["publications"]]
    assert told == [("flow@1", "publish", "ann"), ("flow@2", "publish", "ann"), ("flow@1", "rollback", "ann")]
    assert problem(send(made_up_client, "/flow:rollback")) == (409, "policy_conflict")
    assert "flow@2" in [each["ref"] for each in get(made_up_client, "").json()["policies"]]


@pytest.mark.parametrize("media_type", DOCUMENT_TYPES)
def test_a_document_is_read_as_yaml_and_as_json(media_type: str, made_up_client: TestClient) -> None:
    for text in (TEXT, document("ads-default")):
        answer = send(made_up_client, ":validate", text, **{"content-type": f"{media_type}; charset=utf-8"})
        assert answer.json() == {"valid": True, "ref": "ads-default@1", "digest": answer.json()["digest"]}


def test_the_schema_is_the_published_one(made_up_client: TestClient) -> None:
    assert get(made_up_client, "/schema").json() == policy_schema()


def test_reading_needs_less_than_changing(made_up_client: TestClient) -> None:
    """Who may moderate may look and compare, and not put anything in force."""
    pair = json.dumps({"before": "ads-default@1", "after": "ads-default@2"})
    for path, content in ((":diff", pair), (":validate", TEXT)):
        assert send(made_up_client, path, content, secret=READER.secret).status_code == 200
    for path in ("", ":backtest", "/ads-default@1:publish", "/ads-default:rollback"):
        assert problem(send(made_up_client, path, b"{}", secret=READER.secret)) == (403, "missing_scope")


@pytest.mark.parametrize(
    ("path", "content", "status", "code"),
    [
        ("", b"id: \xff", 400, "invalid_encoding"),
        ("", b"", 422, "invalid_policy"),
        ("", "[" * 50_000, 422, "invalid_policy"),
        ("", rb'id: "\ud800"', 422, "invalid_policy"),
        ("", document("large", 10**9), 422, "invalid_policy"),
        ("", document("large", 10**30), 422, "invalid_policy"),
        ("", document("large", 1.5), 422, "invalid_policy"),
        (":diff", b"[]", 422, "invalid_request"),
        (":diff", rb'{"\ud800": 1}', 422, "invalid_request"),
        (":diff", '{"before": "ads-default@\u0663", "after": "ads-default@1"}', 404, "unknown_policy"),
        (":backtest", b"[" * 100_000, 400, "invalid_json"),
        (":backtest", b'{"since": "0001-01-01T00:00:00+14:00"}', 422, "invalid_request"),
        (":backtest", b'{"since": "9999-12-31T23:59:59-14:00"}', 422, "invalid_request"),
        (":backtest", b'{"since": "2026-12-01T00:00:00"}', 422, "invalid_request"),
        (":backtest", b'{"limit": NaN}', 400, "invalid_json"),
        (":backtest", b'{"policy": "a", "document": "b"}', 422, "invalid_request"),
        (":backtest", b'{"policy": "none@1"}', 404, "unknown_policy"),
        (":backtest", b'{"region": "\\ud800"}', 422, "invalid_request"),
        ("/none@1:publish", b"", 404, "unknown_policy"),
        ("/a%00b@1:publish", b"", 404, "unknown_policy"),
        ("/%FF:rollback", b"", 409, "policy_conflict"),
    ],
)
def test_what_cannot_be_used_is_a_problem_and_no_failure(
    path: str, content: str | bytes, status: int, code: str, made_up_client: TestClient
) -> None:
    assert problem(send(made_up_client, path, content, **{"content-type": "application/json"})) == (status, code)


def test_a_quiet_period_to_the_end_of_the_calendar_is_refused(made_up_client: TestClient) -> None:
    """Its last second plus one is no date."""
    period = {"kind": "quiet_period", "start": "2026-01-01", "end": "9999-12-31", "zone": "UTC"}
    rule = {"effect": "LIMITED", "severity": 2, "constraints": [period]}
    text = document("quiet", regions={"DE": {"drugs": rule}})
    assert "allowed 2 to 9998" in send(made_up_client, ":validate", text).json()["error"]
    assert problem(send(made_up_client, "", text)) == (422, "invalid_policy")


@pytest.mark.parametrize("ref", ["none", "none@1", "%00", "%FF", "ads-default@99999999999", "ads-default@-1"])
def test_a_policy_that_is_not_there(ref: str, made_up_client: TestClient) -> None:
    assert problem(get(made_up_client, f"/{ref}")) == (404, "unknown_policy")


def test_a_request_that_is_sent_again_is_done_once(made_up_client: TestClient) -> None:
    send(made_up_client, "", document("twice"))
    send(made_up_client, "", document("twice", 2))
    send(made_up_client, "/twice@1:publish")
    send(made_up_client, "/twice@2:publish")
    first, again = (send(made_up_client, "/twice:rollback", **{"idempotency-key": "once"}) for _ in range(2))
    assert (first.status_code, again.headers["idempotency-replayed"]) == (200, "true")
    assert first.json() == again.json()
