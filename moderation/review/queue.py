"""The review queue: every decision is logged, every escalation filed once, every verdict taken back in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moderation.database import now
from moderation.decision import Action, Context, Decision, Entry, RegionDecision, versions_in
from moderation.policy import constraint_json
from moderation.review.priority import priority
from moderation.review.store import FiledReview, Row, Store, review_id
from moderation.review.verdict import read_verdict
from moderation.signals import signals_json
from retrieval_shared.records import RecordFailure, scan_records

if TYPE_CHECKING:
    from moderation.item import Item


@dataclass(frozen=True)
class ImportReport:
    """What became of the rows of a verdict file; the four add up to its rows."""

    added: int = 0
    """New verdicts."""
    unchanged: int = 0
    """Verdicts that were there already."""
    undecided: int = 0
    """Rows of an exported file that nobody has filled in."""
    failures: tuple[RecordFailure, ...] = ()
    """Rows that could not be used, with line and reason."""


class ReviewQueue:
    """The queue over one store."""

    def __init__(self, store: Store, *, clock: Callable[[], datetime] = now) -> None:
        """Hold the store; `clock` tells the time of entry."""
        self.store = store
        self._clock = clock

    def record(self, decisions: Sequence[Decision], items: Sequence[Item], *, keep_text: bool) -> list[Decision]:
        """Log decisions, file their escalations, and return the decisions with `review_id` set where they escalate.

        Each region's row holds its own probabilities and names the adapter that judged it.

        Item errors are returned as they are: nothing was decided about them. An escalation whose item, policy version
        and region are in the queue already gets the review that is there. Text is stored only in reviews, and only
        with `keep_text`; evidence is always stored as places, without its words.

        Args:
            decisions: one per item.
            items: in the same order.
            keep_text: whether reviewers are to read the items' fields.

        Raises:
            ValueError: decisions and items do not belong together, or a decision names no policy.
            sqlalchemy.exc.SQLAlchemyError: nothing was written.
        """
        if [decision.id for decision in decisions] != [item.id for item in items]:
            raise ValueError("decisions, items: they must have the same ids in the same order")
        told: list[Decision] = []
        rows: list[Row] = []
        reviews: list[Row] = []
        at = self._clock()
        for decision, item in zip(decisions, items, strict=True):
            decision = _with_review_ids(decision)
            told.append(decision)
            if decision.status != "ok":
                continue
            for region in decision.decisions:
                rows.append(_decision_row(decision, region, item.context, decision.decided_at or at))
                if region.review_id is not None:
                    reviews.append(_review_row(decision, region, item if keep_text else None, at))
        if rows:
            self.store.append(rows, reviews)
        return told

    def suggest(self, decision: Decision, item: Item, *, reason: str, keep_text: bool) -> Decision:
        """File a review that somebody outside asked for, and return the decision with its `review_id`.

        Nothing is logged: it is no decision of ours. A review that is there already stays as it is.

        Args:
            decision: what the model and the policy say of the item.
            item: the item.
            reason: what was said, for the reviewer.
            keep_text: whether reviewers are to read the item's fields.
        """
        regions = tuple(
            replace(region, action=Action.ESCALATE, reasons=(reason, *region.reasons)) for region in decision.decisions
        )
        told = _with_review_ids(replace(decision, decisions=regions))
        at = self._clock()
        self.store.append([], [_review_row(told, region, item if keep_text else None, at) for region in told.decisions])
        return told

    def pending(self, *, region: str | None = None, limit: int | None = None) -> Iterator[FiledReview]:
        """Yield what waits for a person, most urgent first."""
        return self.store.reviews(state="pending", region=region, limit=limit)

    def import_verdicts(self, rows: Iterable[Mapping[str, Any] | RecordFailure]) -> ImportReport:
        """Take in verdicts, row by row; a bad row is reported and the others are taken in.

        A verdict that is there already changes nothing. Of several verdicts about one review the latest counts, and it
        outranks the machine: it becomes the review's final action. `docs/reviews.md` describes the rows.
        """
        added = unchanged = undecided = 0
        failures: list[RecordFailure] = []
        for position, row in enumerate(rows, start=1):
            if isinstance(row, RecordFailure):
                failures.append(row)
                continue
            try:
                read = read_verdict(row, find=self.store.review, now=self._clock())
            except ValueError as error:
                failures.append(RecordFailure(getattr(row, "line", position), str(error), str(dict(row))[:1000]))
                continue
            if read is None:
                undecided += 1
            elif self.store.add_verdict(read.row, timed=read.timed):
                added += 1
            else:
                unchanged += 1
        return ImportReport(added, unchanged, undecided, tuple(failures))

    def import_file(self, path: Path | str) -> ImportReport:
        """Take in a file of verdicts, as `import_verdicts`; raises as `read_records` where all of it is unreadable."""
        return self.import_verdicts(scan_records(path))


def _with_review_ids(decision: Decision) -> Decision:
    if all(region.action is not Action.ESCALATE for region in decision.decisions):
        return decision
    policy = _policy(decision)
    regions = tuple(
        replace(region, review_id=review_id(item_id=decision.id, policy=policy, region=region.region))
        if region.action is Action.ESCALATE
        else region
        for region in decision.decisions
    )
    return replace(decision, decisions=regions)


def _policy(decision: Decision) -> str:
    policy = decision.versions.get("policy_set")
    if not policy:
        raise ValueError(f"versions of {decision.id!r}: 'policy_set' is missing, found {sorted(decision.versions)}")
    return policy


def _decision_row(decision: Decision, region: RegionDecision, context: Context, at: datetime) -> Row:
    return {
        "item_id": decision.id,
        "text_sha256": decision.text_sha256,
        "region": region.region,
        "policy": _policy(decision),
        "action": region.action.value,
        "probabilities": dict(region.probabilities),
        "context": _context(context),
        "versions": versions_in(decision, region),
        "language": decision.language.code if decision.language else None,
        "language_confidence": decision.language.confidence if decision.language else None,
        "language_supported": decision.language.supported if decision.language else None,
        "degraded": decision.degraded or region.degraded,
        "entries": [entry_json(entry) for entry in region.entries],
        "signals": signals_json(region.signals) or None,
        "reasons": list(region.reasons),
        "review_id": region.review_id,
        "created_at": at,
    }


def _review_row(decision: Decision, region: RegionDecision, kept: Item | None, at: datetime) -> Row:
    urgency = priority(region)
    return {
        "id": region.review_id,
        "item_id": decision.id,
        "policy": _policy(decision),
        "region": region.region,
        "state": "pending",
        "priority": urgency.value,
        "priority_reason": urgency.reason,
        "entries": [entry_json(entry) for entry in region.entries],
        "reasons": list(region.reasons),
        "probabilities": dict(region.probabilities),
        "language": decision.language.code if decision.language else None,
        "degraded": decision.degraded or region.degraded,
        "text_sha256": decision.text_sha256,
        "text": dict(kept.fields) if kept else None,
        "created_at": at,
    }


def _context(context: Context) -> dict[str, Any]:
    return {
        "min_age": context.min_age,
        "advertiser_id": context.advertiser_id,
        "certificates": sorted(context.certificates),
        "disclosures": None if context.disclosures is None else sorted(context.disclosures),
        "scheduled_at": context.scheduled_at.isoformat() if context.scheduled_at else None,
    }


def entry_json(entry: Entry) -> dict[str, Any]:
    """Return the entry as JSON without the words of its evidence: they are the item's text."""
    return {
        "policy": entry.policy,
        "effect": entry.effect.value,
        "probability": float(entry.probability),
        "severity": entry.severity,
        "threshold": {"value": entry.threshold, "id": entry.threshold_id},
        "action": entry.action.value,
        "constraints": [constraint_json(item) for item in entry.constraints],
        "evidence": [
            {"field": part.field, "start": part.start, "end": part.end, "weight": part.weight, "source": part.source}
            for part in entry.evidence
        ],
        "reason": entry.reason,
    }
