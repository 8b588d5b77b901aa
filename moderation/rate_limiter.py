"""Rate limits per API key: buckets in the database, of which each worker takes small shares, and a layer that refuses.

Not every request writes. A worker takes as many tokens at once as it lately used in about a second, at most a tenth of
the limit, and loses what it has not used within a tenth of the window (10 s at most). So in any time of length T all
workers together let through at most n + T * n / w requests, and n / 10 more, however many workers there are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

import structlog
from anyio import to_thread
from sqlalchemy import bindparam, select, update
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moderation.auth import ApiKey
from moderation.database import Database
from moderation.problem import Problem
from moderation.rate_limit import SECOND_NS, Draw, RateLimit, draw
from moderation.rate_limit_tables import UsedRateRow

log = structlog.get_logger()

EXEMPT_PATHS = frozenset({"/livez", "/readyz", "/healthz", "/metrics", "/$discovery/rest"})
SHARE = 10
"""A worker takes at most this part of a limit at once, and keeps it for at most this part of the window."""
MAX_KEPT_NS = 10 * SECOND_NS
AIM_NS = SECOND_NS
"""How long what a worker takes should last it: then a busy caller costs one write per second and worker."""

# Statements are made once: making one takes several times as long as what SQLite then does.
_FIND = select(UsedRateRow.full_at_ns).where(UsedRateRow.caller == bindparam("of")).with_for_update()
_TAKE = update(UsedRateRow).where(UsedRateRow.caller == bindparam("of"))


@dataclass(frozen=True)
class Ruling:
    """Whether a request may pass, and what its caller should know of its limit."""

    allowed: bool
    limit: RateLimit
    remaining: int
    """Requests that would pass now, as far as this worker knows."""
    reset_s: int
    """Seconds until the whole limit is free again; where nothing remains, until one request is."""

    def headers(self) -> dict[str, str]:
        """The headers of draft-ietf-httpapi-ratelimit-headers-06."""
        return {
            "RateLimit-Limit": str(self.limit.requests),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_s),
        }


class RateLimiter:
    """The buckets of one database, and this worker's shares of them.

    A share is all that a worker knows alone: small, and soon over, so that little is lost with a worker.
    """

    def __init__(self, database: Database, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        """Take a database.

        Args:
            database: the one of all workers.
            clock_ns: returns nanoseconds since 1970; the clocks of all workers should agree to a part of the window.
        """
        self._database = database
        self._clock_ns = clock_ns
        self._shares: dict[str, _Share] = {}
        self._guard = Lock()

    def rule_at_once(self, caller: str, limit: RateLimit) -> Ruling | None:
        """Count a request and rule on it without waiting; None, and nothing counted, where that takes the database."""
        share = self._share(caller, limit)
        if not share.lock.acquire(blocking=False):
            return None
        try:
            at_ns = self._clock_ns()
            return share.rule(at_ns) if share.suffices(at_ns) else None
        finally:
            share.lock.release()

    def rule(self, caller: str, limit: RateLimit) -> Ruling:
        """Count a request of `caller` and rule on it, with one write to the database or none."""
        share = self._share(caller, limit)
        with share.lock:
            at_ns = self._clock_ns()
            if not share.suffices(at_ns):
                share.renew(self._draw(caller, limit, wanted=share.wanted(at_ns), at_ns=at_ns), at_ns)
            return share.rule(at_ns)

    def _share(self, caller: str, limit: RateLimit) -> _Share:
        with self._guard:
            share = self._shares.get(caller)
            if share is None or share.limit != limit:
                share = self._shares[caller] = _Share(limit)
            return share

    def _draw(self, caller: str, limit: RateLimit, *, wanted: int, at_ns: int) -> Draw:
        with self._database.writer.begin() as connection:
            full_at_ns = connection.scalar(_FIND, {"of": caller})
            if full_at_ns is None:
                new = self._database.insert("rate_limits").values(caller=caller, full_at_ns=at_ns)
                connection.execute(new.on_conflict_do_nothing())
                full_at_ns = connection.execute(
                    _FIND, {"of": caller}
                ).scalar_one()  # another worker's, where that was first
            drawn = draw(limit, full_at_ns, wanted=wanted, at_ns=at_ns)
            if drawn.full_at_ns != full_at_ns:
                connection.execute(_TAKE, {"of": caller, "full_at_ns": drawn.full_at_ns})
        return drawn


class _Share:
    """Tokens of one bucket that a worker has taken and may still use."""

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self.lock = Lock()
        self._kept_ns = min(limit.window_ns // SHARE, MAX_KEPT_NS)
        self._aim_ns = min(self._kept_ns // 2, AIM_NS)
        self._tokens = 0
        self._size = 1
        self._taken_at_ns = 0
        self._full_at_ns = 0

    def suffices(self, at_ns: int) -> bool:
        """Whether a request can be ruled on without the database: there is a token, or surely none to be had."""
        if self._tokens:
            return 0 <= at_ns - self._taken_at_ns < self._kept_ns
        # Others can only take tokens, so the bucket has none before it would have one without them. Longer than for
        # one token nobody waits, unless a clock was put back.
        return 0 < self.limit.first_token_at_ns(self._full_at_ns) - at_ns <= self.limit.interval_ns

    def wanted(self, at_ns: int) -> int:
        """How many tokens to take: twice as many where the last were used up too soon, half as many where they lasted.

        One, where they lasted so long that some may have been lost: a slow caller so loses none, and one that comes in
        bursts no more than it uses.
        """
        age_ns = at_ns - self._taken_at_ns
        if not 0 <= age_ns < self._kept_ns:
            return 1
        if age_ns < self._aim_ns:
            return min(2 * self._size, max(1, self.limit.requests // SHARE))
        return max(1, self._size // 2)

    def renew(self, drawn: Draw, at_ns: int) -> None:
        """Hold what was drawn in place of what was left."""
        self._tokens = drawn.tokens
        self._size = max(1, drawn.tokens)
        self._taken_at_ns = at_ns
        self._full_at_ns = drawn.full_at_ns

    def rule(self, at_ns: int) -> Ruling:
        """Use a token, or refuse where there is none."""
        allowed = self._tokens > 0
        self._tokens -= allowed
        remaining = self._tokens + self.limit.tokens(self._full_at_ns, at_ns=at_ns)
        reset_at_ns = self._full_at_ns if remaining else self.limit.first_token_at_ns(self._full_at_ns)
        reset_s = -((at_ns - reset_at_ns) // SECOND_NS)
        return Ruling(allowed, self.limit, remaining, max(0, reset_s))


class RateLimitLayer:
    """ASGI layer: refuses what a caller sends beyond its rate, and tells every caller how much of it remains."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        limiter: Callable[[], RateLimiter],
        limit_of: Callable[[ApiKey], RateLimit | None],
        identify: Callable[[Scope], ApiKey | None],
        refuse: Callable[[Problem, Scope], Response],
    ) -> None:
        """Stand before `app`, inside the layer that gives requests their ids, outside the one that answers them again.

        Args:
            app: what answers.
            limiter: returns the limiter; asked at each request with a limit, since it may not exist yet when this is
                made.
            limit_of: returns the limit of a key; None lets all its requests pass.
            identify: returns whose request this is; None leaves the request to `app`, which will refuse it.
            refuse: renders a refusal, with the problem's headers, in the dialect of the request's path.
        """
        self._app = app
        self._limiter = limiter
        self._limit_of = limit_of
        self._identify = identify
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on what has no limit, or keeps to it."""
        limited = scope["type"] == "http" and scope["path"] not in EXEMPT_PATHS
        key = self._identify(scope) if limited else None
        limit = self._limit_of(key) if key is not None else None
        ruling = await self._ruling(key.name, limit) if key is not None and limit is not None else None
        if ruling is None:
            await self._app(scope, receive, send)
            return
        headers = ruling.headers()

        async def send_with_limit(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        app = self._app if ruling.allowed else self._refuse(_problem(ruling), scope)
        await app(scope, receive, send_with_limit)

    async def _ruling(self, caller: str, limit: RateLimit) -> Ruling | None:
        limiter = self._limiter()
        try:
            return limiter.rule_at_once(caller, limit) or await to_thread.run_sync(limiter.rule, caller, limit)
        except SQLAlchemyError as error:
            # A limit protects the service from load; it is no reason to refuse what the service could do.
            log.error("a request passes uncounted: rates cannot be written", reason=str(error))
            return None


def _problem(ruling: Ruling) -> Problem:
    rate = f"{ruling.limit.requests} requests per {ruling.limit.window_s} s"
    detail = f"the API key may send {rate}; the next one passes in {ruling.reset_s} s"
    return Problem("rate_limited", detail, {"Retry-After": str(ruling.reset_s)})
