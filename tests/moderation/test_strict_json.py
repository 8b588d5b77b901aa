"""JSON read so that no two readers can find different things in it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.strict_json import EncodingError, JsonError, decoded, parsed, read, whole

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_what_json_writes_is_read_back(value: object, escaped: bool) -> None:
    assert read(json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")) == value


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "Expecting value: line 1 column 1 (char 0)"),
        (b'{"a": 1', "Expecting ',' delimiter: line 1 column 8 (char 7)"),
        (b"1 2", "Extra data: line 1 column 3 (char 2)"),
        (b'{"a": 1, "b": 2, "a": 1}', "An object has the same key twice"),
        (b'[{"b": {"a": 1, "\\u0061": 2}}]', "An object has the same key twice"),
        (b"NaN", "NaN is not a JSON number"),
        (b"[Infinity]", "Infinity is not a JSON number"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
        (b"[" * 100_000, "It is nested too deeply"),
        (b"\xef\xbb\xbf{}", "It begins with a byte order mark"),
        ("{}".encode("utf-16-le"), "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
    ],
)
def test_what_is_not_read_has_its_reason(body: bytes, reason: str) -> None:
    with pytest.raises(JsonError) as refused:
        read(body)
    assert str(refused.value) == reason
    assert not isinstance(refused.value, EncodingError)


def test_a_number_of_too_many_digits_is_not_read() -> None:
    with pytest.raises(JsonError, match="4300"):
        parsed("1" * 5_000)


@pytest.mark.parametrize("body", [b'"ab\xff"', b'"ab\xed\xa0\x80"', b'"ab\xc0\x80"'])
def test_another_encoding_says_where(body: bytes) -> None:
    with pytest.raises(EncodingError, match=r"^Byte 3 is not UTF-8$"):
        decoded(body)
    for encoding in ("utf-16", "utf-32"):
        with pytest.raises(EncodingError):
            read("{}".encode(encoding))


def test_half_a_surrogate_pair_is_replaced_in_place_and_a_pair_is_one_character() -> None:
    found = read(rb'"a\ud83db \ud83d\ude00 \ude00"')
    assert isinstance(found, str)
    assert whole(found) == "a\N{REPLACEMENT CHARACTER}b \N{GRINNING FACE} \N{REPLACEMENT CHARACTER}"
    assert whole("ascii") == "ascii"
    assert whole("") == ""
