"""The REST service over HTTP: every bad input, keys, ids, readiness, and a start that is refused."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bentoml.exceptions import BentoMLException
from fastapi.testclient import TestClient
from httpx2 import Response
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from moderation.api import ModerationApi
from moderation.auth import KeyRing, create_key
from moderation.decision import Decision, Evidence, decide, decide_failed, with_evidence
from moderation.item import Item
from moderation.pipeline import Moderated
from moderation.policy import Policy
from moderation.policy_api import PolicyApi
from moderation.policy_document import load_policy
from moderation.policy_store import PolicyStore
from moderation.readiness import Readiness
from moderation.review.store import Store
from moderation.schema import MAX_BODY_BYTES, MAX_ITEMS
from moderation.service import ReadyBody, build_app, check_start
from moderation.signal_sources import NO_SOURCES, SignalSources
from moderation.thresholds import HeadThreshold, Thresholds
from retrieval_shared.bundle import FORMAT, Bundle, Manifest, Probe
from retrieval_shared.language import Language

AT = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)
POLICY = load_policy("ads-default@1")
HEADS = tuple(head.name for head in POLICY.heads)
URL = "/v1/ads:moderate"


class FakeModerator:
    """A head named in the text has 0.99; the text 'FAIL' cannot be scored, 'CRASH' is a bug."""

    heads = HEADS
    policy: Policy = POLICY
    adapters = ()
    thresholds = Thresholds.of(
        prevalence=0.02, heads={head: HeadThreshold(0.3, 0.6, "made up", 900, 900) for head in HEADS}
    )
    bundle = Bundle(
        Path("nowhere"),
        Manifest("tiny", "1", HEADS, ("base",), ("en",), 256, {}, Probe("probe", dict.fromkeys(HEADS, 0.1))),
    )

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """0.1 for every head."""
        return np.full((len(texts), len(HEADS)), 0.1, dtype=np.float32)

    def moderate_and_count(
        self,
        items: Sequence[Item],
        *,
        explain: bool,
        policy: Policy = POLICY,  # noqa: ARG002 - the interface
        sources: SignalSources = NO_SOURCES,  # noqa: ARG002 - the interface
    ) -> Moderated:
        """One decision and one token per item."""
        return Moderated([self._decide(item, explain) for item in items], len(items))

    def _decide(self, item: Item, explain: bool) -> Decision:
        name, text = next(iter(item.fields.items()))
        if text == "CRASH":
            raise AssertionError("a bug, with private text")
        failed = text == "FAIL"
        scores = {head: 0.99 if head in text else 0.01 for head in HEADS}
        evidence = {
            head: [Evidence(name, text.index(head), text.index(head) + len(head), head, 1.0, "rule")]
            for head in HEADS
            if explain and head in text
        }
        regions = [
            decide_failed(region=region, policy=POLICY, reason="no session")
            if failed
            else decide(scores, region=region, policy=POLICY, thresholds=self.thresholds, context=item.context, at=AT)
            for region in item.regions
        ]
        return Decision(
            id=item.id,
            status="ok",
            error=None,
            language=Language("en", 1.0, True),
            decisions=tuple(with_evidence(region, evidence) for region in regions),
            probabilities={} if failed else scores,
            obfuscation=None,
            versions={"policy_set": POLICY.ref},
            degraded=failed,
        )


class FakeQueue:
    """Gives the decisions back as they came."""

    def record(self, decisions: Sequence[Decision], items: Sequence[Item], *, keep_text: bool) -> list[Decision]:  # noqa: ARG002 - the queue's interface
        """Files nothing."""
        return list(decisions)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    """A client on this machine of a service without keys."""
    with connected(KeyRing()) as this_machine:
        yield this_machine


@contextmanager
def connected(keys: KeyRing, peer: str = "127.0.0.1") -> Iterator[TestClient]:
    """A client at the address `peer` of a service with these keys."""
    store = Store(f"sqlite:///{tempfile.mkdtemp()}/policies.db")
    versions = PolicyStore(store.database, [POLICY])
    policies = PolicyApi(versions, store, served=POLICY, follow=True, thresholds=FakeModerator.thresholds)
    api = ModerationApi(FakeModerator(), FakeQueue(), policies, keys=keys)
    with TestClient(
        build_app(lambda: api), base_url="http://localhost", client=(peer, 1), raise_server_exceptions=False
    ) as connection:
        yield connection
    api.close()


def ad(text: str = "Red shoes", **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON values of any kind
    """A valid item, with changes."""
    return {"id": "ad-1", "fields": {"body": text}, "regions": ["US"], **changes}


def send(client: TestClient, content: bytes, **headers: str) -> Response:
    """The answer to these bytes, declared as JSON."""
    response: Response = client.post(URL, content=content, headers={"content-type": "application/json"} | headers)
    return response


def refusal(response: Response) -> tuple[int, str]:
    """Status and code of a problem, after checking that it is one."""
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["status"] == response.status_code
    assert set(document) == {"type", "title", "status", "detail", "code"}
    return response.status_code, document["code"]


def error_codes(response: Response) -> list[str]:
    """Per item its error code, or 'ok'; the request as a whole must have succeeded."""
    assert response.status_code == 200
    return [result["error"]["code"] if "error" in result else "ok" for result in response.json()["results"]]


def test_an_ad_is_decided_for_each_of_its_regions(client: TestClient) -> None:
    """One answer, one decision per region, by each region's rule."""
    response = client.post(URL, json={"items": [ad("alcohol_tobacco here", regions=["US", "AE"])]})
    assert response.status_code == 200
    answer = response.json()
    assert answer["id"].startswith("mod_")
    assert answer["usage"] == {"items": 1, "tokens": 1}
    [result] = answer["results"]
    assert {region["region"]: region["action"] for region in result["decisions"]}["AE"] == "reject"
    assert result["versions"] == {"policy_set": POLICY.ref}
    assert result["duplicates"] is None


