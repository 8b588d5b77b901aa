"""Files of items: every line answered in its place, whatever it holds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from moderation.batch import BatchReport, count_lines, moderate_file
from moderation.decision import Action, Decision, RegionDecision
from moderation.item import Item
from moderation.review.queue import ReviewQueue
from moderation.review.store import Store
from retrieval_shared.errors import RecordError
from retrieval_shared.records import read_records, write_records


class FakeModerator:
    """Rejects an ad that says so, escalates one that asks, approves the rest; remembers what it was given."""

    def __init__(self) -> None:
        self.batches: list[list[Item]] = []

    def moderate(self, items: Sequence[Item]) -> list[Decision]:
        self.batches.append(list(items))
        return [self._decide(item) for item in items]

    def _decide(self, item: Item) -> Decision:
        said = " ".join(item.fields.values())
        action = next((action for action in Action if action.value in said), Action.APPROVE)
        regions = tuple(RegionDecision(code, code, action, (), ("said so",), degraded=False) for code in item.regions)
        return Decision(item.id, "ok", None, None, regions, {}, None, {"policy_set": "fake@1"}, text_sha256="0" * 64)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(f"sqlite:///{tmp_path / 'db' / 'wardline.db'}")) as opened:
        yield opened


def write_lines(path: Path, *lines: dict[str, Any] | str) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def run(
    source: Path, *, target: str = "out.jsonl", regions: Sequence[str] = ("DE",), **more: Any
) -> list[dict[str, Any]]:
    out = source.parent / target
    moderate_file(FakeModerator(), source, out, regions=regions, **more)
    return [dict(row) for row in read_records(out)]


def test_every_line_is_answered_in_its_place(tmp_path: Path) -> None:
    source = write_lines(
        tmp_path / "in.jsonl",
        {"id": "a", "title": "reject", "body": "me", "labels": {"drugs": 1}},
        "{nonsense",
        "",
        {"id": "b", "fields": {"text": "escalate"}, "regions": ["US", "IN-GJ"]},
        {"id": "c", "text": "   "},
        {"id": "d", "text": "x", "regions": ["XX"]},
        {"text": "no id"},
        {"id": 7, "text": "fine"},
    )
    rows = run(source, batch_size=3)
    assert [(row["id"], row["status"], row.get("line")) for row in rows] == [
        ("a", "ok", None),
        (None, "error", 2),
        ("b", "ok", None),
        ("c", "error", 5),
        ("d", "error", 6),
        (None, "error", 7),
        ("7", "ok", None),
    ]
    assert [row["error"]["code"] for row in rows if row["status"] == "error"] == [
        "invalid_record",
        "empty_text",
        "unknown_region",
        "invalid_id",
    ]
    assert [[region["region"], region["action"]] for region in rows[2]["decisions"]] == [
        ["US", "escalate"],
        ["IN-GJ", "escalate"],
    ]


def test_report_counts_lines_failures_and_actions(tmp_path: Path, store: Store) -> None:
    source = write_lines(
        tmp_path / "in.jsonl",
        {"id": "a", "text": "reject"},
        {"id": "b", "text": "escalate"},
        "x",
        {"id": "b", "text": "escalate"},
    )
    done: list[int] = []
    report = moderate_file(
        FakeModerator(),
        source,
        tmp_path / "out.jsonl",
        regions=["DE", "US"],
        queue=ReviewQueue(store),
        batch_size=2,
        progress=done.append,
    )
    assert report == BatchReport(lines=4, failed=1, actions={"reject": 2, "escalate": 4}, reviews=4)
    assert done == [2, 4]
    assert len(list(store.decision_rows())) == 6
    assert len(list(store.reviews())) == 2  # the same ad twice is asked about once per region


def test_written_review_ids_are_those_of_the_queue(tmp_path: Path, store: Store) -> None:
    source = write_lines(tmp_path / "in.jsonl", {"id": "a", "text": "escalate"})
    queue = ReviewQueue(store)
    first, second = run(source, queue=queue), run(source, queue=queue)
    [filed] = store.reviews()
    assert first[0]["decisions"][0]["review_id"] == second[0]["decisions"][0]["review_id"] == filed.review.id


@pytest.mark.parametrize("keep_text", [False, True])
def test_text_is_kept_only_when_asked(tmp_path: Path, store: Store, keep_text: bool) -> None:
    source = write_lines(tmp_path / "in.jsonl", {"id": "a", "text": "escalate an unmistakable sentence"})
    run(source, queue=ReviewQueue(store), keep_text=keep_text)
    files = [file.read_bytes() for file in (tmp_path / "db").iterdir()]
    assert any(b"unmistakable" in content for content in files) is keep_text


def test_batches_are_as_large_as_told(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", *({"id": str(i), "text": "x"} for i in range(7)))
    moderator = FakeModerator()
    moderate_file(moderator, source, tmp_path / "out.jsonl", regions=["DE"], batch_size=3)
    assert [len(batch) for batch in moderator.batches] == [3, 3, 1]
    with pytest.raises(ValueError, match="batch_size: found 0"):
        moderate_file(moderator, source, tmp_path / "out.jsonl", regions=["DE"], batch_size=0)


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.xz", "csv", "parquet"])
@pytest.mark.parametrize("out", ["jsonl.gz", "csv", "parquet"])
def test_every_format_in_and_out(tmp_path: Path, suffix: str, out: str) -> None:
    source = tmp_path / f"in.{suffix}"
    write_records(
        source,
        [
            {"id": "a", "title": "reject", "body": "=1+1", "regions": "DE, US", "context": {"min_age": 21}},
            {"id": "b", "title": "ok", "body": None, "regions": None, "context": None},
        ],
    )
    rows = run(source, target=f"out.{out}")
    decisions = [json.loads(row["decisions"]) if out == "csv" else row["decisions"] for row in rows]
    assert [row["id"] for row in rows] == ["a", "b"]
    assert [[region["region"] for region in row] for row in decisions] == [["DE", "US"], ["DE"]]


def test_context_and_fields_reach_the_item_from_csv(tmp_path: Path) -> None:
    source = write_lines(
        tmp_path / "in.csv",
        "id,fields,context,regions,language",
        'a,"{""title"": ""x""}","{""min_age"": 21, ""certificates"": [""gambling:DE""]}","[""DE""]",de',
    )
    moderator = FakeModerator()
    moderate_file(moderator, source, tmp_path / "out.jsonl", regions=[])
    [[item]] = moderator.batches
    assert (item.fields, item.regions, item.language) == ({"title": "x"}, ("DE",), "de")
    assert (item.context.min_age, item.context.certificates) == (21, frozenset({"gambling:DE"}))


def test_item_without_any_region_is_an_error(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", {"id": "a", "text": "x"})
    [row] = run(source, regions=())
    assert (row["status"], row["error"]["code"]) == ("error", "invalid_regions")


@pytest.mark.parametrize(
    "line",
    [
        {"id": "a", "text": 5},
        {"id": "a", "fields": {"title": "x", "headline": "y"}},
        {"id": "a", "fields": "x"},
        {"id": "a", "text": "x" * 8_001},
        {"id": "a", "text": "x", "regions": 5},
        {"id": "a", "text": "x", "regions": "DE,,"},
        {"id": "a", "text": "x", "context": {"min_age": "old"}},
        {"id": True, "text": "x"},
        {"id": "", "text": "x"},
        {},
    ],
)
def test_unusable_item_fails_alone(tmp_path: Path, line: dict[str, Any]) -> None:
    source = write_lines(tmp_path / "in.jsonl", line, {"id": "b", "text": "x"})
    bad, good = run(source)
    assert (bad["status"], bad["line"], good["status"]) == ("error", 1, "ok")


def test_emoji_and_right_to_left_text_pass(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", {"id": "🙂", "text": "مرحبا 🙂 שלום"})
    [row] = run(source)
    assert (row["id"], row["status"]) == ("🙂", "ok")


def test_empty_file_makes_an_empty_file(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl")
    moderator = FakeModerator()
    assert moderate_file(moderator, source, tmp_path / "out.jsonl", regions=["DE"]) == BatchReport(lines=0, failed=0)
    assert (tmp_path / "out.jsonl").read_bytes() == b""
    assert moderator.batches == []


def test_target_appears_only_when_all_is_done(tmp_path: Path) -> None:
    class Failing(FakeModerator):
        def moderate(self, items: Sequence[Item]) -> list[Decision]:
            if self.batches:
                raise RuntimeError("out of memory")
            return super().moderate(items)

    source = write_lines(tmp_path / "in.jsonl", *({"id": str(i), "text": "x"} for i in range(4)))
    with pytest.raises(RuntimeError):
        moderate_file(Failing(), source, tmp_path / "out.jsonl", regions=["DE"], batch_size=2)
    assert list(tmp_path.iterdir()) == [source]


def test_source_is_not_overwritten(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", {"id": "a", "text": "x"})
    with pytest.raises(ValueError, match="which is the source"):
        moderate_file(FakeModerator(), source, tmp_path / "." / "in.jsonl", regions=["DE"])


def test_unreadable_source_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "in.parquet").write_bytes(b"no parquet")
    with pytest.raises(RecordError):
        run(tmp_path / "in.parquet")
    with pytest.raises(FileNotFoundError):
        run(tmp_path / "absent.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_lines_are_counted_as_they_are_written(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", {"id": "a", "text": "x"}, "", "{bad", {"id": "b", "text": "x"})
    assert count_lines(source) == len(run(source)) == 3
