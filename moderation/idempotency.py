"""The `Idempotency-Key` header: a POST that is sent again is done once, and answered as it was the first time.

After draft-ietf-httpapi-idempotency-key-header-07. Where this goes beyond it or stays behind:

- A key may stand in quotes, as the draft has it, or bare, as most clients send it: both name the same key. Its
  characters are the visible ones of ASCII, no space, and nothing follows it.
- An answer that says nothing about the request itself is not kept, so that the request can be tried again under its
  key: 401 and 403 (the rights of the API key may change), 429 and 5xx.
- The request's fingerprint is the SHA-256 of its query and its body.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import structlog
from anyio import CancelScope, get_cancelled_exc_class, to_thread
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moderation.auth import ApiKey
from moderation.idempotency_store import LEASE, Answer, Attempt, IdempotencyStore
from moderation.problem import Problem
from moderation.request import read_bytes

log = structlog.get_logger()

KEY_HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotency-Replayed"
KEPT_HEADERS = frozenset({"content-type", "content-language", "content-disposition", "location", "etag", "link"})
"""What describes the answer itself. The layers around this one add theirs to a replay as to any answer."""
MAX_KEY_CHARACTERS = 255
# A string of RFC 8941, section 3.3.3, without spaces; or the like without its quotes.
_QUOTED = re.compile(r'"((?:[!#-\[\]-~]|\\["\\])*)"')
_BARE = re.compile(r"[!#-~][!-~]*")


class IdempotencyLayer:
    """ASGI layer: answers a POST that is sent again under its `Idempotency-Key` without doing it again."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        store: Callable[[], IdempotencyStore],
        identify: Callable[[Scope], ApiKey | None],
        refuse: Callable[[Problem, Scope], Response],
    ) -> None:
        """Stand before `app`, inside the layers that limit rates and give requests their ids.

        Args:
            app: what answers.
            store: returns the store; asked at each request with a key, since it may not exist yet when this is made.
            identify: returns whose request this is; None leaves the request to `app`, which will refuse it.
            refuse: renders a refusal, with the problem's headers, in the dialect of the request's path.
        """
        self._app = app
        self._store = store
        self._identify = identify
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on what is not a known caller's POST with a key."""
        keys = Headers(scope=scope).getlist(KEY_HEADER) if scope["type"] == "http" and scope["method"] == "POST" else []
        caller = self._identify(scope) if keys else None
        if caller is None:
            await self._app(scope, receive, send)
            return
        store = self._store()
        try:
            key = parse_key(keys)
            body = await read_bytes(Request(scope, receive))
            query = scope.get("query_string", b"")
            attempt = Attempt.of(caller=caller.name, path=scope["path"], key=key, query=query, body=body)
            answer = await _begin(store, attempt)
        except Problem as problem:
            await self._refuse(problem, scope)(scope, receive, send)
            return
        if answer is not None:
            await _replay(answer)(scope, receive, send)
            return
        run = _Run(store, attempt, send)
        try:
            await self._app(scope, _again(body, receive), run.send)
        finally:
            if not run.ended:  # it failed, or its client went away before there was an answer
                await _release(store, attempt)


def parse_key(values: Sequence[str]) -> str:
    """Return the key that the `Idempotency-Key` headers of a request hold: 1 to 255 visible ASCII characters.

    Raises:
        Problem: `invalid_idempotency_key`.
    """
    allowed = f"allowed is one header of 1 to {MAX_KEY_CHARACTERS} visible ASCII characters, in quotes or bare"
    if len(values) != 1:
        raise Problem("invalid_idempotency_key", f"{KEY_HEADER} stands {len(values)} times; {allowed}")
    [value] = values
    quoted = _QUOTED.fullmatch(value)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else value
    if not (quoted or _BARE.fullmatch(value)) or not 1 <= len(key) <= MAX_KEY_CHARACTERS:
        found = f"{value[:64]!a}, {len(value)} characters"
        raise Problem("invalid_idempotency_key", f"{KEY_HEADER} is {found}; {allowed}")
    return key


class _Run:
    """One running request: hands its answer on part by part, and has it kept before the last part leaves.

    Before, since a client that has its answer may send its request again at once.
    """

    def __init__(self, store: IdempotencyStore, attempt: Attempt, send: Send) -> None:
        self.ended = False
        """Whether the lease needs no giving back."""
        self._store = store
        self._attempt = attempt
        self._send = send
        self._start: Message = {}
        self._body = bytearray()

    async def send(self, message: Message) -> None:
        """Stands in for the server's `send`."""
        if message["type"] == "http.response.start":
            self._start = message
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._end()
        await self._send(message)

    async def _end(self) -> None:
        status = self._start["status"]
        if status >= 500 or status in {401, 403, 429}:
            await _release(self._store, self._attempt)
        else:
            headers = Headers(raw=list(self._start.get("headers", ()))).items()
            kept = tuple((name, value) for name, value in headers if name in KEPT_HEADERS)
            await _keep(self._store, self._attempt, Answer(status, kept, bytes(self._body)))
        self.ended = True


async def _begin(store: IdempotencyStore, attempt: Attempt) -> Answer | None:
    try:
        return await to_thread.run_sync(store.begin, attempt)
    except SQLAlchemyError as error:
        # The key asks for a promise that cannot be given now.
        log.error("the idempotency keys cannot be written", reason=str(error))
        raise Problem("queue_unavailable", "nothing was done; send it again", {"Retry-After": "5"}) from error
    except get_cancelled_exc_class():
        await _release(store, attempt)  # the thread may have got the lease all the same
        raise


async def _keep(store: IdempotencyStore, attempt: Attempt, answer: Answer) -> None:
    try:
        kept = await to_thread.run_sync(store.keep, attempt, answer)
    except SQLAlchemyError as error:
        # What was done is done: its answer is worth more to the client than an error.
        log.error("the answer under an idempotency key cannot be kept", reason=str(error))
        return
    if not kept:
        log.warning("a request under an idempotency key took longer than its lease", lease_s=LEASE.total_seconds())


async def _release(store: IdempotencyStore, attempt: Attempt) -> None:
    # Shielded, since a request that is cancelled has to give its key back, too.
    with CancelScope(shield=True):
        try:
            await to_thread.run_sync(store.release, attempt)
        except SQLAlchemyError as error:
            log.error("an idempotency key stays blocked until its lease ends", reason=str(error))


def _replay(answer: Answer) -> Response:
    response = Response(answer.body, answer.status)
    for name, value in (*answer.headers, (REPLAYED_HEADER, "true")):
        response.headers.append(name, value)
    return response


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body as one message, then what the server still has to say."""
    first = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def again() -> Message:
        message = next(first, None)
        return await receive() if message is None else message

    return again
