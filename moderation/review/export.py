"""The export of the review queue: one row per review, pending and decided, in columns that stay the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moderation.review.store import FiledReview, Store
from retrieval_shared.records import write_records

COLUMNS: Mapping[str, type] = {
    "review_id": str,
    "item_id": str,
    "policy": str,
    "region": str,
    "state": str,
    "action": str,
    "heads": object,
    "priority": float,
    "priority_reason": str,
    "reasons": object,
    "entries": object,
    "probabilities": object,
    "language": str,
    "degraded": bool,
    "text_sha256": str,
    "text": object,
    "created_at": str,
    "verdict_action": str,
    "verdict_labels": object,
    "verdict_reviewer": str,
    "verdict_note": str,
    "verdict_at": str,
}
"""Column -> type; `object` is nested, in CSV as JSON. `docs/reviews.md` explains each; new ones go at the end."""


def export_reviews(store: Store, path: Path | str, *, format: str | None = None, state: str | None = None) -> int:
    """Write the reviews to a file, whole or not at all, and return how many.

    Args:
        store: the database.
        path: the file to write.
        format: `jsonl`, `csv` or `parquet`; None goes by the suffix.
        state: only `pending` or only `decided` ones; None is both.

    Raises:
        ValueError: the format or the state is unknown.
    """
    rows = (review_row(filed) for filed in store.reviews(state=state))
    return write_records(path, rows, format=format, columns=COLUMNS)


def review_row(filed: FiledReview) -> dict[str, Any]:
    """Return a review in the columns of the export."""
    review, verdict = filed.review, filed.verdict
    return {
        "review_id": review.id,
        "item_id": review.item_id,
        "policy": review.policy,
        "region": review.region,
        "state": review.state,
        "action": review.final_action or "escalate",
        "heads": [entry["policy"] for entry in review.entries if entry["action"] == "escalate"],
        "priority": review.priority,
        "priority_reason": review.priority_reason,
        "reasons": review.reasons,
        "entries": review.entries,
        "probabilities": review.probabilities,
        "language": review.language,
        "degraded": review.degraded,
        "text_sha256": review.text_sha256,
        "text": review.text,
        "created_at": review.created_at.isoformat(),
        "verdict_action": verdict.action if verdict else None,
        "verdict_labels": verdict.labels if verdict else None,
        "verdict_reviewer": verdict.reviewer if verdict else None,
        "verdict_note": verdict.note if verdict else None,
        "verdict_at": verdict.created_at.isoformat() if verdict else None,
    }
