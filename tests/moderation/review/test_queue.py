"""The queue: decisions logged, escalations filed once, no text unless asked for, verdicts that outrank the machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from moderation.decision import Action, Context, Decision, Entry, Evidence, ItemError, RegionDecision, decide
from moderation.item import Item
from moderation.policy import Constraint, Effect
from moderation.policy_document import load_policy
from moderation.review.queue import ImportReport, ReviewQueue
from moderation.review.store import Store
from moderation.thresholds import HeadThreshold, Thresholds
from retrieval_shared.language import Language
from retrieval_shared.records import RecordFailure

AT = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)
SECRET = "Unverwechselbarer Anzeigentext"
VERSIONS = {"policy_set": "ads-default@1", "encoder": "e1"}
PROBABILITIES = {"gambling": 0.7, "drugs": 0.1}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(f"sqlite:///{tmp_path / 'wardline.db'}")) as opened:
        yield opened


@pytest.fixture
def queue(store: Store) -> ReviewQueue:
    return ReviewQueue(store, clock=lambda: AT)


def item(item_id: str = "ad-1") -> Item:
    context = Context(min_age=18, certificates=frozenset({"gambling:DE"}))
    return Item(id=item_id, fields={"title": SECRET, "body": "mehr"}, regions=("DE", "US"), context=context)


def region(code: str, action: Action) -> RegionDecision:
    evidence = Evidence("title", 0, len(SECRET), SECRET, 0.7, "model")
    entry = Entry(
        policy="gambling",
        effect=Effect.LIMITED,
        probability=0.7,
        severity=2,
        threshold=0.4,
        threshold_id="thr_1",
        action=action,
        constraints=(Constraint("age", 18),),
        evidence=(evidence,),
        reason="gambling: unsure",
    )
    entries = () if action is Action.APPROVE else (entry,)
    return RegionDecision(
        code, code, action, entries, tuple(e.reason for e in entries), degraded=False, probabilities=PROBABILITIES
    )


def decision(item_id: str = "ad-1", *, de: Action = Action.ESCALATE, us: Action = Action.APPROVE) -> Decision:
    return Decision(
        id=item_id,
        status="ok",
        error=None,
        language=Language("de", 0.9, True),
        decisions=(region("DE", de), region("US", us)),
        probabilities=PROBABILITIES,
        obfuscation=None,
        versions=VERSIONS,
        text_sha256="ab" * 32,
    )


def file_one(queue: ReviewQueue, item_id: str = "ad-1") -> str:
    [told] = queue.record([decision(item_id)], [item(item_id)], keep_text=False)
    review_id = told.decisions[0].review_id
    assert review_id is not None
    return review_id


# --- record


def test_every_region_is_logged_and_only_escalations_are_filed(queue: ReviewQueue) -> None:
    [told] = queue.record([decision()], [item()], keep_text=False)
    escalated, approved = told.decisions
    rows = list(queue.store.decision_rows())
    assert [(row.region, row.action, row.review_id) for row in rows] == [
        ("DE", "escalate", escalated.review_id),
        ("US", "approve", None),
    ]
    assert rows[0].context == item().context
    assert (rows[0].versions, rows[0].language, rows[0].text_sha256) == (VERSIONS, Language("de", 0.9, True), "ab" * 32)
    [filed] = queue.pending()
    assert (filed.review.id, filed.review.region, filed.review.priority) == (escalated.review_id, "DE", 1.5)
    assert approved.review_id is None
    assert told == replace(
        decision(), decisions=(replace(decision().decisions[0], review_id=escalated.review_id), approved)
    )


def test_each_region_is_stored_as_it_was_judged_and_by_whom(queue: ReviewQueue) -> None:
    in_germany, in_america = {"gambling": 0.7, "drugs": 0.1}, {"gambling": 0.2, "drugs": 0.9}
    made = replace(
        decision(us=Action.ESCALATE),
        decisions=(
            replace(region("DE", Action.ESCALATE), probabilities=in_germany, adapter="task:moderation"),
            replace(region("US", Action.ESCALATE), probabilities=in_america, adapter="region:US"),
        ),
        versions={**VERSIONS, "adapter": "task:moderation@a1", "adapter:region:US": "region:US@b2"},
    )
    queue.record([made], [item()], keep_text=False)
    rows = list(queue.store.decision_rows())
    assert [row.probabilities for row in rows] == [in_germany, in_america]
    assert [row.versions for row in rows] == [
        {**VERSIONS, "adapter": "task:moderation@a1"},
        {**VERSIONS, "adapter": "region:US@b2"},
    ]
    reviews = {filed.review.region: filed.review.probabilities for filed in queue.pending()}
    assert reviews == {"DE": in_germany, "US": in_america}


def test_same_item_again_is_logged_again_and_filed_once(queue: ReviewQueue) -> None:
    ids = {file_one(queue), file_one(queue)}
    twice = queue.record([decision(), decision()], [item(), item()], keep_text=False)
    ids |= {told.decisions[0].review_id or "" for told in twice}
    assert len(ids) == 1
    assert len(list(queue.pending())) == 1
    assert len(list(queue.store.decision_rows())) == 8


def test_new_policy_version_is_a_new_review(queue: ReviewQueue) -> None:
    file_one(queue)
    newer = replace(decision(), versions={"policy_set": "ads-default@2"})
    queue.record([newer], [item()], keep_text=False)
    assert sorted(filed.review.policy for filed in queue.pending()) == ["ads-default@1", "ads-default@2"]


def test_no_text_reaches_the_disk_unless_asked(queue: ReviewQueue, tmp_path: Path) -> None:
    queue.record([decision()], [item()], keep_text=False)
    assert not [file.name for file in tmp_path.iterdir() if SECRET.encode() in file.read_bytes()]
    [filed] = queue.pending()
    assert filed.review.text is None
    assert filed.review.entries[0]["evidence"] == [
        {"field": "title", "start": 0, "end": len(SECRET), "weight": 0.7, "source": "model"}
    ]


def test_kept_text_is_the_fields_of_escalated_items_alone(queue: ReviewQueue) -> None:
    queue.record(
        [decision("asked"), decision("fine", de=Action.APPROVE)], [item("asked"), item("fine")], keep_text=True
    )
    [filed] = queue.pending()
    assert (filed.review.item_id, filed.review.text) == ("asked", {"title": SECRET, "body": "mehr"})


def test_item_error_is_passed_on_and_not_logged(queue: ReviewQueue) -> None:
    failed = Decision("ad-1", "error", ItemError("empty_text", "no text"), None, (), {}, None, {})
    assert queue.record([failed], [item()], keep_text=False) == [failed]
    assert list(queue.store.decision_rows()) == []
    assert queue.record([], [], keep_text=False) == []


def test_unscored_item_is_filed_degraded(queue: ReviewQueue) -> None:
    failed = RegionDecision("DE", "DE", Action.ESCALATE, (), ("not scored: no memory",), degraded=True)
    made = replace(decision(), decisions=(failed,), probabilities={}, degraded=True)
    queue.record([replace(made, versions={**VERSIONS, "adapter": "task:moderation@a1"})], [item()], keep_text=False)
    [filed] = queue.pending()
    [row] = queue.store.decision_rows()
    assert (row.probabilities, row.versions["adapter"]) == ({}, "task:moderation@a1")
    assert (filed.review.degraded, filed.review.priority, filed.review.reasons) == (
        True,
        2.0,
        ["not scored: no memory"],
    )


def test_decisions_without_their_items_are_refused(queue: ReviewQueue) -> None:
    with pytest.raises(ValueError, match="same ids in the same order"):
        queue.record([decision("a"), decision("b")], [item("b"), item("a")], keep_text=False)
    with pytest.raises(ValueError, match="'policy_set' is missing"):
        queue.record([replace(decision(), versions={})], [item()], keep_text=False)
    assert list(queue.store.decision_rows()) == []


def test_logged_decision_replays_under_a_policy(queue: ReviewQueue) -> None:
    policy = load_policy("ads-default@1")
    thresholds = Thresholds.of(
        prevalence=0.02, heads={name: HeadThreshold(0.4, 0.8, "", 1, 1) for name in ("gambling", "drugs")}
    )
    probabilities = {"gambling": 0.7, "drugs": 0.9}
    decided = decide(probabilities, region="DE", policy=policy, thresholds=thresholds, context=item().context, at=AT)
    queue.record([replace(decision(), decisions=(decided,), probabilities=probabilities)], [item()], keep_text=False)
    [row] = queue.store.decision_rows()
    again = decide(
        row.probabilities,
        region=row.region,
        policy=policy,
        thresholds=thresholds,
        context=row.context,
        at=row.created_at,
    )
    assert again == decided
    assert again.action is row.action


# --- verdicts


def test_verdict_outranks_the_machine(queue: ReviewQueue) -> None:
    review_id = file_one(queue)
    row = {"review_id": review_id, "action": "approve", "reviewer": "ann", "labels": {"gambling": 0}, "note": "ok"}
    assert queue.import_verdicts([row]) == ImportReport(added=1)
    [filed] = queue.store.reviews()
    assert (filed.review.state, filed.review.final_action) == ("decided", "approve")
    assert filed.verdict is not None
    assert (filed.verdict.labels, filed.verdict.note, filed.verdict.created_at) == ({"gambling": 0}, "ok", AT)
    assert list(queue.pending()) == []


def test_decided_review_is_not_opened_by_the_same_item(queue: ReviewQueue) -> None:
    review_id = file_one(queue)
    queue.import_verdicts([{"review_id": review_id, "action": "reject", "reviewer": "ann"}])
    assert file_one(queue) == review_id
    assert list(queue.pending()) == []


def test_importing_twice_changes_nothing(store: Store) -> None:
    times = iter(AT + timedelta(hours=i) for i in range(100))
    queue = ReviewQueue(store, clock=lambda: next(times))
    review_id = file_one(queue)
    rows = [
        {"review_id": review_id, "action": "reject", "reviewer": "ann"},
        {"review_id": review_id, "action": "limit", "reviewer": "bob", "at": "2026-11-21T09:00:00+02:00"},
    ]
    assert queue.import_verdicts(rows) == ImportReport(added=2)
    before = [(filed.review.final_action, filed.review.decided_at) for filed in store.reviews()]
    assert queue.import_verdicts(rows) == ImportReport(unchanged=2)
    assert [(filed.review.final_action, filed.review.decided_at) for filed in store.reviews()] == before
    assert before[0][0] == "reject"  # the later of the two


def test_bad_rows_are_reported_and_stop_no_other(queue: ReviewQueue) -> None:
    first, second = file_one(queue, "ad-1"), file_one(queue, "ad-2")
    good = {"action": "reject", "reviewer": "ann"}
    broken = RecordFailure(9, "not JSON", "{")
    report = queue.import_verdicts(
        [{"review_id": first, **good}, {"review_id": "rev_none", **good}, broken, {"review_id": second, **good}]
    )
    assert (report.added, [failure.line for failure in report.failures]) == (2, [2, 9])
    assert "no such review" in report.failures[0].reason


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_file_of_verdicts_is_taken_in_with_its_line_numbers(queue: ReviewQueue, tmp_path: Path, suffix: str) -> None:
    review_id = file_one(queue)
    good = {"review_id": review_id, "action": "reject", "reviewer": "ann"}
    bad = {**good, "action": "delete"}
    lines = {
        "jsonl": [json.dumps(good | {"labels": {"drugs": 1}}), "", '{"a', json.dumps(bad)],
        "csv": [
            "review_id,action,reviewer,labels",
            f'{review_id},reject,ann,"{{""drugs"": 1}}"',
            f"{review_id},x",
            f"{review_id},delete,ann,",
        ],
    }
    path = tmp_path / f"verdicts.{suffix}"
    path.write_text("\n".join(lines[suffix]))
    report = queue.import_file(path)
    assert report.added == 1
    assert [failure.line for failure in report.failures] == [3, 4]
    assert report.failures[1].reason == "action: found 'delete', allowed approve, limit, reject"
    [filed] = queue.store.reviews()
    assert filed.verdict is not None
    assert filed.verdict.labels == {"drugs": 1}
    again = queue.import_file(path)
    assert (again.added, again.unchanged) == (0, 1)
