"""JSON Lines are read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrieval_shared.formats.jsonl import json_line, parse_object, read_jsonl

BAD = {
    b"{": "not JSON",
    b"[1]": "found a JSON list",
    b'"text"': "found a JSON str",
    b"null": "found a JSON NoneType",
    b'{"a": 1, "a": 2}': "key 'a' stands twice",
    b'{"a": {"b": 1, "b": 1}}': "key 'b' stands twice",
    b'{"p": NaN}': "NaN is no finite number",
    b'{"p": -Infinity}': "-Infinity is no finite number",
    b'{"p": 1e999}': "1e999 is no finite number",
    b'{"a": "\xff"}': "not valid UTF-8 at byte 8",
    b'{"a": "\\ud800"}': "half of a surrogate pair",
    b'{"a": 1} {"b": 2}': "not JSON: Extra data at character 10",
    b'{"a":' * 100_000: "nested too deeply",
    b'{"a": ' + b"9" * 5_000 + b"}": "4300 digits",
}


@pytest.mark.parametrize(("line", "reason"), BAD.items(), ids=list(BAD.values()))
def test_bad_line_says_why(line: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_object(line)


def test_bad_lines_cost_no_good_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"id": 0}\n' + b"".join(line + b'\r\n{"id": 1}\n' for line in BAD))
    found = list(read_jsonl(path))
    assert [item.values for item in found if isinstance(item.values, dict)] == [{"id": 0}] + [{"id": 1}] * len(BAD)
    assert [item.line for item in found] == list(range(1, 2 * len(BAD) + 2))


def test_surrogate_pair_is_one_character() -> None:
    assert parse_object(b'{"a": "\\ud83d\\ude42"}') == {"a": "🙂"}


def test_line_holds_no_nan_and_no_half_character() -> None:
    assert json_line({"a": "ü"}) == '{"a": "ü"}\n'.encode()
    for value in (float("nan"), "\ud800"):
        with pytest.raises(ValueError, match=r"JSON compliant|surrogates not allowed"):
            json_line({"a": value})
