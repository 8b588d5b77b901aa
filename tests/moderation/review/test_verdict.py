"""A row of a verdict file: what is taken, and what each mistake is told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from moderation.review.verdict import ReadVerdict, read_verdict
from moderation.tables import ReviewRow

NOW = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)
GOOD: dict[str, Any] = {"review_id": "rev_1", "action": "reject", "reviewer": "ann"}


def read(row: dict[str, Any], *, scored: bool = True) -> ReadVerdict | None:
    review = ReviewRow(id="rev_1", probabilities={"drugs": 0.5, "hate": 0.1} if scored else {})
    return read_verdict(row, find=lambda review_id: review if review_id == "rev_1" else None, now=NOW)


def test_least_row_is_taken_at_the_time_of_entry() -> None:
    found = read(GOOD)
    assert found is not None
    assert (found.row.action, found.row.reviewer, found.row.labels, found.row.note) == ("reject", "ann", {}, None)
    assert (found.row.created_at, found.timed) == (NOW, False)


@pytest.mark.parametrize("name", ["at", "created_at"])
@pytest.mark.parametrize("told", ["2026-11-20T10:00:00+02:00", "2026-11-20T08:00:00", "2026-11-20T08:00:00Z"])
def test_told_time_counts_utc_where_no_zone_is_named(name: str, told: str) -> None:
    found = read({**GOOD, name: told})
    assert found is not None
    assert (found.row.created_at, found.timed) == (datetime(2026, 11, 20, 8, tzinfo=UTC), True)


def test_columns_of_an_export_are_taken_and_an_empty_row_is_no_verdict() -> None:
    exported = {"review_id": "rev_1", "action": "escalate", "priority": 1.0, "created_at": "2026-01-01"}
    empty = {f"verdict_{name}": None for name in ("action", "labels", "reviewer", "note", "at")}
    assert read(exported | empty) is None
    found = read(exported | empty | {"verdict_action": " Approve ", "verdict_reviewer": "ann", "verdict_labels": "{}"})
    assert found is not None
    assert (found.row.action, found.timed) == ("approve", False)


def test_labels_are_json_or_a_mapping() -> None:
    for labels in ({"drugs": 1, "hate": False}, '{"hate": 0, "drugs": true}'):
        found = read({**GOOD, "labels": labels})
        assert found is not None
        assert found.row.labels == {"drugs": 1, "hate": 0}


def test_content_is_the_same_however_it_is_written() -> None:
    one, two = (
        read({**GOOD, "labels": {"drugs": 1, "hate": 0}, "note": ""}),
        read({**GOOD, "labels": '{"hate":0,"drugs":1}'}),
    )
    assert one is not None
    assert two is not None
    assert (one.row.id, one.row.content_sha256) == (two.row.id, two.row.content_sha256)
    other = read({**GOOD, "note": "x"})
    assert other is not None
    assert other.row.content_sha256 != one.row.content_sha256


def test_any_head_is_allowed_where_none_was_scored() -> None:
    assert read({**GOOD, "labels": {"scam": 1}}, scored=False) is not None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"review_id": "rev_2"}, "review_id: found 'rev_2', and there is no such review"),
        ({"review_id": None}, "review_id: found None"),
        ({"review_id": 5}, "review_id: found 5"),
        ({"action": None}, "action: found None, allowed approve, limit, reject"),
        ({"action": "escalate"}, "action: found 'escalate'"),
        ({"action": ["reject"]}, "action: found"),
        ({"reviewer": "  "}, "reviewer: is empty"),
        ({"reviewer": "x" * 201}, "reviewer: found 201 characters"),
        ({"note": 5}, "note: found 5"),
        ({"note": "x" * 4_001}, "note: found 4001 characters, allowed a text of at most 4,000"),
        ({"labels": "drugs"}, "labels: found 'drugs', expected JSON"),
        ({"labels": [1]}, "labels: found"),
        ({"labels": {"gamblin": 1}}, "labels: found 'gamblin', allowed drugs, hate"),
        ({"labels": {"drugs": 2}}, "labels.drugs: found 2, allowed 0, 1"),
        ({"labels": {"drugs": None}}, "labels.drugs: found None"),
        ({"at": "yesterday"}, "at: found 'yesterday', expected a time"),
        ({"at": 1700000000}, "at: found 1700000000"),
        ({"at": "2026-11-22"}, "lies in the future"),
        ({"lables": {}}, "column: found 'lables', allowed review_id, action"),
        ({"verdict_lables": {}}, "column: found 'lables'"),
    ],
)
def test_mistake_is_named(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        read(GOOD | change)
    assert reason in str(caught.value)
