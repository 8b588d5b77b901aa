"""What comes with an HTTP request: its id, its body, and who sends it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moderation import schema, strict_json
from moderation.auth import Caller
from moderation.problem import REQUEST_ID_HEADER, Problem
from moderation.strict_json import JsonError

JSON_TYPE = "application/json"
DOCUMENT_TYPES = ("application/yaml", "application/x-yaml", "text/yaml", JSON_TYPE)
"""Media types of a policy, or of rules."""
GOOGLE_KEY_HEADER = "X-Goog-Api-Key"
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


class RequestId:
    """ASGI layer: gives each request an id, the caller's own where it sent a usable one, and echoes it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on and adds the header to the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = Request(scope).headers.get(REQUEST_ID_HEADER, "")
        request_id = sent if _REQUEST_ID.fullmatch(sent) else f"req_{uuid.uuid4().hex}"
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        await self._app(scope, receive, send_with_id)


async def read_body(request: Request, *, media_types: Collection[str] = (JSON_TYPE,)) -> bytes:
    """The request's body, never more of it in memory than is allowed.

    Raises:
        Problem: it is not declared as UTF-8 of one of these types, or too large, whatever its Content-Length says.
    """
    _check_media_type(request, media_types)
    return await read_bytes(request)


async def read_document(request: Request) -> str:
    """The request's body as the text of a document, YAML or JSON.

    Raises:
        Problem: as `read_body`, or it is not UTF-8.
    """
    try:
        return (await read_body(request, media_types=DOCUMENT_TYPES)).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Problem("invalid_encoding", f"byte {error.start} is not UTF-8") from error


async def read_json(request: Request) -> object:
    """The request's body, read as JSON.

    Raises:
        Problem: as `read_body`, or it is none.
    """
    try:
        return strict_json.read(await read_body(request))
    except JsonError as error:
        raise Problem("invalid_json", f"the body cannot be read: {error}") from error


async def read_bytes(request: Request) -> bytes:
    """The request's body, whatever its type, never more of it in memory than is allowed.

    Raises:
        Problem: it is too large, whatever its Content-Length says, or ends before its end.
    """
    too_large = Problem("body_too_large", f"the body may have {schema.MAX_BODY_BYTES} bytes")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > schema.MAX_BODY_BYTES:
        raise too_large
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > schema.MAX_BODY_BYTES:
                raise too_large
    except ClientDisconnect as error:
        raise Problem("invalid_request", "the connection ended before the body") from error
    return bytes(body)


def _check_media_type(request: Request, allowed: Collection[str]) -> None:
    media_type, _, parameters = request.headers.get("content-type", "").partition(";")
    if media_type.strip().lower() not in allowed:
        raise Problem("unsupported_media_type", f"send the header `Content-Type: {' or '.join(allowed)}`")
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in {"utf-8", "utf8"}:
            raise Problem("unsupported_media_type", "the charset must be utf-8")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem("unsupported_media_type", "the body must not be compressed")


def google_key(request: Request) -> str | None:
    """The API key as clients of Google's APIs send it: `?key=`, or the header `X-Goog-Api-Key`."""
    return request.query_params.get("key") or request.headers.get(GOOGLE_KEY_HEADER)


def caller_of(request: Request, *, key: str | None = None) -> Caller:
    """What a request says about who sends it; `key` is one that it brings in another way than in its header."""
    return Caller(
        authorization=request.headers.get("authorization") or (f"Bearer {key}" if key else None),
        peer=request.client.host if request.client else None,
        host=request.headers.get("host"),
        headers=frozenset(request.headers.keys()),
        origin=request.headers.get("origin"),
        fetch_site=request.headers.get("sec-fetch-site"),
    )
