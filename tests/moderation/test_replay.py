"""Replay and backtest over a real database: 10,000 decisions, two policies, two thresholds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from moderation.decision import Action, Context, Decision, decide, decide_failed, escalate_unsupported
from moderation.item import Item
from moderation.policy import Policy
from moderation.policy_document import load_policy
from moderation.policy_store import PolicyStore
from moderation.replay import backtest, decide_again, replay
from moderation.review.queue import ReviewQueue, entry_json
from moderation.review.store import Store
from moderation.signals import Signal, apply_signals
from moderation.thresholds import HeadThreshold, Thresholds
from retrieval_shared.language import Language

AT = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)
REGIONS = ("US", "DE", "IN", "IN-GJ", "AE", "JP")
SIGNALS: tuple[tuple[Signal, ...], ...] = (
    (),
    (Signal("rule", "shop@1/a", "scam", "escalate"), Signal("rule", "shop@1/b", "drugs", "reject", mode="shadow")),
    (),
    (Signal("bank", "bank_1", "alcohol_tobacco", "reject"),),
    (),
)
STRICT = """\
id: strict
version: 1
unsupported_language: flag
heads:
{heads}
regions:
  IN:
    gambling: {{effect: LIMITED, severity: 2, constraints: [{{kind: hours, start: "06:00", end: "21:00"}}]}}
    political:
      {{effect: LIMITED, severity: 2, constraints: [{{kind: quiet_period, start: 2026-11-21, end: 2026-11-22}}]}}
zones: {{IN: Asia/Kolkata}}
"""


def strict() -> str:
    line = "  - {{name: {}, kind: violation, definition: x, default: {{effect: PROHIBITED, severity: 3}}}}"
    return STRICT.format(heads="\n".join(line.format(head.name) for head in load_policy().heads))


def cuts(escalate: float, act: float) -> Thresholds:
    heads = {head.name: HeadThreshold(escalate, act, "by hand", 1, 1) for head in load_policy().heads}
    return Thresholds.of(prevalence=0.02, heads=heads)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path / 'log.db'}")
    yield opened
    opened.close()


def log(store: Store, policy: Policy, thresholds: Thresholds, n: int, *, seed: int) -> None:
    """Log n made-up decisions as the pipeline does: one in fifty not scored, one in ten in an unread language."""
    rng = np.random.default_rng(seed)
    queue = ReviewQueue(store, clock=lambda: AT)
    heads = [head.name for head in policy.heads]
    decisions, items = [], []
    for k in range(n):
        scores = {head: float(p) for head, p in zip(heads, rng.beta(0.3, 2, len(heads)), strict=True)}
        at = AT + timedelta(minutes=int(rng.integers(0, 3_000)))
        language = Language("sw", 0.9, False) if k % 10 == 0 else Language("en", 0.97, True)
        context = Context(
            min_age=[None, 18, 21][k % 3], certificates=frozenset({"gambling:US"} if k % 2 else ()),
            scheduled_at=at if k % 4 == 0 else None,
        )  # fmt: skip
        region = REGIONS[k % len(REGIONS)]
        if k % 50 == 0:
            scores, decided = {}, decide_failed(region=region, policy=policy, reason="no session: gone")
        else:
            decided = decide(scores, region=region, policy=policy, thresholds=thresholds, context=context, at=at)
            decided = escalate_unsupported(decided, language=language, policy=policy)
        decided = apply_signals(decided, SIGNALS[k % len(SIGNALS)], policy=policy)
        versions = {"policy_set": policy.ref, "policy_digest": policy.digest[:12], "thresholds": thresholds.id}
        items.append(Item(id=f"{policy.id}-{k}", fields={"text": "x"}, regions=(region,), context=context))
        decisions.append(
            Decision(f"{policy.id}-{k}", "ok", None, language, (decided,), scores, None, versions, decided_at=at)
        )
    queue.record(decisions, items, keep_text=False)


def test_ten_thousand_decisions_replay_through_a_change_and_back(store: Store) -> None:
    policies = PolicyStore(store.database, [load_policy()])
    first, other = cuts(0.3, 0.7), cuts(0.2, 0.9)
    for thresholds in (first, other):
        policies.remember(thresholds)
    changed = policies.publish(policies.add(strict(), by="ann").ref, by="ann")
    log(store, load_policy(), first, 4_000, seed=1)
    log(store, changed, other, 3_000, seed=2)
    log(store, replace(load_policy(), id="ads-default"), first, 3_000, seed=3)
    rows = list(store.decision_rows())
    assert len(rows) == 10_000
    assert {row.action for row in rows} == set(Action)
    assert list(replay(rows, policies)) == []


def judged(store: Store, thresholds: Thresholds, *, n: int) -> None:
    """Log n items for Germany, Indonesia and an Indian state; an adapter of Indonesia's sees drugs there alone."""
    policy, rng = load_policy(), np.random.default_rng(4)
    versions = {
        "policy_set": policy.ref, "policy_digest": policy.digest[:12], "thresholds": thresholds.id,
        "adapter": "task:moderation@a1", "adapter:region:ID": "region:ID@b2",
    }  # fmt: skip
    made, items = [], []
    for k in range(n):
        general = {head.name: float(p) for head, p in zip(policy.heads, rng.uniform(0, 0.6, 16), strict=True)}
        regions = []
        for region, slot in (("DE", "task:moderation"), ("ID", "region:ID"), ("IN-GJ", "task:moderation")):
            scores = {**general, "drugs": 0.95} if slot == "region:ID" else {**general, "drugs": 0.05}
            decided = decide(scores, region=region, policy=policy, thresholds=thresholds, context=Context(), at=AT)
            regions.append(replace(decided, adapter=slot))
        english = Language("en", 0.97, True)
        decision = Decision(
            str(k), "ok", None, english, tuple(regions), regions[0].probabilities, None, versions, decided_at=AT
        )
        made.append(decision)
        items.append(Item(id=str(k), fields={"text": "x"}, regions=("DE", "ID", "IN-GJ")))
    ReviewQueue(store, clock=lambda: AT).record(made, items, keep_text=False)


