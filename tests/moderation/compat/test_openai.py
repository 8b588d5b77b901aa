"""The shape of OpenAI's endpoint: every form of input, thirteen categories always, its own errors."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from moderation.compat.openai import CATEGORIES, ModerationRequest, OpenAIError, parse, render
from moderation.decision import Context, Decision, decide, decide_failed
from moderation.policy_document import load_policy
from moderation.thresholds import HeadThreshold, Thresholds
from retrieval_shared.language import Language

POLICY = load_policy()
HEADS = [head.name for head in POLICY.heads]
THRESHOLDS = Thresholds.of(prevalence=0.02, heads={name: HeadThreshold(0.3, 0.6, "made up", 1, 1) for name in HEADS})
AT = datetime(2026, 11, 21, tzinfo=UTC)
THIRTEEN = (
    "harassment harassment/threatening hate hate/threatening illicit illicit/violent self-harm self-harm/intent "
    "self-harm/instructions sexual sexual/minors violence violence/graphic"
)
"""The categories of OpenAI's schema, all of which it requires."""


def asked(**document: object) -> ModerationRequest:
    return parse(json.dumps(document).encode())


def decision(region: str = "US", **probabilities: float) -> Decision:
    scores = {name: probabilities.get(name, 0.01) for name in HEADS}
    made = decide(scores, region=region, policy=POLICY, thresholds=THRESHOLDS, context=Context(), at=AT)
    versions = {"policy_set": POLICY.ref}
    return Decision("a1", "ok", None, Language("en", 1.0, True), (made,), scores, None, versions)


def result(made: Decision) -> dict[str, Any]:
    [only] = render([made], id_="modr-1", model="wardline", heads=HEADS)["results"]
    return dict(json.loads(json.dumps(only)))


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ("one", ("one",)),
        ("", ("",)),
        (["one", "two"], ("one", "two")),
        ([{"type": "text", "text": "one"}, {"type": "text", "text": "two"}], ("one\ntwo",)),
    ],
)
def test_every_form_of_input_is_read(given: object, texts: tuple[str, ...]) -> None:
    assert asked(input=given).texts == texts


def test_half_a_surrogate_pair_is_replaced_in_place() -> None:
    """It could be neither stored nor sent back."""
    for given in (rb'"a\ud800b"', rb'["a\ud800b"]', rb'[{"type": "text", "text": "a\ud800b"}]'):
        found = parse(b'{"input": %s, "policy_set": "\\udc00"}' % given)
        assert (found.texts, found.policy_set) == (("a\N{REPLACEMENT CHARACTER}b",), "\N{REPLACEMENT CHARACTER}")


def test_what_openai_does_not_have_is_read_and_what_we_do_not_know_is_left_alone() -> None:
    found = asked(input="x", model="omni-moderation-latest", region="DE", policy_set="shop@2", user="u1", safety=None)
    assert found == ModerationRequest(("x",), "omni-moderation-latest", "DE", "shop@2")
    assert asked(input="x", model=None).model is None


