"""What stands between a request and the routes: who asks, how often, and whether it asked before."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from starlette.types import Scope

from moderation.auth import ApiKey
from moderation.compat.errors import refusal
from moderation.cors import cors_middleware
from moderation.database import Database
from moderation.idempotency import IdempotencyLayer
from moderation.idempotency_purge import PurgeLayer
from moderation.idempotency_store import IdempotencyStore
from moderation.problem import Problem
from moderation.rate_limit import RateLimit
from moderation.rate_limiter import RateLimiter, RateLimitLayer
from moderation.request import RequestId, caller_of, google_key

if TYPE_CHECKING:
    from moderation.api import ModerationApi


@dataclass(frozen=True)
class Guards:
    """What the layers keep in the database, so that all workers count as one."""

    idempotency: IdempotencyStore
    limiter: RateLimiter
    limit: RateLimit | None
    """Of every API key without one of its own; None: no limit."""

    @classmethod
    def over(cls, database: Database, limit: RateLimit | None) -> Guards:
        """The guards of a database; what has expired meanwhile is removed."""
        idempotency = IdempotencyStore(database)
        idempotency.purge_when_due()
        return cls(idempotency, RateLimiter(database), limit)


def add_layers(app: FastAPI, current: Callable[[], ModerationApi]) -> None:
    """Puts the layers before the routes: outermost CORS, then the request's id, its rate, its key, and the purge."""

    def guards() -> Guards:
        found = current().guards
        if found is None:
            raise RuntimeError("this API was made without guards")
        return found

    def identify(scope: Scope) -> ApiKey | None:
        """The caller's key; None where there is none, and the route says why."""
        request = Request(scope)
        try:
            return current().keys.identify(caller_of(request, key=google_key(request)))
        except Problem:
            return None

    def limit_of(key: ApiKey) -> RateLimit | None:
        found = current().guards
        return None if found is None else key.rate_limit or found.limit

    def kept() -> IdempotencyStore | None:
        found = current().guards
        return None if found is None else found.idempotency

    app.add_middleware(PurgeLayer, store=kept)
    app.add_middleware(IdempotencyLayer, store=lambda: guards().idempotency, identify=identify, refuse=refusal)
    app.add_middleware(
        RateLimitLayer, limiter=lambda: guards().limiter, limit_of=limit_of, identify=identify, refuse=refusal
    )
    app.add_middleware(RequestId)
    if (cors := cors_middleware(os.environ)) is not None:
        kind, options = cors
        app.add_middleware(kind, **options)