def test_a_region_replays_under_what_its_own_adapter_said(store: Store) -> None:
    policies, thresholds = PolicyStore(store.database, [load_policy()]), cuts(0.3, 0.7)
    policies.remember(thresholds)
    judged(store, thresholds, n=40)
    rows = list(store.decision_rows())
    fired = {
        region: {entry["policy"] for row in rows if row.region == region for entry in row.entries}
        for region in ("DE", "ID", "IN-GJ")
    }
    assert [("drugs" in heads) for heads in fired.values()] == [False, True, False]
    assert {row.action for row in rows if row.region == "ID"} == {Action.REJECT}
    assert {row.versions["adapter"] for row in rows if row.region == "ID"} == {"region:ID@b2"}
    assert {row.versions["adapter"] for row in rows if row.region != "ID"} == {"task:moderation@a1"}
    assert list(replay(rows, policies)) == []
    same = backtest(rows, policy=load_policy(), thresholds=thresholds)
    assert (same.decisions, same.flips, same.topics) == (120, 0, {})
    # The adapter is what changed the action: what the first region was judged by makes another decision of the row.
    germany, indonesia, _ = rows[:3]
    swapped = [replace(indonesia, probabilities=germany.probabilities)]
    assert {each.what for each in replay(swapped, policies)} >= {"action", "entries", "reasons"}


