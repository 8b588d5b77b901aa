"""The HTTP routes of policies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request

from moderation.auth import ApiKey, Scope
from moderation.policy_document import policy_schema
from moderation.problem import Problem
from moderation.request import JSON_TYPE, caller_of, read_body

if TYPE_CHECKING:
    from moderation.api import ModerationApi

DOCUMENT_TYPES = ("application/yaml", "application/x-yaml", "text/yaml", JSON_TYPE)
"""Media types of a policy document."""


Api = Callable[[], "ModerationApi"]


def policy_router(current: Api) -> APIRouter:
    """The routes over the API that `current` returns at each request."""
    router = APIRouter(prefix="/v1/policies")
    _add_reading(router, current)
    _add_changing(router, current)
    return router


def _key(current: Api, request: Request, scope: Scope) -> ApiKey:
    return current().keys.authorise(caller_of(request), scope)


def _add_reading(router: APIRouter, current: Api) -> None:
    @router.get("")
    async def policies(request: Request) -> dict[str, Any]:
        """Lists the versions of all policies, the one in force marked, and what the thresholds were fitted on."""
        _key(current, request, Scope.MODERATE)
        return current().policies.listing()

    @router.get("/schema")
    async def schema(request: Request) -> dict[str, Any]:
        """The JSON Schema of a policy document."""
        _key(current, request, Scope.MODERATE)
        return policy_schema()

    @router.post(":validate")
    async def validate(request: Request) -> dict[str, Any]:
        """Says whether a document could be published here, and if not, which line is wrong and why."""
        _key(current, request, Scope.MODERATE)
        text = await _text(request)
        return await asyncio.to_thread(current().policies.validate, text)

    @router.post(":diff")
    async def diff(request: Request) -> dict[str, Any]:
        """Says what changes between two policies, by region and head."""
        _key(current, request, Scope.MODERATE)
        wanted = await _json(request)
        return await asyncio.to_thread(current().policies.diff, wanted)

    @router.get("/{ref}")
    async def policy(request: Request, ref: str) -> dict[str, Any]:
        """Shows one policy in full."""
        _key(current, request, Scope.MODERATE)
        return current().policies.show(ref)


def _add_changing(router: APIRouter, current: Api) -> None:
    @router.post("", status_code=201)
    async def add(request: Request) -> dict[str, Any]:
        """Adds a version, YAML or JSON; it decides nothing before it is published."""
        sender = _key(current, request, Scope.ADMIN)
        text = await _text(request)
        return await asyncio.to_thread(current().policies.add, text, by=sender.name)

    @router.post(":backtest")
    async def backtest(request: Request) -> dict[str, Any]:
        """Decides stored decisions again under another policy or other thresholds; nothing is changed."""
        _key(current, request, Scope.ADMIN)
        wanted = await _json(request)
        return await asyncio.to_thread(current().policies.backtest, wanted)

    @router.post("/{ref}:publish")
    async def publish(request: Request, ref: str) -> dict[str, Any]:
        """Puts a version in force."""
        sender = _key(current, request, Scope.ADMIN)
        return await asyncio.to_thread(current().policies.publish, ref, by=sender.name)

    @router.post("/{name}:rollback")
    async def rollback(request: Request, name: str) -> dict[str, Any]:
        """Puts the version in force that was before the present one."""
        sender = _key(current, request, Scope.ADMIN)
        return await asyncio.to_thread(current().policies.rollback, name, by=sender.name)


async def _text(request: Request) -> str:
    try:
        return (await read_body(request, media_types=DOCUMENT_TYPES)).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Problem("invalid_encoding", f"byte {error.start} is not UTF-8") from error


async def _json(request: Request) -> object:
    try:
        return json.loads(await read_body(request))
    except (ValueError, RecursionError) as error:
        raise Problem("invalid_json", "the body cannot be read as JSON") from error
