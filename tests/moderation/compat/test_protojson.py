"""Bodies as Google reads them: spellings, types and the faults with their places."""

from __future__ import annotations

import json

import pytest

from moderation.compat.protojson import Message, MessageError, read_message, shown

FIELDS = ("text", "doNotStore", "size", "tags", "child", "children", "byName")


def read(value: object) -> Message:
    return read_message(json.dumps(value).encode(), FIELDS)


def fault(sent: bytes) -> MessageError:
    with pytest.raises(MessageError) as caught:
        read_message(sent, FIELDS)
    return caught.value


def test_absent_and_null_are_the_default() -> None:
    for message in (read({}), read(dict.fromkeys(FIELDS))):
        assert message.string("text") == ""
        assert message.flag("doNotStore") is False
        assert message.number("size") is None
        assert message.strings("tags") == ()
        assert message.message("child", FIELDS) is None
        assert message.messages("children", FIELDS) == ()
        assert message.mapping("byName", FIELDS) == {}


@pytest.mark.parametrize("name", ["doNotStore", "do_not_store"])
@pytest.mark.parametrize(("value", "expected"), [(True, True), (False, False), ("true", True), ("FALSE", False)])
def test_booleans_in_both_spellings(name: str, value: object, expected: bool) -> None:
    assert read({name: value}).flag("doNotStore") is expected


@pytest.mark.parametrize(("value", "expected"), [(1, 1.0), (0.5, 0.5), ("0.5", 0.5), ("-1e2", -100.0)])
def test_numbers(value: object, expected: float) -> None:
    assert read({"size": value}).number("size") == expected


@pytest.mark.parametrize("value", [True, "x", "nan", "inf", [], {}, "", 10**400])
def test_what_is_no_number(value: object) -> None:
    with pytest.raises(MessageError, match="Invalid value at 'size': expected a (finite )?number."):
        read({"size": value}).number("size")


def test_a_string_alone_is_a_list_of_one() -> None:
    assert read({"tags": "en"}).strings("tags") == ("en",)
    assert read({"tags": ["en", "de"]}).strings("tags") == ("en", "de")


def test_places_are_in_snake_case() -> None:
    message = read({"byName": {"A": {"children": [{}, {"doNotStore": 1}]}}})
    inner = message.mapping("byName", FIELDS)["A"].messages("children", FIELDS)[1]
    with pytest.raises(MessageError) as caught:
        inner.flag("doNotStore")
    assert caught.value.field == "by_name[A].children[1].do_not_store"


def test_a_name_of_a_map_is_not_a_field() -> None:
    assert set(read({"byName": {"any name": {}}}).mapping("byName", FIELDS)) == {"any name"}


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"", "Invalid JSON payload received. Expecting value"),
        (b"[]", "Invalid JSON payload received. Expected an object."),
        (b'{"text": "\xff"}', "Invalid JSON payload received. Byte 10 is not UTF-8."),
        ("{}".encode("utf-16"), "Invalid JSON payload received. Byte 0 is not UTF-8."),
        (b'{text: "a", text: "b"}', "Invalid JSON payload received. Expecting property name"),
        (b'{"size": NaN}', "Invalid JSON payload received. NaN is not a JSON number."),
        (b'{"text": "a", "text": "b"}', "Invalid JSON payload received. An object has the same key twice."),
        (b'{"doNotStore": true, "do_not_store": false}', 'Invalid JSON payload received. "doNotStore" is there twice'),
        (b'{"child":' * 100_000, "Invalid JSON payload received. It is nested too deeply."),
        (b'{"foo": 1}', 'Invalid JSON payload received. Unknown name "foo": Cannot find field.'),
        (b'{"Text": 1}', 'Invalid JSON payload received. Unknown name "Text": Cannot find field.'),
    ],
)
def test_bodies_that_are_no_message(sent: bytes, message: str) -> None:
    assert fault(sent).message.startswith(message)
    assert fault(sent).field is None


def test_a_bare_name_and_a_last_comma_are_read() -> None:
    message = read_message(b'{text: "a, b: {c:1,}", tags: ["x", "y", ], child: {size: 1, }, }', FIELDS)
    assert message.string("text") == "a, b: {c:1,}"
    assert message.strings("tags") == ("x", "y")
    child = message.message("child", FIELDS)
    assert child is not None
    assert child.number("size") == 1.0


def test_a_body_with_a_byte_order_mark_is_read() -> None:
    assert read_message(b'\xef\xbb\xbf{"text": "a"}', FIELDS).string("text") == "a"


@pytest.mark.parametrize("sent", [b"{'text': 1}", b"{text: }", b"{,,}", b'{text "a"}', b'{"text": "a', b'{a"b": 1}'])
def test_other_looseness_is_refused(sent: bytes) -> None:
    assert fault(sent).message.startswith("Invalid JSON payload received. ")


def test_a_long_body_is_read_strictly() -> None:
    filler = b'"' + b"x" * (64 * 1024) + b'"'
    assert len(read_message(b'{"text": ' + filler + b"}", FIELDS).string("text")) == 64 * 1024
    assert fault(b"{text: " + filler + b"}").message.startswith("Invalid JSON payload received. ")


def test_what_a_message_repeats_is_short_and_can_be_sent() -> None:
    assert len(shown("x" * 1000)) == 100
    assert shown("a\ud800") == "a\N{REPLACEMENT CHARACTER}"
    fault(json.dumps({"\ud800": 1}).encode()).message.encode()