def test_rows_of_older_releases_replay(store: Store) -> None:
    """One set of probabilities stood in the rows of all regions, and the graph's hash for the adapter's version."""
    policy, thresholds = load_policy(), cuts(0.3, 0.7)
    policies = PolicyStore(store.database, [policy])
    policies.remember(thresholds)
    scores = {head.name: 0.05 for head in policy.heads} | {"gambling": 0.9, "scam": 0.4}
    rows = []
    for region in REGIONS:
        found = decide(scores, region=region, policy=policy, thresholds=thresholds, context=Context(), at=AT)
        rows.append(
            {
                "item_id": "old", "text_sha256": "0" * 64, "region": region, "policy": policy.ref,
                "action": found.action.value, "probabilities": scores, "context": {}, "degraded": False,
                "versions": {"policy_set": policy.ref, "thresholds": thresholds.id, "adapter": "task:moderation@a1"},
                "entries": [entry_json(entry) for entry in found.entries], "reasons": list(found.reasons),
                "created_at": AT,
            }
        )  # fmt: skip
    store.append(rows, [])
    stored = list(store.decision_rows())
    assert len({row.action for row in stored}) > 1
    assert list(replay(stored, policies)) == []


def test_what_does_not_come_out_again_is_named(store: Store) -> None:
    policies = PolicyStore(store.database, [load_policy()])
    thresholds = cuts(0.3, 0.7)
    policies.remember(thresholds)
    log(store, load_policy(), thresholds, 8, seed=1)
    rows = list(store.decision_rows())
    row = next(each for each in rows if each.action is Action.REJECT)
    wrong = [
        replace(row, action=Action.APPROVE),
        replace(row, reasons=("because",)),
        replace(row, entries=()),
        replace(row, versions={**row.versions, "thresholds": "thr_0000000000"}),
        replace(row, policy="gone@3"),
        replace(row, versions={**row.versions, "policy_digest": "000000000000"}),
    ]
    assert [each.what for each in replay(wrong, policies)] == [
        "action", "reasons", "entries", "thresholds", "policy", "policy",
    ]  # fmt: skip


def test_a_backtest_counts_every_decision_once_and_shows_what_flips(store: Store) -> None:
    policies = PolicyStore(store.database, [load_policy()])
    thresholds = cuts(0.3, 0.7)
    log(store, load_policy(), thresholds, 600, seed=1)
    rows = list(store.decision_rows())
    same = backtest(rows, policy=load_policy(), thresholds=thresholds)
    assert (same.flips, same.topics, same.examples) == (0, {}, [])
    other = policies.add(strict(), by="ann")
    report = backtest(rows, policy=other, thresholds=thresholds, examples=2)
    again = [decide_again(row, policy=other, thresholds=thresholds) for row in rows]
    assert report.decisions == sum(sum(counts.values()) for counts in report.regions.values()) == 600
    assert report.flips == sum(row.action is not found.action for row, found in zip(rows, again, strict=True)) > 0
    for region in REGIONS:
        both = [(row.action, found.action) for row, found in zip(rows, again, strict=True) if row.region == region]
        assert dict(report.regions[region]) == {kind: both.count(kind) for kind in set(both)}
    assert all(flip.before is not flip.after and flip.reasons for flip in report.examples)
    kinds = [(flip.region, flip.before, flip.after) for flip in report.examples]
    assert max(kinds.count(kind) for kind in kinds) <= 2
    assert "gambling" in report.topics
    shown = report.to_json()
    assert shown["flips"] == report.flips
    assert sum(row["decisions"] for row in shown["regions"]) == 600


def test_other_thresholds_alone_may_flip_decisions(store: Store) -> None:
    log(store, load_policy(), cuts(0.3, 0.7), 200, seed=1)
    rows = list(store.decision_rows())
    report = backtest(rows, policy=load_policy(), thresholds=cuts(1.0, 1.0))
    after = {after for counts in report.regions.values() for _, after in counts}
    assert after == {Action.APPROVE, Action.ESCALATE, Action.REJECT}  # what is left: unread, unscored, or in the bank


def test_thresholds_without_a_scored_head_are_refused(store: Store) -> None:
    log(store, load_policy(), cuts(0.3, 0.7), 2, seed=1)
    few = Thresholds.of(prevalence=0.02, heads={})
    with pytest.raises(ValueError, match=r"thresholds thr_\w+: none for head 'drugs'"):
        backtest(list(store.decision_rows()), policy=load_policy(), thresholds=few)