def test_evidence_is_given_in_the_unit_asked_for_or_not_at_all(client: TestClient) -> None:
    """The same span of an ad that begins with an emoji, in three units."""
    for unit, start in (("codepoint", 2), ("utf16", 3), ("byte", 5)):
        response = client.post(URL, json={"items": [ad("\U0001f600 scam")], "offset_unit": unit})
        [entry] = response.json()["results"][0]["decisions"][0]["entries"]
        assert entry["evidence"] == [
            {"field": "body", "start": start, "end": start + 4, "text": "scam", "weight": 1.0, "source": "rule"}
        ]
    response = client.post(URL, json={"items": [ad("\U0001f600 scam")], "explain": "none"})
    assert response.json()["results"][0]["decisions"][0]["entries"][0]["evidence"] == []


def test_what_cannot_be_scored_goes_to_a_person_and_says_so(client: TestClient) -> None:
    """A scoring failure is never an approval, in no region."""
    response = client.post(URL, json={"items": [ad("FAIL", regions=["US", "DE"])]})
    [result] = response.json()["results"]
    assert (result["status"], result["degraded"]) == ("ok", True)
    assert [(region["action"], region["degraded"]) for region in result["decisions"]] == [("escalate", True)] * 2


def test_every_bad_item_is_answered_beside_the_good_ones(client: TestClient) -> None:
    """HTTP 200, one result per item, in order."""
    items = [
        ad(id="good"),
        ad("", id="empty"),
        ad("x" * 8001, id="long"),
        ad(id="nowhere", regions=["ZZ"]),
        ad(id="more", colour="red"),
        ad(id="good"),
        ad("\U0001f600\U0001f44d\U0001f3fd", id="emoji"),
        ad("\u05e9\u05dc\u05d5\u05dd \u202eabc", id="right to left"),
        ad("nul \x00", id="nul"),
        "not an item",
    ]
    expected = ["ok", "empty_text", "field_too_long", "unknown_region", "unknown_field", "duplicate_id"]
    assert error_codes(client.post(URL, json={"items": items})) == [*expected, "ok", "ok", "ok", "invalid_item"]


