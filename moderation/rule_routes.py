"""The HTTP routes of rules of one's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request

from moderation.auth import ApiKey, Scope
from moderation.openapi import rules
from moderation.openapi.rules import Name, Reference
from moderation.problem import Problem
from moderation.request import caller_of, read_document
from moderation.rule_set import rules_schema

if TYPE_CHECKING:
    from moderation.api import ModerationApi
    from moderation.rule_api import RuleApi

Api = Callable[[], "ModerationApi"]


def rule_router(current: Api) -> APIRouter:
    """The routes over the API that `current` returns at each request."""
    router = APIRouter(prefix="/v1/rules", tags=["Rules"])
    _add_reading(router, current)
    _add_changing(router, current)
    return router


def _key(current: Api, request: Request, scope: Scope) -> ApiKey:
    return current().keys.authorise(caller_of(request), scope)


def _rules(current: Api) -> RuleApi:
    found = current().rules
    if found is None:
        raise Problem("not_found", "this service has no rules of its own")
    return found


def _add_reading(router: APIRouter, current: Api) -> None:
    @router.get("", **rules.LIST.get())
    async def listing(request: Request) -> dict[str, Any]:
        """Lists the versions of all sets of rules, those in force marked."""
        _key(current, request, Scope.MODERATE)
        return await asyncio.to_thread(_rules(current).listing)

    @router.get("/schema", **rules.SCHEMA.get())
    async def schema(request: Request) -> dict[str, Any]:
        """The JSON Schema of a document of rules."""
        _key(current, request, Scope.MODERATE)
        return rules_schema()

    @router.post(":validate", **rules.VALIDATE.post())
    async def validate(request: Request) -> dict[str, Any]:
        """Says whether a document could be published here, and if not, which line is wrong and why."""
        _key(current, request, Scope.MODERATE)
        text = await read_document(request)
        return await asyncio.to_thread(_rules(current).validate, text)

    @router.get("/{ref}:hits", **rules.HITS.get())
    async def hits(request: Request, ref: Reference) -> dict[str, Any]:
        """Counts the stored decisions in which each rule was found; of a shadow rule, what it would have done."""
        _key(current, request, Scope.ADMIN)
        return await asyncio.to_thread(_rules(current).hits, ref)

    @router.get("/{ref}", **rules.SHOW.get())
    async def show(request: Request, ref: Reference) -> dict[str, Any]:
        """Shows one version in full."""
        _key(current, request, Scope.MODERATE)
        return await asyncio.to_thread(_rules(current).show, ref)


def _add_changing(router: APIRouter, current: Api) -> None:
    @router.post("", status_code=201, **rules.ADD.post())
    async def add(request: Request) -> dict[str, Any]:
        """Adds a version, YAML or JSON; it finds nothing before it is published."""
        sender = _key(current, request, Scope.ADMIN)
        text = await read_document(request)
        return await asyncio.to_thread(_rules(current).add, text, by=sender.name)

    @router.post("/{ref}:publish", **rules.PUBLISH.post())
    async def publish(request: Request, ref: Reference) -> dict[str, Any]:
        """Puts a version in force."""
        sender = _key(current, request, Scope.ADMIN)
        return await asyncio.to_thread(_rules(current).publish, ref, by=sender.name)

    @router.post("/{name}:rollback", **rules.ROLLBACK.post())
    async def rollback(request: Request, name: Name) -> dict[str, Any]:
        """Puts the version in force that was before the present one, or before it was withdrawn."""
        sender = _key(current, request, Scope.ADMIN)
        return await asyncio.to_thread(_rules(current).rollback, name, by=sender.name)

    @router.post("/{name}:withdraw", **rules.WITHDRAW.post())
    async def withdraw(request: Request, name: Name) -> dict[str, Any]:
        """Puts no version of a set in force any more."""
        sender = _key(current, request, Scope.ADMIN)
        return await asyncio.to_thread(_rules(current).withdraw, name, by=sender.name)
