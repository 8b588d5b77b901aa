"""What the service says of rules, without HTTP; a refused set changes nothing, and shadow hits are counted."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from moderation.decision import Action, Decision, RegionDecision
from moderation.item import Item
from moderation.problem import Problem
from moderation.review.queue import ReviewQueue
from moderation.review.store import Store
from moderation.rule_api import RuleApi
from moderation.rule_store import RuleStore
from moderation.signals import Signal

RULES = """\
id: shop
version: {version}
rules:
  - {{name: sure-win, head: {head}, kind: terms, terms: [sure win], effect: escalate, mode: active}}
  - {{name: new, head: scam, kind: regex, pattern: '{pattern}', effect: reject, mode: shadow}}
"""
AT = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)


def document(version: int = 1, *, head: str = "gambling", pattern: str = "call 0900") -> str:
    return RULES.format(version=version, head=head, pattern=pattern)


@pytest.fixture
def store() -> Store:
    return Store("sqlite://")


@pytest.fixture
def api(store: Store) -> RuleApi:
    return RuleApi(RuleStore(store.database), store, heads=("gambling", "scam"))


def refused(problem: pytest.ExceptionInfo[Problem]) -> tuple[str, str]:
    return problem.value.code, problem.value.detail


def test_a_set_is_added_published_rolled_back_and_withdrawn(api: RuleApi) -> None:
    assert api.add(document(), by="ann")["served"] is False
    assert api.in_force() == ()
    assert api.publish("shop@1", by="ann")["served"] is True
    api.add(document(2), by="ann")
    api.publish("shop@2", by="ann")
    assert [(row["ref"], row["served"], row["rule_count"], row["shadow_count"]) for row in api.listing()["rules"]] == [
        ("shop@1", False, 2, 1), ("shop@2", True, 2, 1),
    ]  # fmt: skip
    assert api.rollback("shop", by="bob")["ref"] == "shop@1"
    assert api.withdraw("shop", by="bob")["served"] is False
    assert api.in_force() == ()
    shown = api.show("shop@1")
    assert [(each["ref"], each["action"], each["by"]) for each in shown["publications"]] == [
        ("shop@1", "publish", "ann"), ("shop@2", "publish", "ann"),
        ("shop@1", "rollback", "bob"), ("shop@1", "withdraw", "bob"),
    ]  # fmt: skip
    assert shown["rules"][1] == {
        "name": "new", "head": "scam", "effect": "reject", "mode": "shadow", "terms": [], "pattern": "call 0900",
        "languages": [], "regions": [],
    }  # fmt: skip


def test_what_is_refused_names_its_reason_and_what_is_in_force_stays(api: RuleApi) -> None:
    api.add(document(), by="ann")
    api.publish("shop@1", by="ann")
    with pytest.raises(Problem) as broken:
        api.add(document(2, pattern="(a|b"), by="ann")
    code, detail = refused(broken)
    assert code == "invalid_rules"
    assert "line 5" in detail
    with pytest.raises(Problem) as conflict:
        api.add(document(pattern="other"), by="ann")
    assert refused(conflict)[0] == "rules_conflict"
    api.add(document(3, head="astrology"), by="ann")
    with pytest.raises(Problem) as unknown_head:
        api.publish("shop@3", by="ann")
    assert refused(unknown_head) == (
        "invalid_rules",
        "rules shop@3: rule 'sure-win' speaks for head 'astrology', allowed ['gambling', 'scam']",
    )
    for call in (api.show, api.hits, lambda ref: api.publish(ref, by="ann")):
        with pytest.raises(Problem) as unknown:
            call("poker")
        assert refused(unknown)[0] == "unknown_rules"
    for change in (api.rollback, api.withdraw):
        with pytest.raises(Problem) as nothing:
            change("poker", by="ann")
        assert refused(nothing)[0] == "rules_conflict"
    assert [rules.ref for rules in api.in_force()] == ["shop@1"]


def test_a_document_can_be_checked_without_being_added(api: RuleApi) -> None:
    assert api.validate(document())["ref"] == "shop@1"
    assert api.validate(document(head="astrology")) == {
        "valid": False,
        "error": "rules shop@1: rule 'sure-win' speaks for head 'astrology', allowed ['gambling', 'scam']",
    }
    assert "line 5" in api.validate(document(pattern="(a|b"))["error"]
    assert api.listing() == {"rules": []}


def test_hits_count_decisions_once_per_rule_region_and_action(api: RuleApi, store: Store) -> None:
    api.add(document(), by="ann")
    win = Signal("rule", "shop@1/sure-win", "gambling", "escalate")
    new = Signal("rule", "shop@1/new", "scam", "reject", mode="shadow")
    other = Signal("rule", "shop@2/new", "scam", "reject")
    logged = [
        ("DE", Action.ESCALATE, (win, new)), ("DE", Action.APPROVE, (new,)), ("US", Action.APPROVE, (new,)),
        ("US", Action.APPROVE, (new,)), ("US", Action.REJECT, (other,)), ("US", Action.APPROVE, ()),
    ]  # fmt: skip
    decisions = [
        Decision(
            str(i), "ok", None, None, (RegionDecision(region, region, action, (), ("x",), False, signals=signals),),
            {}, None, {"policy_set": "p@1"}, decided_at=AT,
        )
        for i, (region, action, signals) in enumerate(logged)
    ]  # fmt: skip
    items = [Item(id=str(i), fields={"text": "x"}) for i in range(len(logged))]
    ReviewQueue(store).record(decisions, items, keep_text=False)
    assert api.hits("shop@1") == {
        "ref": "shop@1",
        "decisions": 4,
        "hits": [
            {"rule": "new", "mode": "shadow", "region": "DE", "action": "approve", "decisions": 1},
            {"rule": "new", "mode": "shadow", "region": "DE", "action": "escalate", "decisions": 1},
            {"rule": "new", "mode": "shadow", "region": "US", "action": "approve", "decisions": 2},
            {"rule": "sure-win", "mode": "active", "region": "DE", "action": "escalate", "decisions": 1},
        ],
    }
