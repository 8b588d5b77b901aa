"""The moderation REST service: the HTTP routes over the API, and the BentoML service that holds it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict
from typing import Any

import bentoml
from bentoml._internal.utils.analytics import usage_stats
from bentoml.exceptions import BentoMLException
from fastapi import FastAPI, Request, Response
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from moderation import auth
from moderation.adapter_routes import adapter_router
from moderation.api import ModerationApi
from moderation.auth import load_keys
from moderation.bank_routes import bank_router
from moderation.compat.errors import ERRORS, on_error
from moderation.compat.openai_routes import openai_router
from moderation.compat.perspective_routes import perspective_router
from moderation.cors import cors_middleware
from moderation.guards import add_layers
from moderation.openapi import adapters, ads, bank, comments, moderations, policies, rules
from moderation.openapi.document import DocumentedApp
from moderation.policy_document import list_policies
from moderation.policy_routes import policy_router
from moderation.policy_store import PolicyStore
from moderation.readiness import Readiness
from moderation.request import JSON_TYPE, caller_of, read_body
from moderation.review.store import Store
from moderation.rule_routes import rule_router
from moderation.settings import Settings
from retrieval_shared.bundle import load_bundle
from retrieval_shared.errors import WardlineError
from retrieval_shared.shared_turns import remove_named_line

# Wardline sends nothing home. `bentoml serve` has asked, and remembers the answer, before it imports this file.
os.environ["BENTOML_DO_NOT_TRACK"] = "True"
usage_stats.do_not_track.cache_clear()

# Loopback unless told otherwise, because without keys nobody else is served.
SERVICE: dict[str, Any] = {
    "workers": 1,
    "http": {"host": "127.0.0.1", "port": 3000},
    "traffic": {"timeout": 120},
    # Without an exporter BentoML's spans go nowhere, and cost a third of a millisecond per request. Who sets one with
    # BENTOML_CONFIG_OPTIONS lifts this there, too: services.wardline.tracing.excluded_urls=null.
    "tracing": {"excluded_urls": [".*"]},
}


OPERATIONS = tuple(
    operation
    for routes in (ads, policies, rules, bank, adapters, moderations, comments)
    for operation in routes.OPERATIONS
)
"""What the document says of each route."""


def build_app(current: Callable[[], ModerationApi]) -> FastAPI:
    """The HTTP routes over the API that `current` returns at each request; it may not exist yet when this is called."""
    app = DocumentedApp(OPERATIONS)
    add_layers(app, current)
    for kind in ERRORS:
        app.add_exception_handler(kind, on_error)

    def authorised(request: Request) -> ModerationApi:
        api = current()
        api.keys.authorise(caller_of(request), auth.Scope.MODERATE)
        return api

    @app.post("/v1/ads:moderate", tags=["Ads"], **ads.MODERATE.post())
    async def moderate(request: Request) -> Response:
        """Decides each ad of a batch for each of its regions."""
        answer = await authorised(request).moderate(await read_body(request))
        return Response(answer.model_dump_json(), media_type=JSON_TYPE)

    @app.get("/v1/limits", tags=["Ads"], **ads.LIMITS.get())
    async def limits(request: Request) -> dict[str, Any]:
        """States what a request may hold."""
        return authorised(request).limits()

    for router in (policy_router, rule_router, bank_router, adapter_router, openai_router, perspective_router):
        app.include_router(router(current))
    return app


# ---- BentoML


class ReadyBody:
    """ASGI layer: answers `/readyz` with what is ready and what is doubtful; BentoML's own answer has no body."""

    def __init__(self, app: ASGIApp, *, current: Callable[[], Readiness]) -> None:
        self._app = app
        self._current = current

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers `/readyz`, passes everything else on."""
        if scope["type"] != "http" or scope["path"] != "/readyz":
            await self._app(scope, receive, send)
            return
        readiness = self._current()
        body = {"status": "ready" if readiness.ready else "not ready", **asdict(readiness)}
        await JSONResponse(body, status_code=200 if readiness.ready else 503)(scope, receive, send)


def check_start(environment: Mapping[str, str]) -> Settings:
    """The settings, when a service can start under them; checked once, before any worker is started.

    Raises:
        BentoMLException: the bundle is missing or damaged, the database cannot be opened, or a setting is wrong;
            BentoML prints it and stops.
    """
    try:
        settings = Settings.from_environment(environment)
        load_bundle(settings.bundle)
        if settings.keys is not None:
            load_keys(settings.keys)
        cors_middleware(environment)
        with closing(Store(settings.database)) as store:
            PolicyStore(store.database, list_policies()).serve(settings.policy)
    except (WardlineError, ValueError) as error:
        raise BentoMLException(f"Wardline cannot start: {error}") from error
    return settings


def current_api() -> ModerationApi:
    """The API that the BentoML service of this process holds."""
    api = bentoml.get_current_service().moderation
    if not isinstance(api, ModerationApi):
        raise TypeError(f"the service's `moderation` is a {type(api).__name__}, not a ModerationApi")
    return api


def current_readiness() -> Readiness:
    """The readiness of the API that the BentoML service of this process holds."""
    return current_api().readiness


class ModerationHost:
    """What a BentoML service needs to serve moderation: the API, checked before and closed after."""

    def __init__(self) -> None:
        self.moderation = ModerationApi.open(Settings.from_environment(os.environ))

    @bentoml.on_deployment
    def check_start() -> None:  # type: ignore[misc]  # BentoML calls it on the class, before there is a self
        """Stops the start with a clear message when the bundle or a setting is unusable."""
        # Workers run in the bento's own folder and inherit this environment: there a relative path would mislead them.
        os.environ.update(check_start(os.environ).environment())

    @bentoml.on_shutdown
    def close(self) -> None:
        """Lets running requests end, and leaves nothing behind: workers start and end together."""
        self.moderation.close()
        remove_named_line()


@bentoml.service(name="wardline-moderation", **SERVICE)
@bentoml.asgi_app(build_app(current_api))
class Moderation(ModerationHost):
    """Moderation alone; the front door serves all products."""


# mypy does not follow what a class decorator returns.
Moderation.add_asgi_middleware(ReadyBody, current=current_readiness)  # type: ignore[attr-defined]
