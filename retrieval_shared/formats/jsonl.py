"""JSON Lines, read strictly: one object per line, no key twice, no NaN, valid UTF-8."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from retrieval_shared.formats.lines import MAX_LINE_BYTES, Found, open_bytes, read_lines


def read_jsonl(path: Path) -> Iterator[Found]:
    """Yield the record, or what is wrong, of each line that is not blank."""
    for number, line in read_lines(path):
        if not line.strip():
            continue
        try:
            yield Found(number, parse_object(line))
        except ValueError as error:
            yield Found(number, error, line)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]], *, compression: str) -> int:
    """Write rows of JSON values, one per line, and return how many."""
    count = 0
    with open_bytes(path, "wb", compression=compression) as file:
        for row in rows:
            file.write(json_line(row))
            count += 1
    return count


def json_line(row: Mapping[str, Any]) -> bytes:
    """Return a row as a line; raise `ValueError` for NaN and for text that is not valid Unicode."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"


def parse_object(line: bytes) -> dict[str, Any]:
    """Return the object in a line; raise `ValueError` with the reason where there is none.

    >>> parse_object(b'{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ValueError: key 'a' stands twice
    """
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"longer than {MAX_LINE_BYTES:,} bytes")
    try:
        found = _DECODER.decode(line.decode("utf-8").strip())
    except UnicodeDecodeError as error:
        raise ValueError(f"not valid UTF-8 at byte {error.start + 1}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at character {error.pos + 1}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError(f"found a JSON {type(found).__name__}, expected an object")
    if b"\\u" in line:
        _check_unicode(found)
    return found


def _check_unicode(found: object) -> None:
    try:
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("holds half of a surrogate pair, which is no character") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # two readers may keep different ones of two equal keys: what was judged would not be what is shown
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_finite, parse_float=_finite)
