"""The export: the same columns in every format, safe cells, and a file that can be filled in and taken back."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from moderation.review.export import COLUMNS, export_reviews
from moderation.review.queue import ImportReport, ReviewQueue
from moderation.review.store import Store, review_id
from retrieval_shared.records import read_records, write_records

AT = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)
ROOT = Path(__file__).parents[3]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(f"sqlite:///{tmp_path / 'db' / 'wardline.db'}")) as opened:
        yield opened


def review(item_id: str, *, priority: float = 1.0) -> dict[str, Any]:
    return {
        "id": review_id(item_id=item_id, policy="p@1", region="DE"),
        "item_id": item_id,
        "policy": "p@1",
        "region": "DE",
        "state": "pending",
        "priority": priority,
        "priority_reason": "drugs: severity 4 x closeness 0.75",
        "entries": [{"policy": "drugs", "action": "escalate"}, {"policy": "hate", "action": "limit"}],
        "reasons": ["why"],
        "probabilities": {"drugs": 0.7},
        "language": "de",
        "degraded": False,
        "text_sha256": "ab" * 32,
        "text": {"title": "=1+1 ü"},
        "created_at": AT,
    }


@pytest.fixture
def filled(store: Store) -> Store:
    store.append([], [review("=cmd|' /C calc'!A0", priority=2.0), review("ad-2")])
    verdict = {
        "review_id": review("ad-2")["id"],
        "action": "reject",
        "reviewer": "@ann",
        "note": "-1\nno",
        "labels": {"drugs": 1},
    }
    assert ReviewQueue(store, clock=lambda: AT).import_verdicts([verdict]).added == 1
    return store


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "parquet"])
def test_rows_hold_review_and_verdict(filled: Store, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"reviews.{suffix}"
    assert export_reviews(filled, path) == 2
    pending, decided = read_records(path)
    assert list(pending) == list(COLUMNS)
    assert (pending["item_id"], pending["state"], pending["action"]) == ("=cmd|' /C calc'!A0", "pending", "escalate")
    assert (pending["heads"], pending["text"], pending["verdict_action"]) == (["drugs"], {"title": "=1+1 ü"}, None)
    assert (decided["state"], decided["action"], decided["verdict_labels"]) == ("decided", "reject", {"drugs": 1})
    assert (decided["verdict_reviewer"], decided["verdict_note"]) == ("@ann", "-1\nno")
    assert decided["verdict_at"] == "2026-11-21T08:30:00+00:00"


def test_no_csv_cell_runs_as_a_formula(filled: Store, tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    export_reviews(filled, path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["item_id"] for row in rows] == ["'=cmd|' /C calc'!A0", "ad-2"]
    assert (rows[1]["verdict_reviewer"], rows[1]["verdict_note"]) == ("'@ann", "'-1\nno")
    assert not [cell for row in rows for cell in row.values() if cell[:1] in tuple("=+-@\t\r")]
    assert json.loads(rows[0]["text"]) == {"title": "=1+1 ü"}


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_empty_queue_is_a_file_of_no_rows(store: Store, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"reviews.{suffix}"
    assert export_reviews(store, path) == 0
    assert list(read_records(path)) == []
    if suffix == "csv":
        assert path.read_bytes().decode() == ",".join(COLUMNS) + "\r\n"


def test_state_and_format_are_chosen(filled: Store, tmp_path: Path) -> None:
    assert export_reviews(filled, tmp_path / "out.txt", format="csv", state="decided") == 1
    with pytest.raises(ValueError, match="state: found 'open'"):
        export_reviews(filled, tmp_path / "new.csv", state="open")
    with pytest.raises(ValueError, match="allowed"):
        export_reviews(filled, tmp_path / "new.xlsx")
    assert not list(tmp_path.glob("new*"))


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_export_comes_back_unchanged_and_can_be_filled_in(filled: Store, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"reviews.{suffix}"
    export_reviews(filled, path)
    queue = ReviewQueue(filled, clock=lambda: AT)
    assert queue.import_file(path) == ImportReport(unchanged=1, undecided=1)
    rows = [dict(row) for row in read_records(path)]
    rows[0] |= {"verdict_action": "approve", "verdict_reviewer": "bob"}
    write_records(path, rows)
    assert queue.import_file(path) == ImportReport(added=1, unchanged=1)
    assert [filed.review.final_action for filed in filled.reviews()] == ["approve", "reject"]


def test_documentation_names_every_column() -> None:
    text = (ROOT / "docs" / "reviews.md").read_text(encoding="utf-8")
    assert not [name for name in COLUMNS if f"`{name}`" not in text]


def test_documented_verdict_is_one_that_can_be_taken(filled: Store) -> None:
    text = (ROOT / "docs" / "reviews.md").read_text(encoding="utf-8")
    example = json.loads(text.split("```json\n")[1].split("```")[0])
    example |= {"review_id": review("ad-2")["id"], "labels": {"drugs": 1}}
    assert ReviewQueue(filled, clock=lambda: AT).import_verdicts([example]).failures == ()
