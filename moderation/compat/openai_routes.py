"""The HTTP route in the shape of OpenAI's moderation endpoint."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request

from moderation.auth import Scope
from moderation.compat.openai import ModerationRequest, OpenAIError, parse, render
from moderation.item import Item
from moderation.openapi.moderations import MODERATIONS
from moderation.regions import check_region
from moderation.request import caller_of, read_body

if TYPE_CHECKING:
    from moderation.api import ModerationApi

PATH = "/v1/moderations"


def openai_router(current: Callable[[], ModerationApi]) -> APIRouter:
    """The route over the API that `current` returns at each request."""
    router = APIRouter(tags=["OpenAI"])

    @router.post(PATH, **MODERATIONS.post())
    async def moderations(request: Request) -> dict[str, Any]:
        """Answers as OpenAI's moderation endpoint does, with the decision of one region and heads of our own beside."""
        api = current()
        api.keys.authorise(caller_of(request), Scope.MODERATE)
        asked = parse(await read_body(request))
        return await api.run(lambda wanted: answer(api, wanted), asked)

    return router


def answer(api: ModerationApi, asked: ModerationRequest) -> dict[str, Any]:
    """The answer to a request; every text is decided, logged and filed as an ad is.

    Raises:
        OpenAIError: the region is unknown.
        Problem: the policy is unknown, or nothing could be logged.
    """
    region = asked.region or api.region
    try:
        check_region(region)
    except ValueError as error:
        raise OpenAIError(400, str(error), code="invalid_value", param="region") from error
    id_ = f"modr-{uuid.uuid4().hex}"
    items = [Item(id=f"{id_}-{i}", fields={"text": text}, regions=(region,)) for i, text in enumerate(asked.texts)]
    serving = api.current()
    made = api.decide(items, policy_set=asked.policy_set, explain=False, serving=serving)
    return render(made.decisions, id_=id_, model=serving.name, heads=serving.moderator.heads)