def test_half_a_surrogate_pair_is_answered_in_utf_8(client: TestClient) -> None:
    """In a text it is replaced; in an id the item is refused; neither breaks the answer."""
    content = (
        rb'{"items": [{"id": "a", "fields": {"body": "scam \ud83d"}, "regions": ["US"]},'
        rb' {"id": "\ud83d", "fields": {"body": "x"}, "regions": ["US"]}]}'
    )
    response = send(client, content)
    assert error_codes(response) == ["ok", "invalid_id"]
    assert response.json()["results"][1]["id"] is None


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b'{"items": [NaN]}', 400, "invalid_json"),
        (b'{"items": "\xff"}', 400, "invalid_encoding"),
        (b"[]", 422, "invalid_request"),
        (b'{"items": []}', 422, "empty_batch"),
        (b'{"items": [%s]}' % b",".join([b"1"] * (MAX_ITEMS + 1)), 422, "too_many_items"),
        (b'{"items": [1], "threshold": 0.5}', 422, "unknown_field"),
        (b'{"items": [1], "policy_set": "ads-default@99"}', 422, "unknown_policy_set"),
    ],
)
def test_every_bad_request_is_a_problem(client: TestClient, content: bytes, status: int, code: str) -> None:
    """Status and stable code, as problem+json."""
    assert refusal(send(client, content)) == (status, code)


def test_a_body_over_the_limit_is_refused_with_and_without_a_length(client: TestClient) -> None:
    """Declared, or found out while reading; exactly the limit is read."""
    item = json.dumps(ad("x" * 900_000)).encode()
    assert error_codes(send(client, b'{"items": [%s]}' % item)) == ["field_too_long"]
    exact = (b'{"items": [1]' + b" " * MAX_BODY_BYTES)[: MAX_BODY_BYTES - 1] + b"}"
    assert error_codes(send(client, exact)) == ["invalid_item"]
    assert refusal(send(client, exact + b" ")) == (413, "body_too_large")
    assert refusal(send(client, b"{}", **{"content-length": "9" * 400})) == (413, "body_too_large")

    def chunks() -> Iterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 65536 + 1):
            yield b" " * 65536

    response = client.post(URL, content=chunks(), headers={"content-type": "application/json"})
    assert "content-length" not in response.request.headers
    assert refusal(response) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": ""}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "application/json; charset=latin-1"}, 415),
        ({"content-type": "application/json; version=1; charset=latin-1"}, 415),
        ({"content-encoding": "gzip"}, 415),
        ({"content-type": "application/json; charset=UTF-8"}, 200),
        ({"content-type": "Application/JSON"}, 200),
        ({"content-encoding": "identity"}, 200),
    ],
)
def test_only_plain_json_is_read(client: TestClient, headers: dict[str, str], code: int) -> None:
    """Anything else is 415, not a guess."""
    response = send(client, json.dumps({"items": [ad()]}).encode(), **headers)
    assert response.status_code == code
    if code == 415:
        assert refusal(response) == (415, "unsupported_media_type")


def test_the_request_id_is_echoed_or_made(client: TestClient) -> None:
    """On answers, on problems and on failures; an unusable one is replaced."""
    for content, status in (
        (b'{"items": [1]}', 200),
        (b"{", 400),
        (json.dumps({"items": [ad("CRASH")]}).encode(), 500),
    ):
        response = send(client, content, **{"x-request-id": "job-7/a"})
        assert (response.status_code, response.headers["x-request-id"]) == (status, "job-7/a")
    for unusable in ("", "a b", "x" * 129):
        made = send(client, b"{", **{"x-request-id": unusable}).headers["x-request-id"]
        assert made.startswith("req_")
        assert len(made) == 36


def test_a_bug_is_a_problem_that_tells_nothing_of_the_text(client: TestClient) -> None:
    """The client gets a code and the request id, the log gets the rest."""
    response = client.post(URL, json={"items": [ad("CRASH")]})
    assert refusal(response) == (500, "internal_error")
    assert "private" not in response.text


def test_policies_and_limits_are_told(client: TestClient) -> None:
    """What a client needs to know before its first request."""
    listing = client.get("/v1/policies").json()
    assert POLICY.ref in [policy["ref"] for policy in listing["policies"]]
    assert client.get(f"/v1/policies/{POLICY.ref}").json()["digest"] == POLICY.digest
    assert refusal(client.get("/v1/policies/none@1")) == (404, "unknown_policy")
    limits = client.get("/v1/limits").json()
    assert (limits["max_body_bytes"], limits["max_items"], limits["max_field_characters"]) == (1_048_576, 256, 8_000)
    assert limits["languages"] == ["en"]


