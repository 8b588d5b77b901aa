"""Forgets the answers under idempotency keys in time, also where no request with a key comes any more."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from anyio import to_thread
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Receive, Scope, Send

from moderation.idempotency_store import IdempotencyStore

log = structlog.get_logger()


class PurgeLayer:
    """ASGI layer: deletes what has expired now and then, after a request is answered; the one that notices does it."""

    def __init__(self, app: ASGIApp, *, store: Callable[[], IdempotencyStore | None]) -> None:
        """Stand before `app`; `store` is asked at each request, since it may not exist yet when this is made."""
        self._app = app
        self._store = store

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes everything on."""
        await self._app(scope, receive, send)
        store = self._store() if scope["type"] == "http" else None
        if store is None or not store.purge_is_due:
            return
        try:
            await to_thread.run_sync(store.purge_when_due)
        except SQLAlchemyError as error:
            # The request is answered; what is left is deleted the next time.
            log.error("expired idempotency keys cannot be deleted", reason=str(error))
