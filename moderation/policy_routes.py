"""The HTTP routes of policies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request

from moderation.auth import ApiKey, Scope
from moderation.openapi import policies
from moderation.openapi.policies import Name, Reference
from moderation.policy_document import policy_schema
from moderation.request import caller_of, read_document, read_json

if TYPE_CHECKING:
    from moderation.api import ModerationApi

Api = Callable[[], "ModerationApi"]


def policy_router(current: Api) -> APIRouter:
    """The routes over the API that `current` returns at each request."""
    router = APIRouter(prefix="/v1/policies", tags=["Policies"])
    _add_reading(router, current)
    _add_changing(router, current)
    return router


def _key(current: Api, request: Request, scope: Scope) -> ApiKey:
    return current().keys.authorise(caller_of(request), scope)


def _add_reading(router: APIRouter, current: Api) -> None:
    @router.get("", **policies.LIST.get())
    async def listing(request: Request) -> dict[str, Any]:
        """Lists the versions of all policies, the one in force marked, and what the thresholds were fitted on."""
        _key(current, request, Scope.MODERATE)
        return await asyncio.to_thread(current().policies.listing)

    @router.get("/schema", **policies.SCHEMA.get())
    async def schema(request: Request) -> dict[str, Any]:
        """The JSON Schema of a policy document."""
        _key(current, request, Scope.MODERATE)
        return policy_schema()

    @router.post(":validate", **policies.VALIDATE.post())
    async def validate(request: Request) -> dict[str, Any]:
        """Says whether a document could be published here, and if not, which line is wrong and why."""
        _key(current, request, Scope.MODERATE)
        text = await read_document(request)
        return await asyncio.to_thread(current().policies.validate, text)

    @router.post(":diff", **policies.DIFF.post())
    async def diff(request: Request) -> dict[str, Any]:
        """Says what changes between two policies, by region and head."""
        _key(current, request, Scope.MODERATE)
        wanted = await read_json(request)
        return await asyncio.to_thread(current().policies.diff, wanted)

    @router.get("/{ref}", **policies.SHOW.get())
    async def policy(request: Request, ref: Reference) -> dict[str, Any]:
        """Shows one policy in full."""
        _key(current, request, Scope.MODERATE)
        return await asyncio.to_thread(current().policies.show, ref)


def _add_changing(router: APIRouter, current: Api) -> None:
    @router.post("", status_code=201, **policies.ADD.post())
    async def add(request: Request) -> dict[str, Any]:
        """Adds a version, YAML or JSON; it decides nothing before it is published."""
        sender = _key(current, request, Scope.ADMIN)
        text = await read_document(request)
        return await asyncio.to_thread(current().policies.add, text, by=sender.name)

    @router.post(":backtest", **policies.BACKTEST.post())
    async def backtest(request: Request) -> dict[str, Any]:
        """Decides stored decisions again under another policy or other thresholds; nothing is changed."""
        _key(current, request, Scope.ADMIN)
        wanted = await read_json(request)
        return await asyncio.to_thread(current().policies.backtest, wanted)

    @router.post("/{ref}:publish", **policies.PUBLISH.post())
    async def publish(request: Request, ref: Reference) -> dict[str, Any]:
        """Puts a version in force."""
        sender = _key(current, request, Scope.ADMIN)
        return await asyncio.to_thread(current().policies.publish, ref, by=sender.name)

    @router.post("/{name}:rollback", **policies.ROLLBACK.post())
    async def rollback(request: Request, name: Name) -> dict[str, Any]:
        """Puts the version in force that was before the present one."""
        sender = _key(current, request, Scope.ADMIN)
        return await asyncio.to_thread(current().policies.rollback, name, by=sender.name)
