"""Lines of plain, gzip and xz files; a line without end is cut, so that no file can fill the memory."""

from __future__ import annotations

import gzip
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from retrieval_shared.errors import RecordError

MAX_LINE_BYTES = 16 * 2**20
COMPRESSIONS = (".gz", ".xz")


@dataclass(frozen=True)
class Found:
    """What stands at one place of a file: a record, or the reason why there is none."""

    line: int
    """The line where it starts, from 1; in Parquet the row, from 1."""
    values: dict[str, Any] | ValueError
    """The record, or what is wrong."""
    raw: bytes = b""
    """How it stands in the file; given where it is wrong."""


def open_bytes(path: Path, mode: str, *, compression: str) -> IO[bytes]:
    """Return the file opened in `rb` or `wb`; `compression` is `.gz`, `.xz` or any other suffix for none."""
    if compression.lower() == ".gz":
        return cast("IO[bytes]", gzip.open(path, mode))
    if compression.lower() == ".xz":
        return cast("IO[bytes]", lzma.open(path, mode))
    return cast("IO[bytes]", path.open(mode))


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the number, from 1, and the bytes of each line; a byte order mark is left out.

    Of a line beyond `MAX_LINE_BYTES` the first `MAX_LINE_BYTES + 1` bytes are yielded.

    Raises:
        RecordError: the compressed data is damaged; the lines before the damage have been yielded.
    """
    number = 0
    try:
        with open_bytes(path, "rb", compression=path.suffix) as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                rest = line
                while len(rest) > MAX_LINE_BYTES and not rest.endswith(b"\n"):
                    rest = file.readline(MAX_LINE_BYTES + 1)
                number += 1
                yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile, zlib.error) as error:
        raise RecordError(f"{path.name}: damaged after line {number}: {error}") from error