def test_without_keys_another_machine_gets_401() -> None:
    """On every route; the detail says how to configure keys."""
    with connected(KeyRing(), peer="203.0.113.9") as client:
        refused = [client.post(URL, json={"items": [ad()]}), client.get("/v1/limits"), client.get("/v1/policies")]
    for response in refused:
        assert refusal(response) == (401, "keys_not_configured")
        assert "WARDLINE_KEYS" in response.json()["detail"]


def test_with_keys_the_scope_moderate_is_needed() -> None:
    """No key 401, wrong scope 403, right scope 200; an unread body is no way around."""
    ads, desk = create_key("ads", ["moderate"]), create_key("desk", ["review"])
    with connected(KeyRing((ads.record, desk.record))) as client:
        assert refusal(send(client, b"{")) == (401, "missing_key")
        assert refusal(send(client, b"{", authorization="Bearer wl_wrong")) == (401, "invalid_key")
        assert refusal(send(client, b"{", authorization=f"Bearer {desk.secret}")) == (403, "missing_scope")
        assert send(client, b'{"items": [1]}', authorization=f"Bearer {ads.secret}").status_code == 200


def ready(readiness: Readiness) -> Response:
    """The answer of `/readyz` in front of an app that would say 'inner'."""

    async def inner(_: Request) -> PlainTextResponse:
        return PlainTextResponse("inner")

    app = Starlette(routes=[Route("/{path}", inner)])
    client = TestClient(ReadyBody(app, current=lambda: readiness))
    assert client.get("/livez").text == "inner"
    response: Response = client.get("/readyz")
    return response


def test_readyz_has_a_body_with_what_is_doubtful() -> None:
    """200 with a warning when the probe differs, 503 when it could not be scored."""
    doubtful = ready(Readiness(True, "tiny@1", 0.1, ("differs",)))
    assert doubtful.status_code == 200
    assert doubtful.json() == {
        "status": "ready",
        "ready": True,
        "bundle": "tiny@1",
        "probe_difference": 0.1,
        "warnings": ["differs"],
    }
    failed = ready(Readiness(False, "tiny@1", None, ("no session",)))
    assert (failed.status_code, failed.json()["status"]) == (503, "not ready")


def test_a_service_does_not_start_without_a_whole_bundle(tmp_path: Path) -> None:
    """The message says which file is wrong; BentoML prints it and stops before any worker is started."""
    environment = {"WARDLINE_BUNDLE": str(tmp_path), "WARDLINE_DATABASE": f"sqlite:///{tmp_path}/w.db"}
    with pytest.raises(BentoMLException, match="Wardline cannot start: no model bundle at"):
        check_start(environment)
    names = ("encoder.onnx", "base.int8.bin", "tokenizer.json", "calibration.json", "thresholds.json", "training.json")
    for name in names:
        (tmp_path / name).write_text("damaged")
    document = {
        "format": FORMAT,
        "name": "tiny",
        "version": "1",
        "heads": list(HEADS),
        "slots": ["base"],
        "languages": ["en"],
        "max_tokens": 256,
        "files": dict.fromkeys(names, "0" * 64),
        "probe": {"text": "x", "probabilities": {}},
    }
    (tmp_path / "bundle.json").write_text(json.dumps(document))
    with pytest.raises(BentoMLException, match="encoder.onnx has sha256"):
        check_start(environment)


def test_a_service_does_not_start_on_a_wrong_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A missing keys file, an unknown policy, an unusable database: each stops the start."""
    monkeypatch.setattr("moderation.service.load_bundle", lambda _: None)
    database = {"WARDLINE_DATABASE": f"sqlite:///{tmp_path}/w.db"}
    check_start(database)
    for wrong in (
        {"WARDLINE_KEYS": str(tmp_path / "none.yaml")},
        {"WARDLINE_POLICY": "none"},
        {"WARDLINE_KEEP_TEXT": "maybe"},
        {"WARDLINE_DATABASE": "mysql://x"},
        {"WARDLINE_DATABASE": f"sqlite:///{tmp_path}"},
    ):
        with pytest.raises(BentoMLException, match="Wardline cannot start"):
            check_start(database | wrong)
