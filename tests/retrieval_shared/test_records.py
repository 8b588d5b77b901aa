"""Records through their door: round trips in every format, bad records reported in place, files whole or not at all."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_shared.errors import RecordError
from retrieval_shared.records import RecordFailure, read_records, scan_records, write_records

ROWS = [
    {"id": "a", "title": "Größe 日本 🙂", "body": None, "n": 3, "share": 0.25, "ok": True, "tags": ["x", {"y": 1}]},
    {
        "id": "b",
        "title": '=cmd|"x"!A1',
        "body": 'line\r\nbreak, "quoted"',
        "n": -7,
        "share": 1.0,
        "ok": False,
        "tags": [],
    },
]
FORMATS = ("jsonl", "jsonl.gz", "jsonl.xz", "ndjson", "parquet")


@pytest.mark.parametrize("suffix", FORMATS)
def test_rows_come_back_as_they_went(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    assert write_records(path, ROWS) == 2
    assert list(read_records(path)) == ROWS


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "csv.xz"])
def test_csv_brings_texts_back_and_nested_values_as_json(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    write_records(path, ROWS)
    first, second = read_records(path)
    assert first == {**ROWS[0], "n": "3", "share": "0.25", "ok": "true", "tags": '["x", {"y": 1}]'}
    assert (second["title"], second["body"], second["n"]) == (ROWS[1]["title"], ROWS[1]["body"], "-7")


@settings(deadline=None, max_examples=60)
@given(text=st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=30))
def test_every_text_survives_csv_and_parquet(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("any")
    for suffix in ("csv", "parquet", "jsonl"):
        write_records(folder / f"x.{suffix}", [{"id": "1", "text": text}])
        [row] = read_records(folder / f"x.{suffix}")
        assert row == {"id": "1", "text": (text or None) if suffix == "csv" else text}


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_no_rows_make_a_file_that_reads_as_none(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    assert write_records(path, [], columns={"id": str, "tags": object}) == 0
    assert list(read_records(path)) == []


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_empty_file_has_no_records(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    path.write_bytes(b"")
    assert list(read_records(path)) == []


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_columns_are_all_keys_in_order_of_appearance(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    write_records(path, [{"a": None, "b": 1}, {"b": 2.5, "c": "late"}])
    assert [list(row) for row in read_records(path)] == [["a", "b", "c"]] * 2


def test_parquet_types_are_those_of_all_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    rows: list[dict[str, Any]] = [{"mixed": 1, "number": 1, "big": 2**70}, {"mixed": "x", "number": 0.5, "big": None}]
    write_records(path, rows)
    assert list(read_records(path)) == [{"mixed": 1, "number": 1.0, "big": 2**70}, rows[1]]


def test_values_become_plain(tmp_path: Path) -> None:
    class Colour(StrEnum):
        RED = "red"

    @dataclass(frozen=True)
    class Point:
        x: int

    row = {
        "enum": Colour.RED,
        "numpy": np.float32(0.5),
        "time": datetime(2026, 11, 21, 8, 30, tzinfo=UTC),
        "set": frozenset({"b", "a"}),
        "point": (Point(1),),
    }
    write_records(tmp_path / "rows.jsonl", [row])
    assert list(read_records(tmp_path / "rows.jsonl")) == [
        {"enum": "red", "numpy": 0.5, "time": "2026-11-21T08:30:00+00:00", "set": ["a", "b"], "point": [{"x": 1}]}
    ]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"deep": [float("nan")]}, b"bytes", object()])
def test_value_without_json_is_refused_and_nothing_is_written(tmp_path: Path, suffix: str, value: object) -> None:
    path = tmp_path / f"rows.{suffix}"
    with pytest.raises(ValueError, match="row 2, score"):
        write_records(path, [{"score": 1}, {"score": value}])
    assert list(tmp_path.iterdir()) == []


def test_unknown_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'extra', allowed id"):
        write_records(tmp_path / "rows.csv", [{"extra": 1}], columns={"id": str})


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_file_stays_as_it_was_when_the_rows_fail(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    path.write_bytes(b"before")

    def rows() -> Iterator[dict[str, str]]:
        yield {"id": "a"}
        raise KeyError("lost")

    with pytest.raises(KeyError):
        write_records(path, rows())
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_link_is_followed_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "real.jsonl")
    write_records(tmp_path / "link.jsonl", [{"id": 1}])
    assert (tmp_path / "link.jsonl").is_symlink()
    assert json.loads((tmp_path / "real.jsonl").read_text()) == {"id": 1}


def test_folder_is_made_and_a_folder_is_not_replaced(tmp_path: Path) -> None:
    write_records(tmp_path / "new" / "rows.jsonl", [])
    (tmp_path / "rows.csv").mkdir()
    with pytest.raises(ValueError, match="is not a file"):
        write_records(tmp_path / "rows.csv", [])


@pytest.mark.parametrize("name", ["rows.txt", "rows", "rows.parquet.gz", "rows.gz", ".jsonl.bak"])
def test_unknown_format_names_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"allowed \.jsonl"):
        read_records(tmp_path / name)
    with pytest.raises(ValueError, match=r"allowed \.jsonl"):
        write_records(tmp_path / name, [])


def test_named_format_outranks_the_suffix(tmp_path: Path) -> None:
    write_records(tmp_path / "rows.txt", [{"id": "a"}], format="csv")
    assert list(read_records(tmp_path / "rows.txt", format="csv")) == [{"id": "a"}]
    with pytest.raises(ValueError, match="format: found 'xml'"):
        read_records(tmp_path / "rows.txt", format="xml")


def test_missing_file_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.jsonl"):
        read_records(tmp_path / "absent.jsonl")


def test_bad_record_is_reported_before_the_next_good_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 1}\nnonsense\n\n{"id": 2}\n')
    found: list[object] = []
    for row in read_records(path, on_error=found.append):
        found.append(row)  # noqa: PERF402 - in the order of arrival
    assert found == [{"id": 1}, RecordFailure(2, "not JSON: Expecting value at character 1", "nonsense"), {"id": 2}]
    assert [record.line for record in scan_records(path)] == [1, 2, 4]


def test_bad_record_is_an_exception_without_on_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 1}\n[]\n')
    rows = read_records(path)
    assert next(rows) == {"id": 1}
    with pytest.raises(RecordError, match=r"rows\.jsonl, line 2: found a JSON list"):
        next(rows)


def test_failure_shows_the_beginning_of_its_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xff" * 5_000 + b"\n")
    [failure] = scan_records(path)
    assert isinstance(failure, RecordFailure)
    assert failure.text == "\N{REPLACEMENT CHARACTER}" * 1_000


def test_reading_does_not_wait_for_the_end(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"id": 1}\n' * 100_000)[:-200])
    rows = read_records(path)
    assert next(rows) == {"id": 1}
    rows.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("suffix", ["gz", "xz"])
def test_cut_off_archive_is_an_error_not_an_end(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows.jsonl.{suffix}"
    whole = b"".join(b'{"id": %d}\n' % number for number in range(2_000))
    path.write_bytes((gzip if suffix == "gz" else lzma).compress(whole)[:-20])
    with pytest.raises(RecordError, match="damaged after line"):
        list(read_records(path, on_error=lambda _: None))


def test_parquet_nan_is_a_bad_record(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"id": ["a", "b"], "p": [0.5, float("nan")]}), tmp_path / "rows.parquet")
    good, bad = scan_records(tmp_path / "rows.parquet")
    assert good == {"id": "a", "p": 0.5}
    assert isinstance(bad, RecordFailure)
    assert (bad.line, bad.reason) == (2, "p: nan is no finite number")
