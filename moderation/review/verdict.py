"""A verdict as a person writes it, in a row of a file, and as the store keeps it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from moderation.decision import Action
from moderation.tables import ReviewRow, VerdictRow

ACTIONS = (Action.APPROVE.value, Action.LIMIT.value, Action.REJECT.value)
NAMES = ("action", "labels", "reviewer", "note", "at")
"""What a verdict says beside the review it is about; in an exported file each name begins with `verdict_`."""
MAX_NOTE_CHARACTERS = 4_000
MAX_REVIEWER_CHARACTERS = 200
_CLOCK_DIFFERENCE = timedelta(minutes=5)
_PREFIX = "verdict_"
_ALSO = {"created_at": "at"}  # the name of the column in the database, taken too


@dataclass(frozen=True)
class ReadVerdict:
    """A usable row."""

    row: VerdictRow
    timed: bool
    """Whether the row told its time; else it is the time of entry."""


def read_verdict(
    row: Mapping[str, Any], *, find: Callable[[str], ReviewRow | None], now: datetime
) -> ReadVerdict | None:
    """Return the verdict in a row, None where the row of an exported file has not been filled in.

    Args:
        row: `review_id`, `action`, `reviewer` and optionally `labels`, `note`, `at`; or a row of an export, whose
            verdict stands in the columns `verdict_action` and so on.
        find: returns the review of an id.
        now: the time of entry.

    Raises:
        ValueError: the row cannot be used; the message names the column, the value found and the values allowed.
    """
    given = _given(row)
    if given is None:
        return None
    review = find(_text(row.get("review_id"), "review_id", limit=100) or "")
    if review is None:
        raise ValueError(f"review_id: found {row.get('review_id')!r}, and there is no such review")
    action = _action(given.get("action"))
    labels = _labels(given.get("labels"), allowed=review.probabilities)
    reviewer = _text(given.get("reviewer"), "reviewer", limit=MAX_REVIEWER_CHARACTERS)
    if reviewer is None:
        raise ValueError("reviewer: is empty, expected who decided")
    note = _text(given.get("note"), "note", limit=MAX_NOTE_CHARACTERS)
    told = _time(given.get("at"), now)
    content = _sha256(review.id, action, json.dumps(labels, sort_keys=True), reviewer, note or "")
    at = told or now
    verdict = VerdictRow(
        id=f"ver_{_sha256(content, at.isoformat())[:24]}",
        review_id=review.id,
        content_sha256=content,
        labels=labels,
        action=action,
        reviewer=reviewer,
        note=note,
        created_at=at,
    )
    return ReadVerdict(verdict, timed=told is not None)


def _given(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the row says by the names of `NAMES`; None for an export's row without a verdict."""
    if any(str(name).startswith(_PREFIX) for name in row):
        _check_columns({str(name).removeprefix(_PREFIX) for name in row if str(name).startswith(_PREFIX)})
        given = {name: row.get(_PREFIX + name) for name in NAMES}
        return given if any(value not in (None, "", {}) for value in given.values()) else None
    given = {_ALSO.get(name, name): value for name, value in row.items() if name != "review_id"}
    _check_columns(set(given))
    return given


def _check_columns(found: set[str]) -> None:
    unknown = sorted(found - set(NAMES))
    if unknown:
        raise ValueError(f"column: found {unknown[0]!r}, allowed review_id, {', '.join(NAMES)}")


def _action(value: object) -> str:
    text = value.strip().lower() if isinstance(value, str) else value
    if text not in ACTIONS:
        raise ValueError(f"action: found {value!r}, allowed {', '.join(ACTIONS)}")
    return str(text)


def _labels(value: object, *, allowed: Mapping[str, Any]) -> dict[str, int]:
    """Return head -> 0 or 1; `allowed` are the heads that were scored, all are where none was."""
    if value in (None, ""):
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f'labels: found {value!r}, expected JSON such as {{"gambling": 1}}') from error
    if not isinstance(value, Mapping):
        raise ValueError(f"labels: found {value!r}, expected heads with 0 or 1")
    for head, label in value.items():
        if allowed and head not in allowed:
            raise ValueError(f"labels: found {head!r}, allowed {', '.join(allowed)}")
        if label not in (0, 1):
            raise ValueError(f"labels.{head}: found {label!r}, allowed 0, 1")
    return {str(head): int(label) for head, label in value.items()}


def _text(value: object, name: str, *, limit: int) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > limit:
        found = f"{len(value)} characters" if isinstance(value, str) else repr(value)
        raise ValueError(f"{name}: found {found}, allowed a text of at most {limit:,} characters")
    return value.strip() or None


def _time(value: object, now: datetime) -> datetime | None:
    if value in (None, ""):
        return None
    try:
        if not isinstance(value, str):
            raise ValueError
        told = datetime.fromisoformat(value.strip())
    except ValueError as error:
        raise ValueError(f"at: found {value!r}, expected a time such as 2026-11-21T08:30:00Z") from error
    told = told if told.tzinfo else told.replace(tzinfo=UTC)
    if told > now + _CLOCK_DIFFERENCE:
        raise ValueError(f"at: found {value!r}, which lies in the future")
    return told.astimezone(UTC)


def _sha256(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
