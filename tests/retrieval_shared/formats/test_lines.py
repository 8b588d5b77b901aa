"""Lines are numbered and never longer than the memory allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrieval_shared.formats import lines


def test_lines_are_numbered_and_the_mark_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\xef\xbb\xbfa\n\nb")
    assert list(lines.read_lines(path)) == [(1, b"a\n"), (2, b"\n"), (3, b"b")]


def test_long_line_is_cut_and_the_next_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 10)
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"a" * 100 + b"\nshort\n" + b"b" * 11 + b"\nend")
    assert list(lines.read_lines(path)) == [(1, b"a" * 11), (2, b"short\n"), (3, b"b" * 11), (4, b"end")]
