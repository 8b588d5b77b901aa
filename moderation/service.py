"""The moderation REST service: the HTTP routes over the API, and the BentoML service that holds it."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import bentoml
from bentoml._internal.utils.analytics import usage_stats
from bentoml.exceptions import BentoMLException
from fastapi import FastAPI, Request, Response
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moderation import auth, schema
from moderation.api import ModerationApi, Readiness, Settings
from moderation.auth import Caller, load_keys
from moderation.policy_document import load_policy
from moderation.problem import REQUEST_ID_HEADER, Problem, on_problem
from moderation.response import ModerateResponse
from moderation.review.store import Store
from retrieval_shared.bundle import load_bundle
from retrieval_shared.errors import WardlineError

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
_JSON = "application/json"
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


class RequestId:
    """ASGI layer: gives each request an id, the caller's own where it sent a usable one, and echoes it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on and adds the header to the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = Request(scope).headers.get(REQUEST_ID_HEADER, "")
        request_id = sent if _REQUEST_ID.fullmatch(sent) else f"req_{uuid.uuid4().hex}"
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        await self._app(scope, receive, send_with_id)


def build_app(current: Callable[[], ModerationApi]) -> FastAPI:
    """The HTTP routes over the API that `current` returns at each request; it may not exist yet when this is called."""
    body = {"requestBody": {"required": True, "content": {_JSON: {"schema": schema.request_schema()}}}}
    app = FastAPI(title="Wardline moderation", docs_url=None, redoc_url=None, openapi_url="/v1/openapi.json")
    app.add_middleware(RequestId)
    for kind in (Problem, HTTPException, Exception):
        app.add_exception_handler(kind, on_problem)

    def authorised(request: Request) -> ModerationApi:
        api = current()
        api.keys.authorise(_caller(request), auth.Scope.MODERATE)
        return api

    @app.post("/v1/ads:moderate", responses={200: {"model": ModerateResponse}}, openapi_extra=body)
    async def moderate(request: Request) -> Response:
        """Decides each ad of a batch for each of its regions."""
        answer = await authorised(request).moderate(await read_body(request))
        return Response(answer.model_dump_json(), media_type=_JSON)

    @app.get("/v1/policies")
    async def policies(request: Request) -> dict[str, Any]:
        """Lists the policies and what the heads' thresholds were fitted on."""
        return authorised(request).policies()

    @app.get("/v1/policies/{ref}")
    async def policy(request: Request, ref: str) -> dict[str, Any]:
        """Shows one policy in full."""
        return authorised(request).policy(ref)

    @app.get("/v1/limits")
    async def limits(request: Request) -> dict[str, Any]:
        """States what a request may hold."""
        return authorised(request).limits()

    return app


async def read_body(request: Request) -> bytes:
    """The request's body, never more of it in memory than is allowed.

    Raises:
        Problem: it is not declared as UTF-8 JSON, or it is too large, whatever its Content-Length says.
    """
    _check_media_type(request)
    too_large = Problem("body_too_large", f"the body may have {schema.MAX_BODY_BYTES} bytes")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > schema.MAX_BODY_BYTES:
        raise too_large
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > schema.MAX_BODY_BYTES:
                raise too_large
    except ClientDisconnect as error:
        raise Problem("invalid_request", "the connection ended before the body") from error
    return bytes(body)


def _check_media_type(request: Request) -> None:
    media_type, _, parameters = request.headers.get("content-type", "").partition(";")
    if media_type.strip().lower() != "application/json":
        raise Problem("unsupported_media_type", "send the header `Content-Type: application/json`")
    name, _, charset = parameters.strip().partition("=")
    if name.lower() == "charset" and charset.strip('"').lower() not in {"utf-8", "utf8"}:
        raise Problem("unsupported_media_type", "the charset must be utf-8")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem("unsupported_media_type", "the body must not be compressed")


def _caller(request: Request) -> Caller:
    return Caller(
        authorization=request.headers.get("authorization"),
        peer=request.client.host if request.client else None,
        host=request.headers.get("host"),
        headers=frozenset(request.headers.keys()),
    )


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
        load_policy(settings.policy)
        if settings.keys is not None:
            load_keys(settings.keys)
        Store(settings.database).close()
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
        """Lets running requests end."""
        self.moderation.close()


@bentoml.service(name="wardline-moderation", **SERVICE)
@bentoml.asgi_app(build_app(current_api))
class Moderation(ModerationHost):
    """Moderation alone; the front door serves all products."""


# mypy does not follow what a class decorator returns.
Moderation.add_asgi_middleware(ReadyBody, current=current_readiness)  # type: ignore[attr-defined]
