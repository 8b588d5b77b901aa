"""Parquet: typed columns, nested values, files of others."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from retrieval_shared.errors import RecordError
from retrieval_shared.formats.parquet import read_parquet, write_parquet

COLUMNS = {"text": str, "n": int, "p": float, "ok": bool, "nested": object}


def test_columns_have_their_types_even_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_parquet(path, [], columns=COLUMNS)
    assert [str(kind) for kind in parquet.read_schema(path).types] == ["string", "int64", "double", "bool", "string"]


def test_more_rows_than_one_batch_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    rows = [{"text": str(i), "n": i, "p": i / 2, "ok": i % 2 == 0, "nested": [i]} for i in range(2_500)]
    assert write_parquet(path, rows, columns=COLUMNS) == 2_500
    found = list(read_parquet(path))
    assert [item.values for item in found] == rows
    assert found[-1].line == 2_500


@pytest.mark.parametrize(("column", "value"), [("n", "x"), ("n", 2**70), ("text", 5), ("ok", "yes")])
def test_value_of_another_type_names_the_column(tmp_path: Path, column: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"column '{column}'"):
        write_parquet(tmp_path / "x.parquet", [{column: value}], columns=COLUMNS)


def test_nested_columns_of_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    parquet.write_table(pa.table({"fields": [{"title": "a"}], "regions": [["DE", "US"]]}), path)
    assert [item.values for item in read_parquet(path)] == [{"fields": {"title": "a"}, "regions": ["DE", "US"]}]


def test_invalid_utf8_costs_its_row(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    texts = pa.array([b"good", b"\xff\xfe", b"too"]).view(pa.string())
    parquet.write_table(pa.table({"text": texts}), path)
    good, bad, too = read_parquet(path)
    assert (good.values, too.values) == ({"text": "good"}, {"text": "too"})
    assert isinstance(bad.values, ValueError)
    assert (bad.line, str(bad.values)) == (2, "not valid UTF-8")


@pytest.mark.parametrize("content", [b"", b"no parquet"])
def test_other_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=r"x\.parquet: damaged after row 0"):
        list(read_parquet(path))


def test_column_named_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    parquet.write_table(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), path)
    with pytest.raises(RecordError, match="same name"):
        list(read_parquet(path))
