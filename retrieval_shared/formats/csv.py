"""CSV: one text per cell, nested values as JSON; no cell runs as a formula; a bad record costs only its own lines."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from retrieval_shared.errors import RecordError
from retrieval_shared.formats.lines import Found, open_bytes, read_lines

_MAX_RECORD_LINES = 1_000  # a quote that is open for longer is taken for a mistake
_OPEN_QUOTE = "unexpected end of data"  # the csv module's words in strict mode
# What a spreadsheet takes for a formula, full-width forms included; spaces in front do not protect.
_FORMULA = re.compile("'*(?:[\t\r\n]|\\s*[=+\\-@\uff1d\uff0b\uff0d\uff20])")


def csv_safe(value: object) -> str:
    """Return a value as cell text that no spreadsheet runs as a formula.

    A text that begins like a formula (=, +, -, @, tab, CR, LF, also after spaces) gets an apostrophe in front, which
    `read_csv` takes away again. Numbers stay numbers; None is empty; nested values are JSON.

    >>> csv_safe("=1+1"), csv_safe(-1), csv_safe({"a": 1})
    ("'=1+1", '-1', '{"a": 1}')
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return f"'{value}" if _FORMULA.match(value) else value


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], *, columns: Iterable[str], compression: str) -> int:
    """Write a header and rows of JSON values, and return how many rows."""
    names = list(columns)
    count = 0
    with (
        open_bytes(path, "wb", compression=compression) as file,
        io.TextIOWrapper(file, encoding="utf-8", newline="") as text,
    ):
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow([csv_safe(name) for name in names])
        for row in rows:
            writer.writerow([csv_safe(row.get(name)) for name in names])
            count += 1
    return count


def read_csv(path: Path) -> Iterator[Found]:
    """Yield the record, or what is wrong, of each row; an empty cell is None. Cells are split at `,`, `;` or tab.

    Raises:
        RecordError: the header cannot be read, or leaves a column unnamed, or names one twice.
    """
    ahead = _Lookahead(path)
    names: list[str] = []
    delimiter = ","
    while first := ahead.view(1):
        number, text = first[0]
        if not names:
            delimiter = max(",;\t", key=text.count)  # spreadsheets of many countries write ;
        used = 1
        try:
            used, cells = _cells(ahead, delimiter)
            if not names:
                names = _header(cells)
            elif cells:
                yield Found(number, _row(names, cells))
        except ValueError as error:
            if not names:
                raise RecordError(f"{path.name}, line {number}: {error}") from error
            used = 1
            yield Found(number, error, text.encode("utf-8", "surrogateescape"))
        ahead.drop(used)


class _Lookahead:
    """Lines with a view ahead: of a record that turns out bad only the first line is used up."""

    def __init__(self, path: Path) -> None:
        self._lines = read_lines(path)
        self._seen: deque[tuple[int, str]] = deque()

    def view(self, count: int) -> list[tuple[int, str]]:
        """Return the next `count` lines, fewer at the end; bytes that are not UTF-8 become lone surrogates."""
        while len(self._seen) < count and (line := next(self._lines, None)) is not None:
            self._seen.append((line[0], line[1].decode("utf-8", "surrogateescape")))
        return list(islice(self._seen, count))

    def drop(self, count: int) -> None:
        """Use up the next `count` lines."""
        for _ in range(count):
            self._seen.popleft()


def _cells(ahead: _Lookahead, delimiter: str) -> tuple[int, list[str]]:
    """Return how many lines the next record has, and its cells; raise `ValueError` with the reason if it is bad."""
    for count in range(1, _MAX_RECORD_LINES + 1):
        view = ahead.view(count)
        if len(view) < count:
            break
        if count > 1 and '"' not in view[-1][1]:
            continue  # cannot close the quote
        try:
            return count, next(csv.reader([text for _, text in view], delimiter=delimiter, strict=True))
        except csv.Error as error:
            if str(error) != _OPEN_QUOTE:
                raise ValueError(f"not CSV: {error}") from error
    raise ValueError("not CSV: a quote is not closed")


def _header(cells: list[str]) -> list[str]:
    names = [_restored(cell).strip() for cell in cells]
    _check_unicode(names)
    if "" in names or len(set(names)) < len(names):
        raise ValueError(f"the header must name every column once, found {names}")
    return names


def _row(names: list[str], cells: list[str]) -> dict[str, str | None]:
    if len(cells) != len(names):
        raise ValueError(f"{len(cells)} cells, the header has {len(names)}")
    _check_unicode(cells)
    return {name: _restored(cell) or None for name, cell in zip(names, cells, strict=True)}


def _check_unicode(cells: list[str]) -> None:
    try:
        "".join(cells).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("not valid UTF-8") from error


def _restored(cell: str) -> str:
    """Return the text that `csv_safe` made this cell of."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
