"""Every refusal in the envelope of the dialect that was spoken."""

from __future__ import annotations

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import Scope

from moderation.compat import openai, openai_routes, perspective_error, perspective_routes
from moderation.compat.openai import OpenAIError
from moderation.compat.perspective_error import PerspectiveError
from moderation.problem import REQUEST_ID_HEADER, Problem, problem_of_http_error, problem_response
from retrieval_shared.errors import ScoringError

ERRORS = (Problem, OpenAIError, PerspectiveError, ScoringError, HTTPException, Exception)
"""What `on_error` handles, each by its name: what is only an `Exception` is answered outside of all layers."""


async def on_error(request: Request, error: Exception) -> JSONResponse:
    """Exception handler: the refusal, as a client of this path understands it."""
    return _answer(error, request)


def refusal(problem: Problem, scope: Scope) -> JSONResponse:
    """The refusal of a layer before the routes, as a client of this path understands it."""
    return _answer(problem, Request(scope))


def _answer(error: Exception, request: Request) -> JSONResponse:
    if isinstance(error, OpenAIError | PerspectiveError):
        return _response(error)
    problem, path = _problem(error), request.url.path
    # What the service itself failed at is answered outside the layer that adds the id.
    crashed = problem.code == "internal_error"
    request_id = getattr(request.state, "request_id", None) if crashed else None
    if path == openai_routes.PATH:
        return _response(openai.error_of(problem), request_id)
    if path.startswith((f"{perspective_routes.PREFIX}/", perspective_routes.DISCOVERY)):
        return _response(perspective_error.error_of(problem), request_id)
    return problem_response(problem, request_id=request_id)


def _problem(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        return problem_of_http_error(error)
    if isinstance(error, ScoringError):
        return Problem("scoring_failed", "the model gave no answer; send it again", {"Retry-After": "1"})
    return Problem("internal_error", "the service failed; the log names the request id")


def _response(error: OpenAIError | PerspectiveError, request_id: str | None = None) -> JSONResponse:
    headers = dict(error.headers) | ({REQUEST_ID_HEADER: request_id} if request_id is not None else {})
    return JSONResponse(error.document(), status_code=error.status, headers=headers)
