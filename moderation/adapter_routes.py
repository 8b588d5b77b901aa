"""The HTTP routes of adapters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request

from moderation.auth import ApiKey, Scope
from moderation.openapi import adapters
from moderation.request import caller_of

if TYPE_CHECKING:
    from moderation.api import ModerationApi

Api = Callable[[], "ModerationApi"]


def adapter_router(current: Api) -> APIRouter:
    """The routes over the API that `current` returns at each request."""
    router = APIRouter(prefix="/v1/adapters", tags=["Adapters"])

    def key(request: Request, scope: Scope) -> ApiKey:
        return current().keys.authorise(caller_of(request), scope)

    @router.get("", **adapters.LIST.get())
    async def listing(request: Request) -> dict[str, Any]:
        """Lists the adapters that decide now, by slot, and what lies in the folders and is refused."""
        key(request, Scope.MODERATE)
        return await asyncio.to_thread(current().adapters.listing)

    @router.post(":reload", **adapters.RELOAD.post())
    async def reload(request: Request) -> dict[str, Any]:
        """Looks at the bundle and the added adapters now, loads what is new, and has every other worker look as well.

        Workers follow their folders by themselves; this waits until one has, and tells what came of it. What cannot be
        used is refused and listed, and what was loaded before serves on.
        """
        sender = key(request, Scope.ADMIN)
        return await asyncio.to_thread(current().adapters.reload, by=sender.name)

    return router
