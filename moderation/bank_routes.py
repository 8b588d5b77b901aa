"""The HTTP routes of the bank of known-bad items."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request

from moderation.auth import ApiKey, Scope
from moderation.openapi import bank
from moderation.openapi.bank import Entry
from moderation.problem import Problem
from moderation.request import caller_of, read_json

if TYPE_CHECKING:
    from moderation.api import ModerationApi
    from moderation.bank_api import BankApi

Api = Callable[[], "ModerationApi"]


def bank_router(current: Api) -> APIRouter:
    """The routes over the API that `current` returns at each request."""
    router = APIRouter(prefix="/v1/bank", tags=["Bank"])

    def key(request: Request) -> ApiKey:
        return current().keys.authorise(caller_of(request), Scope.REVIEW)

    @router.get("", **bank.LIST.get())
    async def listing(request: Request) -> dict[str, Any]:
        """Lists the items in the bank, without their texts, which are not kept."""
        key(request)
        return await asyncio.to_thread(_bank(current).listing)

    @router.post("", status_code=201, **bank.ADD.post())
    async def add(request: Request) -> dict[str, Any]:
        """Adds an item known to be bad: what is the same or nearly so is found from now on, by every worker."""
        sender = key(request)
        wanted = await read_json(request)
        return await asyncio.to_thread(_bank(current).add, wanted, by=sender.name)

    @router.delete("/{entry}", **bank.REMOVE.delete())
    async def remove(request: Request, entry: Entry) -> dict[str, Any]:
        """Takes an item out of the bank."""
        sender = key(request)
        return await asyncio.to_thread(_bank(current).remove, entry, by=sender.name)

    return router


def _bank(current: Api) -> BankApi:
    found = current().bank
    if found is None:
        raise Problem("not_found", "this service has no bank")
    return found
