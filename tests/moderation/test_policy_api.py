"""What the service says of policies, without HTTP; and that a refused one changes nothing."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest
import yaml

from moderation.decision import Context, Decision, decide
from moderation.document import DocumentError
from moderation.item import Item
from moderation.policy_api import PolicyApi
from moderation.policy_document import POLICIES, load_policy, read_policy
from moderation.policy_store import PolicyStore
from moderation.problem import Problem
from moderation.review.queue import ReviewQueue
from moderation.review.store import Store
from moderation.rule_set import read_rule_set
from moderation.thresholds import HeadThreshold, Thresholds
from retrieval_shared.language import Language

POLICY = load_policy("ads-default@1")
DOCUMENT = (POLICIES / "ads-default@1.yaml").read_text(encoding="utf-8")
HEADS = [head.name for head in POLICY.heads]
THRESHOLDS = Thresholds.of(
    prevalence=0.02, heads={name: HeadThreshold(0.3, 0.6, "made up", 150 + i, 900) for i, name in enumerate(HEADS)}
)
AT = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)


def version(number: int, *changes: tuple[str, str]) -> str:
    text = DOCUMENT.replace("version: 1", f"version: {number}", 1)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.fixture
def store() -> Store:
    return Store("sqlite://")


@pytest.fixture
def api(store: Store) -> PolicyApi:
    versions = PolicyStore(store.database, [POLICY])
    return PolicyApi(versions, store, served=POLICY, follow=True, thresholds=THRESHOLDS)


def code(problem: pytest.ExceptionInfo[Problem]) -> str:
    return problem.value.code


def test_the_listing_says_what_is_served_and_where_data_is_thin(api: PolicyApi) -> None:
    """A head fitted on fewer than 200 positives says so."""
    listing = json.loads(json.dumps(api.listing()))
    assert [policy["ref"] for policy in listing["policies"] if policy["served"]] == [POLICY.ref]
    assert listing["policies"][0]["digest"] == POLICY.digest
    assert all(head["little_data"] for head in listing["thresholds"]["heads"])
    assert listing["thresholds"]["id"] == THRESHOLDS.id


def test_one_policy_is_shown_in_full(api: PolicyApi) -> None:
    """Default rules and regional ones, ready for JSON; a path is no reference."""
    shown = json.loads(json.dumps(api.show(POLICY.ref)))
    assert shown["regions"]["AE"]["alcohol_tobacco"]["effect"] == "PROHIBITED"
    assert [head["name"] for head in shown["heads"]] == HEADS
    assert set(shown["heads"][0]["default"]) == {"effect", "severity", "constraints", "on_error"}
    assert (shown["served"], shown["publications"]) == (True, [])
    for ref in ("ads-default@99", "moderation/policies/ads-default@1.yaml"):
        with pytest.raises(Problem, match="unknown_policy"):
            api.show(ref)


def test_a_version_decides_nothing_before_it_is_published(api: PolicyApi) -> None:
    assert not api.add(version(2), by="ann")["served"]
    assert api.in_force() == POLICY
    assert api.publish("ads-default@2", by="ann")["served"]
    assert api.in_force().ref == "ads-default@2"
    api.publish("ads-default@1", by="bob")
    assert api.rollback("ads-default", by="eve")["ref"] == "ads-default@2"
    told = [(each["ref"], each["action"], each["by"]) for each in api.show("ads-default@1")["publications"]]
    assert told == [
        ("ads-default@2", "publish", "ann"), ("ads-default@1", "publish", "bob"), ("ads-default@2", "rollback", "eve"),
    ]  # fmt: skip


def test_a_pinned_policy_stays_whatever_is_published(store: Store) -> None:
    versions = PolicyStore(store.database, [POLICY])
    pinned = PolicyApi(versions, store, served=POLICY, follow=False, thresholds=THRESHOLDS)
    pinned.add(version(2), by="ann")
    pinned.publish("ads-default@2", by="ann")
    assert pinned.in_force() == POLICY


def test_what_cannot_decide_here_cannot_be_published(api: PolicyApi) -> None:
    other = "id: shop\nversion: 1\nregions: {}\nheads:\n  - {name: poker, kind: topic, definition: x, default: {effect: ALLOWED, severity: 1}}\n"  # noqa: E501
    api.add(other, by="ann")
    with pytest.raises(Problem, match="heads without a rule") as refused:
        api.publish("shop@1", by="ann")
    assert code(refused) == "invalid_policy"
    with pytest.raises(Problem, match="line 2: id") as wrong:
        api.add("version: 1\nid: A B\nheads: []\nregions: {}", by="ann")
    assert code(wrong) == "invalid_policy"
    with pytest.raises(Problem, match="there with other content") as conflict:
        api.add(version(1, ("severity: 4", "severity: 3")), by="ann")
    assert code(conflict) == "policy_conflict"
    with pytest.raises(Problem, match="none to go back to") as empty:
        api.rollback("ads-default", by="ann")
    assert code(empty) == "policy_conflict"
    assert api.in_force() == POLICY


SOME = """\
id: some
version: 1
heads:
  - {name: gambling, kind: topic, definition: x, default: {effect: PROHIBITED, severity: 3}}
