"""Records of files: JSON Lines, CSV and Parquet, streamed in and out; a bad record is reported and never in the way.

The format follows the suffix: `.jsonl`, `.ndjson` and `.csv`, also with `.gz` or `.xz` behind, and `.parquet`. Files
are UTF-8. CSV has one text per cell and an empty cell is None; Parquet keeps numbers; both keep nested values as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path
from typing import IO, Any

import numpy as np

from retrieval_shared.errors import RecordError
from retrieval_shared.formats.csv import csv_safe, read_csv, write_csv
from retrieval_shared.formats.jsonl import json_line, read_jsonl, write_jsonl
from retrieval_shared.formats.lines import COMPRESSIONS, Found
from retrieval_shared.formats.parquet import read_parquet, write_parquet

__all__ = ["FORMATS", "Record", "RecordFailure", "csv_safe", "read_records", "scan_records", "write_records"]

_READERS: Mapping[str, Callable[[Path], Iterator[Found]]] = {
    "jsonl": read_jsonl,
    "csv": read_csv,
    "parquet": read_parquet,
}
FORMATS = tuple(_READERS)
_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}
_SHOWN_CHARACTERS = 1_000


@dataclass(frozen=True)
class RecordFailure:
    """One record that could not be read."""

    line: int
    """Where it starts, from 1; in Parquet the row, from 1."""
    reason: str
    """What is wrong with it."""
    text: str
    """Its first 1,000 characters."""


class Record(dict[str, Any]):
    """One record as a dictionary that also knows the line (in Parquet: the row) where it starts, from 1."""

    def __init__(self, values: Mapping[str, Any], line: int) -> None:
        """Hold `values` and the line."""
        super().__init__(values)
        self.line = line


def read_records(
    path: Path | str, *, on_error: Callable[[RecordFailure], None] | None = None, format: str | None = None
) -> Iterator[Record]:
    """Return the records of a file in order, read as they are asked for.

    Args:
        path: the file.
        on_error: is given each bad record before the next good one is yielded; None makes the first one an exception.
        format: `jsonl`, `csv` or `parquet`; None goes by the suffix.

    Raises:
        ValueError: the format is unknown.
        FileNotFoundError: there is no such file.
        RecordError: while iterating: a bad record without `on_error`, or a file damaged as a whole.
    """
    return _good(scan_records(path, format=format), Path(path).name, on_error)


def scan_records(path: Path | str, *, format: str | None = None) -> Iterator[Record | RecordFailure]:
    """Return the good and the bad records of a file in order, read as they are asked for; raises as `read_records`."""
    path = Path(path)
    reader = _READERS[_format_of(path, format)]
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    return (_record(found) for found in reader(path))


def write_records(
    path: Path | str,
    rows: Iterable[Mapping[str, Any]],
    *,
    format: str | None = None,
    columns: Mapping[str, type] | None = None,
) -> int:
    """Write rows to a file, all or nothing, and return how many.

    Args:
        path: the file; its folder is made. It appears, or is replaced, only when the last row is written.
        rows: taken one by one; dataclasses, enums, times and numpy scalars become their plain values.
        format: as for `read_records`.
        columns: for CSV and Parquet: name to str, int, float, bool or object (nested), in order. None takes every key
            that occurs, in order of first appearance; the rows are then spooled to disk first.

    Raises:
        ValueError: the format is unknown, a value is NaN, infinite or of a type JSON does not know, or a key is not in
            `columns`.
    """
    path = Path(path)
    kind = _format_of(path, format)
    plain = (_plain_row(row, number) for number, row in enumerate(rows, start=1))
    with _replacing(path) as temporary:
        if kind == "jsonl":
            return write_jsonl(temporary, plain, compression=path.suffix)
        if columns is not None:
            return _write_table(temporary, _only(plain, columns), columns, compression=path.suffix, kind=kind)
        with tempfile.TemporaryFile(dir=temporary.parent) as spool:
            found = _spool(plain, spool)
            spool.seek(0)
            spooled = (json.loads(line) for line in spool)
            return _write_table(temporary, spooled, found, compression=path.suffix, kind=kind)


def _format_of(path: Path, format: str | None) -> str:
    compressed = path.suffix.lower() in COMPRESSIONS
    found = format or _SUFFIXES.get((Path(path.stem) if compressed else path).suffix.lower())
    if found not in FORMATS or (found == "parquet" and compressed):
        what = f"format: found {format!r}" if format else f"path: found {path.name!r}"
        raise ValueError(f"{what}, allowed .jsonl, .ndjson, .csv (these also with .gz or .xz) and .parquet")
    return found


def _good(
    found: Iterable[Record | RecordFailure], name: str, on_error: Callable[[RecordFailure], None] | None
) -> Iterator[Record]:
    for item in found:
        if isinstance(item, Record):
            yield item
        elif on_error is None:
            raise RecordError(f"{name}, line {item.line}: {item.reason}")
        else:
            on_error(item)


def _record(found: Found) -> Record | RecordFailure:
    if isinstance(found.values, ValueError):
        text = found.raw[: 4 * _SHOWN_CHARACTERS].decode("utf-8", "replace").strip()
        return RecordFailure(found.line, str(found.values), text[:_SHOWN_CHARACTERS])
    try:
        return Record({name: _plain(value, name) for name, value in found.values.items()}, found.line)
    except ValueError as error:
        return RecordFailure(found.line, str(error), str(found.values)[:_SHOWN_CHARACTERS])


def _write_table(
    path: Path, rows: Iterable[Mapping[str, Any]], columns: Mapping[str, type], *, compression: str, kind: str
) -> int:
    if kind == "parquet":
        return write_parquet(path, rows, columns=columns)
    return write_csv(path, rows, columns=columns, compression=compression)


def _only(rows: Iterable[dict[str, Any]], columns: Mapping[str, type]) -> Iterator[dict[str, Any]]:
    for row in rows:
        unknown = [name for name in row if name not in columns]
        if unknown:
            raise ValueError(f"rows: found the key {unknown[0]!r}, allowed {', '.join(columns)}")
        yield row


def _spool(rows: Iterable[dict[str, Any]], spool: IO[bytes]) -> dict[str, type]:
    """Write rows to `spool` and return the columns they have."""
    kinds: dict[str, set[type]] = {}
    for row in rows:
        for name, value in row.items():
            kinds.setdefault(name, set()).update(() if value is None else (_kind(value),))
        spool.write(json_line(row))
    return {name: _joint(found) for name, found in kinds.items()}


def _kind(value: object) -> type:
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        return object  # Parquet has no such number: it is kept as JSON
    return type(value) if type(value) in (str, int, float, bool) else object


def _joint(kinds: set[type]) -> type:
    if kinds == {int, float}:
        return float
    return next(iter(kinds or {str})) if len(kinds) < 2 else object


def _plain_row(row: Mapping[str, Any], number: int) -> dict[str, Any]:
    return {str(name): _plain(value, f"row {number}, {name}") for name, value in row.items()}


def _plain(value: Any, where: str) -> Any:  # noqa: ANN401 - any value in, a JSON value out
    """Return `value` in the types of JSON; raise `ValueError` naming `where` for NaN and what JSON does not know."""
    if isinstance(value, Enum | np.generic):
        return _plain(value.value if isinstance(value, Enum) else value.item(), where)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where}: {value} is no finite number")
        return value
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(name): _plain(inner, where) for name, inner in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name), where) for field in dataclasses.fields(value)}
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes | bytearray):
        return [_plain(inner, where) for inner in (value if isinstance(value, Sequence) else sorted(value))]
    raise ValueError(f"{where}: found a {type(value).__name__}, which JSON does not know")


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give a file beside `path` to write to; it takes the place of `path` at the end, or goes after an exception."""
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise ValueError(f"path: {path} is not a file and cannot be replaced")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
