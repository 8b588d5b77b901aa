"""CSV: cells that cannot run as formulas, and bad rows that cost only themselves."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from retrieval_shared.errors import RecordError
from retrieval_shared.formats.csv import csv_safe, read_csv, write_csv

DANGEROUS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\rx",
    "\nx",
    '=HYPERLINK("http://x","y")',
    " =1",
    "\N{NO-BREAK SPACE}=1",
    "＝1",
    "'=1",
    "''-1",
    "=",
]
HARMLESS = ["", "a", "1", "a=b", "'quoted'", "'", "(1)", "🙂", "https://x", "١", "{}", " text"]


@pytest.mark.parametrize("text", DANGEROUS)
def test_formula_gets_an_apostrophe(text: str) -> None:
    assert csv_safe(text) == f"'{text}"


@pytest.mark.parametrize("text", HARMLESS)
def test_other_text_is_left_alone(text: str) -> None:
    assert csv_safe(text) == text


def test_other_values_are_their_json() -> None:
    assert [csv_safe(value) for value in (None, -1, -0.5, True, ["=1"], {"ü": None})] == [
        "",
        "-1",
        "-0.5",
        "true",
        '["=1"]',
        '{"ü": null}',
    ]


def test_dangerous_texts_come_back_and_no_cell_begins_like_a_formula(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write_csv(path, [{"=name": text, "b": "x"} for text in DANGEROUS], columns=["=name", "b"], compression="")
    assert [found.values for found in read_csv(path)] == [{"=name": text, "b": "x"} for text in DANGEROUS]
    with path.open(newline="", encoding="utf-8") as file:
        assert not [cell for row in csv.reader(file) for cell in row if cell.strip()[0] in "=+-@＝"]


def _reasons(path: Path) -> list[tuple[int, object]]:
    return [
        (item.line, str(item.values) if isinstance(item.values, ValueError) else item.values) for item in read_csv(path)
    ]


def test_bad_rows_cost_only_themselves(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(
        b'id,text\r\n1,good\r\n2\r\n3,a,b\r\n4,"\xff"\r\n\r\n5,"two\r\nlines"\r\n'
        b'6,5" pipe\r\n7,"x"y\r\n8,"open\r\n9,"last"\r\n'
    )
    assert _reasons(path) == [
        (2, {"id": "1", "text": "good"}),
        (3, "1 cells, the header has 2"),
        (4, "3 cells, the header has 2"),
        (5, "not valid UTF-8"),
        (7, {"id": "5", "text": "two\r\nlines"}),
        (9, {"id": "6", "text": '5" pipe'}),
        (10, "not CSV: ',' expected after '\"'"),
        (11, "not CSV: ',' expected after '\"'"),
        (12, {"id": "9", "text": "last"}),
    ]


def test_quote_left_open_to_the_end_costs_its_line(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('id,text\n1,"open\n2,b\n3,c\n')
    assert _reasons(path) == [
        (2, "not CSV: a quote is not closed"),
        (3, {"id": "2", "text": "b"}),
        (4, {"id": "3", "text": "c"}),
    ]


def test_cell_beyond_the_limit_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"id,text\n1,{'x' * 200_000}\n2,b\n")
    assert _reasons(path) == [(2, "not CSV: field larger than field limit (131072)"), (3, {"id": "2", "text": "b"})]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiter_is_that_of_the_header(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f'\ufeffid{delimiter}text\n1{delimiter}"a,b;c"\n', encoding="utf-8")
    assert _reasons(path) == [(2, {"id": "1", "text": "a,b;c"})]


@pytest.mark.parametrize("header", [b"id,id", b"id,", b"id,\xff", b'"id'])
def test_unusable_header_stops_the_file(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(header + b"\n1,2\n")
    with pytest.raises(RecordError, match=r"x\.csv, line 1"):
        list(read_csv(path))


def test_blank_cell_is_none(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("id,text\n1,\n")
    assert _reasons(path) == [(2, {"id": "1", "text": None})]
