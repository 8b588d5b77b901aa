"""Every refusal in the envelope of the dialect that was spoken."""

from __future__ import annotations

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from moderation.compat import openai_routes, perspective_routes
from moderation.compat.openai import OpenAIError
from moderation.compat.perspective_error import PerspectiveError
from moderation.problem import REQUEST_ID_HEADER, Problem, on_problem, problem_of_http_error
from retrieval_shared.errors import ScoringError

ERRORS = (Problem, OpenAIError, PerspectiveError, HTTPException, Exception)
"""What `on_error` is the handler of."""


async def on_error(request: Request, error: Exception) -> JSONResponse:
    """Exception handler: the refusal, as a client of this path understands it."""
    if isinstance(error, OpenAIError | PerspectiveError):
        return _response(error)
    path = request.url.path
    if path == openai_routes.PATH:
        return _response(openai_routes.error_of(_problem(error)), request)
    if path.startswith((f"{perspective_routes.PREFIX}/", perspective_routes.DISCOVERY)):
        return _response(perspective_routes.error_of(_problem(error)), request)
    return await on_problem(request, error)


def _problem(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        return problem_of_http_error(error)
    if isinstance(error, ScoringError):
        return Problem("scoring_failed", "the model gave no answer; send it again", {"Retry-After": "1"})
    return Problem("internal_error", "the service failed; the log names the request id")


def _response(error: OpenAIError | PerspectiveError, request: Request | None = None) -> JSONResponse:
    # Errors of the server are answered outside the layer that adds the id.
    request_id = getattr(request.state, "request_id", None) if request is not None and error.status >= 500 else None
    headers = dict(error.headers) | ({REQUEST_ID_HEADER: request_id} if request_id is not None else {})
    return JSONResponse(error.document(), status_code=error.status, headers=headers)