@pytest.mark.parametrize(
    ("body", "code", "param", "message"),
    [
        (b"{", "invalid_json", None, "could not parse"),
        (b"\xff", "invalid_json", None, "could not parse"),
        (b"[" * 100_000, "invalid_json", None, "could not parse"),
        (b'{"input": "hate", "input": "ok"}', "invalid_json", None, "An object has the same key twice."),
        (b'{"input": [{"type": "text", "text": "hate", "text": "ok"}]}', "invalid_json", None, "same key twice."),
        (b'{"input": "x", "user": NaN}', "invalid_json", None, "NaN is not a JSON number."),
        (json.dumps({"input": "x"}).encode("utf-16"), "invalid_json", None, "Byte 0 is not UTF-8."),
        (b'"x"', "invalid_type", None, "The body is a string"),
        (b"{}", "missing_required_parameter", "input", "'input'"),
        (b'{"input": null}', "invalid_type", "input", "'input' is null"),
        (b'{"input": 3}', "invalid_type", "input", "'input' is a number"),
        (b'{"input": true}', "invalid_type", "input", "'input' is a boolean"),
        (b'{"input": {}}', "invalid_type", "input", "'input' is an object"),
        (b'{"input": []}', "invalid_type", "input", "an empty array"),
        (b'{"input": ["a", 3]}', "invalid_type", "input[0]", "cannot stand in one array"),
        (b'{"input": [{"type": "text"}]}', "invalid_value", "input[0]", "must be of the form"),
        (b'{"input": [{"type": "audio", "text": "x"}]}', "invalid_value", "input[0]", "must be of the form"),
        (
            b'{"input": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "https://x"}}]}',
            "unsupported_content_type", "input[1]", "this service reads text",
        ),
        (json.dumps({"input": ["x"] * 257}).encode(), "array_above_max_length", "input", "257 strings; at most 256"),
        (b'{"input": "x", "region": 3}', "invalid_type", "region", "'region' is a number"),
    ],
)  # fmt: skip
def test_errors_come_in_openais_envelope(body: bytes, code: str, param: str | None, message: str) -> None:
    with pytest.raises(OpenAIError) as refused:
        parse(body)
    error = refused.value.document()["error"]
    assert (refused.value.status, error["type"]) == (400, "invalid_request_error")
    assert (error["code"], error["param"]) == (code, param)
    assert message in error["message"]


def test_all_thirteen_categories_are_always_answered() -> None:
    assert list(CATEGORIES) == THIRTEEN.split()
    for made in (decision(), decision(gambling=0.9), decision(hate=0.9)):
        found = result(made)
        own = [f"ads/{head}" for head in HEADS if head not in CATEGORIES.values()]
        for key in ("categories", "category_scores", "category_applied_input_types"):
            assert list(found[key]) == [*THIRTEEN.split(), *own]
        assert all(isinstance(value, bool) for value in found["categories"].values())
        assert all(isinstance(value, float) and 0 <= value <= 1 for value in found["category_scores"].values())


def test_nobody_takes_an_unscored_category_for_a_safe_one() -> None:
    found = result(decision(hate=0.9, sexual=0.9))
    unscored = found["unscored_categories"]
    assert {"sexual/minors", "self-harm/intent", "hate/threatening", "illicit"} <= set(unscored)
    for name in unscored:
        told = [found[key][name] for key in ("categories", "category_scores", "category_applied_input_types")]
        assert told == [False, 0.0, []]
    assert found["category_applied_input_types"]["hate"] == ["text"]
    assert not set(unscored) & {"hate", "harassment", "sexual", "violence", "self-harm", "ads/gambling"}


def test_an_answer_says_what_the_policy_of_the_region_says() -> None:
    rejected = result(decision("AE", gambling=0.95))
    assert (rejected["flagged"], rejected["categories"]["ads/gambling"]) == (True, True)
    assert rejected["category_scores"]["ads/gambling"] == pytest.approx(0.95)
    assert (rejected["decision"]["action"], rejected["decision"]["region"]) == ("reject", "AE")
    assert rejected["versions"] == {"policy_set": POLICY.ref}
    # What the policy allows is no flag, however probable.
    allowed = result(decision(toxic=0.99))
    assert (allowed["flagged"], allowed["categories"]["ads/toxic"]) == (False, False)
    assert allowed["category_scores"]["ads/toxic"] == pytest.approx(0.99)


def test_what_could_not_be_scored_is_flagged_and_says_so() -> None:
    failed = decide_failed(region="US", policy=POLICY, reason="no session")
    found = result(Decision("a1", "ok", None, None, (failed,), {}, None, {}, degraded=True))
    assert found["flagged"]
    assert found["decision"]["degraded"]
    assert set(found["unscored_categories"]) == set(found["categories"])


def test_an_empty_text_is_not_flagged_and_nothing_of_it_was_scored() -> None:
    found = result(Decision("a1", "error", None, None, (), {}, None, {}))
    assert not found["flagged"]
    assert found["decision"] is None
    assert set(found["unscored_categories"]) == set(found["categories"])
