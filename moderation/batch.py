"""Files of items: one line in, one line out, in the same order; a bad line is written out with its reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from moderation.decision import Decision, ItemError
from moderation.response import render_decision, render_error
from moderation.schema import FIELDS, Entrant, parse_item
from retrieval_shared.records import Record, RecordFailure, scan_records, write_records

if TYPE_CHECKING:
    from moderation.item import Item
    from moderation.review.queue import ReviewQueue

_ASIDE = ("language", "context")


@dataclass(frozen=True)
class BatchReport:
    """What became of a file."""

    lines: int
    """Lines read, and written."""
    failed: int
    """Lines without a decision; each says why in its `error`."""
    actions: Mapping[str, int] = field(default_factory=dict)
    """Action -> how many items in how many regions."""
    reviews: int = 0
    """Escalations that are in the review queue, new or from before."""


class Judge(Protocol):
    """What a batch needs of a `Moderator`."""

    def moderate(self, items: Sequence[Item]) -> list[Decision]:
        """One decision per item, in order."""


@dataclass(frozen=True)
class _Line:
    """One line of the source."""

    number: int
    entrant: Entrant


def moderate_file(
    moderator: Judge,
    source: Path | str,
    target: Path | str,
    *,
    regions: Sequence[str],
    queue: ReviewQueue | None = None,
    batch_size: int = 64,
    keep_text: bool = False,
    progress: Callable[[int], None] | None = None,
) -> BatchReport:
    """Decide about every item of a file and write one line per item, in the file's order; memory holds one batch.

    An item has an `id`, its texts (`title`, `body`, `cta`, `landing_text` or `text`, at the top or in `fields`) and
    optionally `regions`, `language` and `context` as in a request; other keys are left alone. A written line is a
    result as the service gives it; one that failed has status `error`, the reason and its line number.

    Args:
        moderator: decides.
        source: JSON Lines, CSV (`regions` as `DE,US`) or Parquet.
        target: in any of these; it appears when the last line is written.
        regions: for items that name none.
        queue: logs the decisions and takes the escalations; None does neither.
        batch_size: items decided together, at least 1.
        keep_text: whether the queue keeps the texts of escalated items.
        progress: is told how many lines are done, after each batch.

    Raises:
        ValueError: a format is unknown, `batch_size` is below 1, or `target` is the source.
        FileNotFoundError: there is no such source.
        RecordError: the source is damaged as a whole; nothing is written.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size: found {batch_size}, allowed 1 or more")
    if Path(source).resolve() == Path(target).resolve():
        raise ValueError(f"target: found {str(target)!r}, which is the source")
    tally: Counter[str] = Counter()
    lines = (_line(found, regions) for found in scan_records(source))

    def rows() -> Iterator[dict[str, Any]]:
        while batch := list(islice(lines, batch_size)):
            yield from _batch_rows(moderator, batch, queue, keep_text=keep_text, tally=tally)
            tally["lines"] += len(batch)
            if progress is not None:
                progress(tally["lines"])

    write_records(target, rows())
    actions = {name.removeprefix("action:"): count for name, count in tally.items() if name.startswith("action:")}
    return BatchReport(lines=tally["lines"], failed=tally["failed"], actions=actions, reviews=tally["reviews"])


def count_lines(source: Path | str) -> int:
    """Return how many lines `moderate_file` would write for a source."""
    return sum(1 for _ in scan_records(source))


def _batch_rows(
    moderator: Judge, batch: Sequence[_Line], queue: ReviewQueue | None, *, keep_text: bool, tally: Counter[str]
) -> Iterator[dict[str, Any]]:
    items = [line.entrant.item for line in batch if line.entrant.item is not None]
    decisions = moderator.moderate(items) if items else []
    if queue is not None:
        decisions = queue.record(decisions, items, keep_text=keep_text)
    _count(decisions, tally)
    decided = iter(decisions)
    for line in batch:
        row = _row(line, decided)
        tally["failed"] += row["status"] == "error"
        yield row


def _row(line: _Line, decided: Iterator[Decision]) -> dict[str, Any]:
    entrant = line.entrant
    if entrant.item is not None:
        result = render_decision(next(decided), entrant.item, offset_unit="codepoint")
    else:
        result = render_error(entrant.id, entrant.error or ItemError("invalid_item", "there is no item"))
    row = result.model_dump(mode="json")
    return {**row, "line": line.number} if row["status"] == "error" else row


def _count(decisions: Iterable[Decision], tally: Counter[str]) -> None:
    for decision in decisions:
        tally.update(f"action:{region.action.value}" for region in decision.decisions)
        tally["reviews"] += sum(region.review_id is not None for region in decision.decisions)


def _line(found: Record | RecordFailure, regions: Sequence[str]) -> _Line:
    if isinstance(found, RecordFailure):
        return _Line(found.line, Entrant(None, None, ItemError("invalid_record", found.reason)))
    return _Line(found.line, parse_item(_request(found, regions)))


def _request(row: Mapping[str, Any], regions: Sequence[str]) -> dict[str, Any]:
    """Return a row as one entry of a request's `items`; what is wrong with it stays for `parse_item` to say."""
    request = {name: _nested(row[name]) for name in _ASIDE if row.get(name) is not None}
    fields = _nested(row.get("fields"))
    if fields is None:
        fields = {name: row[name] for name in FIELDS if row.get(name) is not None}
    named = row.get("regions") or list(regions)
    if isinstance(named, str):
        named = _nested(named) if named.startswith("[") else [code.strip() for code in named.split(",")]
    identifier = row.get("id")
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        identifier = str(identifier)
    return {**request, "id": identifier, "fields": fields, "regions": named}


def _nested(value: object) -> object:
    """Return the value, or what it spells where a CSV cell holds JSON."""
    if isinstance(value, str) and value.startswith(("{", "[")):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
