"""What comes with a request: its id, a body that is never read beyond the limit, and who sends it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from moderation.auth import Caller
from moderation.problem import Problem
from moderation.request import RequestId, caller_of, read_body, read_bytes, read_document, read_json
from moderation.schema import MAX_BODY_BYTES

JSON = (b"content-type", b"application/json")


def scope(*headers: tuple[bytes, bytes], kind: str = "http", client: tuple[str, int] | None = None) -> dict[str, Any]:
    return {
        "type": kind,
        "method": "POST",
        "path": "/",
        "query_string": b"",
        "headers": list(headers),
        "client": client,
    }


class Sent:
    """A `receive` that gives messages one by one and counts them."""

    def __init__(self, *messages: Message) -> None:
        self.given = 0
        self._messages = messages

    async def __call__(self) -> Message:
        self.given += 1
        return self._messages[self.given - 1]


def parts(*chunks: bytes) -> Sent:
    """A body in chunks."""
    last = len(chunks) - 1
    return Sent(*({"type": "http.request", "body": each, "more_body": k < last} for k, each in enumerate(chunks)))


def read(sent: Sent, *headers: tuple[bytes, bytes], media_types: Sequence[str] | None = None) -> bytes:
    request = Request(scope(*headers), sent)
    if media_types is None:
        return asyncio.run(read_bytes(request))
    return asyncio.run(read_body(request, media_types=media_types))


def refused(sent: Sent, *headers: tuple[bytes, bytes], media_types: Sequence[str] | None = None) -> Problem:
    with pytest.raises(Problem) as raised:
        read(sent, *headers, media_types=media_types)
    return raised.value


# ---- The id


def answered(*headers: tuple[bytes, bytes], kind: str = "http") -> tuple[dict[str, Any], list[Message]]:
    """What the app found in its scope, and what was sent."""
    found: dict[str, Any] = {}
    sent: list[Message] = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        found.update(scope.get("state", {}))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-request-id", b"of the app")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(RequestId(app)(scope(*headers, kind=kind), parts(b""), send))
    return found, sent


@pytest.mark.parametrize("usable", ["r-1", "!~", "x" * 128])
def test_a_usable_id_is_given_to_the_app_and_echoed(usable: str) -> None:
    """In place of what the app says itself, once."""
    found, sent = answered((b"x-request-id", usable.encode()))
    assert found == {"request_id": usable}
    assert sent[0]["headers"] == [(b"x-request-id", usable.encode())]
    assert sent[1] == {"type": "http.response.body", "body": b"ok"}


@pytest.mark.parametrize("unusable", [None, b"", b"a b", b"x" * 129, b"a\x7f", "é".encode(), b"a\tb"])
def test_another_id_is_replaced_by_one_of_our_own(unusable: bytes | None) -> None:
    headers = () if unusable is None else ((b"x-request-id", unusable),)
    (first, sent), (second, _) = answered(*headers), answered(*headers)
    made = first["request_id"]
    assert (made[:4], len(made), made != second["request_id"]) == ("req_", 36, True)
    assert sent[0]["headers"] == [(b"x-request-id", made.encode())]


def test_what_is_no_http_request_is_passed_on_untouched() -> None:
    found, sent = answered((b"x-request-id", b"r-1"), kind="websocket")
    assert (found, sent[0]["headers"]) == ({}, [(b"x-request-id", b"of the app")])


# ---- The body


def test_a_body_is_read_to_its_end_and_exactly_the_limit_is_allowed() -> None:
    assert read(parts(b"ab", b"", b"c")) == b"abc"
    assert read(parts(b"")) == b""
    exact = b" " * (MAX_BODY_BYTES - 1)
    assert len(read(parts(exact, b"x"), (b"content-length", str(MAX_BODY_BYTES).encode()))) == MAX_BODY_BYTES
    assert refused(parts(exact, b"xy")).code == "body_too_large"


def test_reading_ends_where_the_limit_is_passed() -> None:
    """Whatever the length says, and before it is read where the length says enough."""
    for length in (
        (),
        ((b"content-length", b"1"),),
        ((b"content-length", b"-5"),),
        ((b"content-length", "²".encode()),),
    ):
        sent = parts(b" " * MAX_BODY_BYTES, b"x", b"never asked for")
        assert refused(sent, *length).code == "body_too_large"
        assert sent.given == 2
    for declared in (str(MAX_BODY_BYTES + 1), "9" * 5_000):
        sent = parts(b"x")
        assert refused(sent, (b"content-length", declared.encode())).code == "body_too_large"
        assert sent.given == 0


def test_a_body_that_ends_before_its_end_is_refused() -> None:
    sent = Sent({"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"})
    problem = refused(sent)
    assert (problem.code, problem.detail) == ("invalid_request", "the connection ended before the body")


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-type", b"application/json")],
        [(b"content-type", b"Application/JSON ; charset=UTF-8")],
        [(b"content-type", b'application/json; charset="utf8"')],
        [(b"content-type", b"application/json; version=1")],
        [(b"content-type", b"application/json; version=1; charset=utf-8;")],
        [(b"content-type", b"application/json; charset = utf-8")],
        [(b"content-type", b"text/yaml")],
        [JSON, (b"content-encoding", b"Identity")],
    ],
)
def test_the_allowed_media_types_are_read(headers: list[tuple[bytes, bytes]]) -> None:
    assert read(parts(b"{}"), *headers, media_types=("application/json", "text/yaml")) == b"{}"


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ([], "send the header `Content-Type: application/json or text/yaml`"),
        ([(b"content-type", b"text/plain")], "send the header `Content-Type: application/json or text/yaml`"),
        ([(b"content-type", b"application/jsonx")], "send the header `Content-Type: application/json or text/yaml`"),
        ([(b"content-type", b"application/json; charset=latin-1")], "the charset must be utf-8"),
        ([(b"content-type", b"application/json; Charset=utf-16")], "the charset must be utf-8"),
        ([(b"content-type", b"application/json; version=1; charset=latin-1")], "the charset must be utf-8"),
        ([(b"content-type", b"application/json; charset=utf-8; charset=latin-1")], "the charset must be utf-8"),
        ([(b"content-type", b"application/json; charset =latin-1")], "the charset must be utf-8"),
        ([JSON, (b"content-encoding", b"gzip")], "the body must not be compressed"),
    ],
)
def test_another_media_type_is_refused_unread(headers: list[tuple[bytes, bytes]], detail: str) -> None:
    sent = parts(b"{}")
    problem = refused(sent, *headers, media_types=("application/json", "text/yaml"))
    assert (problem.code, problem.detail, sent.given) == ("unsupported_media_type", detail, 0)


def test_a_document_is_utf_8_of_a_type_that_documents_have() -> None:
    for kind in ("application/json", "application/yaml", "application/x-yaml", "text/yaml"):
        request = Request(scope((b"content-type", kind.encode())), parts("id: é".encode()))
        assert asyncio.run(read_document(request)) == "id: é"
    for kind, content, code in (
        ("text/plain", b"x", "unsupported_media_type"), ("text/yaml", b"a: caf\xe9", "invalid_encoding"),
    ):  # fmt: skip
        with pytest.raises(Problem) as raised:
            asyncio.run(read_document(Request(scope((b"content-type", kind.encode())), parts(content))))
        assert raised.value.code == code
    assert raised.value.detail == "byte 6 is not UTF-8"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"a: 1", "Expecting value"),
        (b"\xff", "Byte 0 is not UTF-8"),
        ("{}".encode("utf-16"), "Byte 0 is not UTF-8"),
        (b"[" * 100_000, "It is nested too deeply"),
        (b'{"after": "a@1", "after": "b@1"}', "An object has the same key twice"),
        (b'{"prevalence": NaN}', "NaN is not a JSON number"),
    ],
)
def test_what_is_no_json_is_refused(content: bytes, reason: str) -> None:
    assert asyncio.run(read_json(Request(scope(JSON), parts(b'{"a": [1, "\\ud83d\\ude00"]}')))) == {
        "a": [1, "\U0001f600"]
    }
    with pytest.raises(Problem) as raised:
        asyncio.run(read_json(Request(scope(JSON), parts(content))))
    assert raised.value.code == "invalid_json"
    assert raised.value.detail.startswith(f"the body cannot be read: {reason}")


# ---- The caller


def test_who_sends_a_request() -> None:
    headers = [(b"host", b"localhost:3000"), (b"authorization", b"Bearer wl_a"), (b"X-Forwarded-For", b"10.0.0.1")]
    lower = [(name.lower(), value) for name, value in headers]  # as every server hands them on
    assert caller_of(Request(scope(*lower, client=("10.0.0.9", 1)))) == Caller(
        authorization="Bearer wl_a",
        peer="10.0.0.9",
        host="localhost:3000",
        headers=frozenset({"host", "authorization", "x-forwarded-for"}),
    )
    assert caller_of(Request(scope())) == Caller(authorization=None, peer=None, host=None, headers=frozenset())


@pytest.mark.parametrize(
    ("header", "key", "authorization"),
    [
        (None, "wl_b", "Bearer wl_b"),
        ("Bearer wl_a", "wl_b", "Bearer wl_a"),  # the header is not overruled by an address that others may have made
        ("Basic x", "wl_b", "Basic x"),
        ("", "wl_b", "Bearer wl_b"),
        (None, "", None),
        (None, None, None),
    ],
)
def test_a_key_in_the_address_stands_in_for_a_missing_header(
    header: str | None, key: str | None, authorization: str | None
) -> None:
    headers = () if header is None else ((b"authorization", header.encode()),)
    assert caller_of(Request(scope(*headers)), key=key).authorization == authorization