regions:
"""
MILD = "gambling: {effect: ALLOWED, severity: 1}"
CYCLE = f"{SOME}  A1:\n    {MILD}\ngroups:\n  A1: [B1]\n  B1: [C1, DE]\n  C1: [A1]\n"
OVERLAP = f"{SOME}  A1:\n    {MILD}\n  B1:\n    {MILD}\ngroups: {{A1: [DE, FR], B1: [FR]}}\n"
BOMB = "a0: &a0 [x, x, x, x]\n" + "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 12))
RULES = """\
id: some-rules
version: 1
rules:
  - name: slow
    head: gambling
    kind: regex
    pattern: '%s'
    effect: escalate
    mode: active
"""


@pytest.mark.parametrize(
    ("kind", "document", "reason"),
    [
        (
            "policy",
            f"{SOME}  IN:\n    {MILD.replace('gambling', 'poker')}\n",
            "line 7: regions.IN.poker: unknown head 'poker', allowed gambling",
        ),
        ("policy", f"{SOME}  XX:\n    {MILD}\n", "line 6: regions.XX: region: found 'XX', allowed a country"),
        ("policy", CYCLE, "line 9: groups.A1: groups hold each other: A1 > B1 > C1 > A1"),
        ("policy", OVERLAP, "line 9: regions.B1.gambling: overlapping rules: A1 and B1 both hold FR"),
        ("rules", RULES % r"(a+)+\1$", r"line 7: rules\.0\.pattern: RE2 does not take it"),
        ("rules", RULES % r"((a{1,30}){1,30}){1,30}$", r"line 7: rules\.0\.pattern: (too large|RE2 does not take it)"),
        ("policy", "#" * 10_000_000, "line 1: document: 10000000 bytes, allowed 1048576"),
        ("rules", "#" * 10_000_000, "line 1: document: 10000000 bytes, allowed 1048576"),
        ("policy", BOMB, "line 1: anchor &a0: write the value out"),
        ("rules", BOMB, "line 1: anchor &a0: write the value out"),
    ],
)
def test_bad_input_is_refused_with_line_and_reason_and_what_is_in_force_stays(
    api: PolicyApi, kind: str, document: str, reason: str
) -> None:
    api.add(version(2), by="ann")
    api.publish("ads-default@2", by="ann")
    before = api.listing()
    if kind == "policy":
        with pytest.raises(Problem, match=f"^invalid_policy: {reason}"):
            api.add(document, by="bob")
        assert re.match(reason, api.validate(document)["error"])
    else:
        with pytest.raises(DocumentError, match=f"^{reason}"):
            read_rule_set(document)
    with pytest.raises(Problem, match="unknown_policy"):
        api.publish("some@1", by="bob")
    assert (api.in_force().ref, api.listing()) == ("ads-default@2", before)
    assert len(api.show("ads-default@2")["publications"]) == 1


def test_json_with_surrogate_pairs_is_a_document(api: PolicyApi) -> None:
    """As `json.dumps` writes what lies beyond the basic plane."""
    document = yaml.safe_load(version(2, ("Deceives in order", "\U0001f600 Deceives in order")))
    text = json.dumps(document, indent="\t")
    assert r"\ud83d\ude00" in text
    assert api.add(text, by="ann")["heads"][8]["definition"].startswith("\U0001f600 Deceives")
    assert api.publish("ads-default@2", by="ann")["digest"] == read_policy(yaml.safe_dump(document)).digest


def test_validation_says_what_adding_and_publishing_would(api: PolicyApi) -> None:
    good = api.validate(version(2))
    assert (good["valid"], good["ref"]) == (True, "ads-default@2")
    bad = api.validate(version(2, ("kind: age, value: 21", "kind: age, value: old")))
    assert not bad["valid"]
    assert "line 2" in bad["error"]
    assert "'old' is not of type 'integer'" in bad["error"]
    foreign = api.validate(
        "id: a\nversion: 1\nregions: {}\n"
        "heads: [{name: x, kind: topic, definition: x, default: {effect: ALLOWED, severity: 1}}]"
    )
    assert "heads without a rule" in foreign["error"]
    assert [policy["ref"] for policy in api.listing()["policies"]] == ["ads-default@1"]


def test_a_diff_tells_every_rule_that_changes(api: PolicyApi) -> None:
    api.add(version(2, ("- {kind: age, value: 21}", "- {kind: age, value: 25}")), by="ann")
    found = api.diff({"before": "ads-default@1", "after": "ads-default@2"})
    changed = {(row["region"], row["policy"]) for row in found["changes"]}
    assert ("default", "drugs") in changed
    assert all(row["before"]["constraints"] != row["after"]["constraints"] for row in found["changes"])
    assert (found["zones"], found["unsupported_language"]) == ([], None)
    assert api.diff({"before": "ads-default@2", "after": "ads-default"})["changes"] == []
    with pytest.raises(Problem, match="invalid_request: after: Field required"):
        api.diff({"before": "ads-default@1"})
    with pytest.raises(Problem, match="unknown_policy"):
        api.diff({"before": "ads-default@1", "after": "none@1"})


def log(store: Store, n: int) -> None:
    decisions = []
    for k in range(n):
        scores = {name: 0.9 if name == "gambling" and k % 2 else 0.1 for name in HEADS}
        made = decide(
            scores, region=("GB", "AE")[k % 4 // 2], policy=POLICY, thresholds=THRESHOLDS, context=Context(), at=AT
        )
        versions = {"policy_set": POLICY.ref, "thresholds": THRESHOLDS.id}
        decisions.append(Decision(f"a{k}", "ok", None, Language("en", 1.0, True), (made,), scores, None, versions))
    items = [Item(id=decision.id, fields={"text": "x"}) for decision in decisions]
    ReviewQueue(store, clock=lambda: AT).record(decisions, items, keep_text=False)


def test_a_backtest_of_a_document_or_of_thresholds_before_anything_is_published(api: PolicyApi, store: Store) -> None:
    log(store, 40)
    assert api.backtest({})["flips"] == 0
    stricter = version(2, ("effect: LIMITED", "effect: PROHIBITED"))
    found = api.backtest({"document": stricter, "examples": 3})
    assert (found["policy"], found["decisions"], found["flips"], len(found["examples"])) == ("ads-default@2", 40, 10, 3)
    assert {row["region"] for row in found["regions"] if row["before"] != row["after"]} == {"GB"}
    assert found["topics"] == [
        {"policy": "gambling", "before": "LIMITED limit", "after": "PROHIBITED reject", "decisions": 10}
    ]
    unsure = api.backtest({"thresholds": {"gambling": {"escalate": 0.5, "act": 0.95}}, "region": "AE", "limit": 15})
    assert (unsure["decisions"], unsure["flips"]) == (15, 7)
    assert api.backtest({"since": "2027-01-01T00:00:00Z"})["decisions"] == 0
    assert api.in_force() == POLICY
    json.dumps(found)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"policy": "none@1"}, "unknown_policy"),
        ({"policy": "ads-default", "document": "x"}, "policy, document: both are given"),
        ({"document": "x"}, "invalid_policy: line 1"),
        ({"region": "Germany"}, "invalid_request: region: found 'Germany', allowed a code of ISO 3166"),
        ({"region": ""}, "invalid_request: region: found ''"),
        ({"region": "XX"}, "invalid_request: region: found 'XX', allowed a country"),
        (
            {"thresholds": {"poker": {"escalate": 0.1, "act": 0.2}}},
            "invalid_request: thresholds: unknown head 'poker', allowed drugs",
        ),
        (
            {"thresholds": {"scam": {"escalate": 0.3, "act": 0.2}}},
            "invalid_request: thresholds.scam.escalate, act: found 0.3, 0.2",
        ),
        ({"thresholds": {"scam": {"escalate": 2, "act": 3}}}, "thresholds.scam.escalate"),
        ({"limit": 0}, "limit: "),
        ({"since": "2026-01-01T00:00:00"}, "since: "),
        ({"typo": 1}, "typo: "),
        ([], "body: "),
    ],
)
def test_a_wrong_backtest_is_refused_by_the_name_of_its_key(api: PolicyApi, request_: object, message: str) -> None:
    with pytest.raises(Problem, match=message):
        api.backtest(request_)
