"""Which web pages may call the service from a browser (CORS): none, unless their origins are named."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.middleware.cors import CORSMiddleware

from moderation.auth import KEYS_VARIABLE

ORIGINS_VARIABLE = "WARDLINE_CORS_ORIGINS"
ANY_ORIGIN = "*"
METHODS = ("GET", "POST", "DELETE")
REQUEST_HEADERS = ("Authorization", "Content-Type", "Idempotency-Key", "X-Goog-Api-Key", "X-Request-Id")
RESPONSE_HEADERS = (
    "Idempotency-Replayed",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "Retry-After",
    "X-Request-Id",
)
MAX_AGE_S = 600
"""How long a browser may remember what it was allowed."""
# As a browser writes it (RFC 6454, section 6.2): lower case, ASCII, without a path.
_ORIGIN = re.compile(r"https?://(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[1-9][0-9]{0,4})?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def cors_middleware(environment: Mapping[str, str]) -> tuple[Callable[..., CORSMiddleware], dict[str, Any]] | None:
    """Return starlette's middleware and its options for the origins in WARDLINE_CORS_ORIGINS; None where it is not set.

    Cookies are not allowed: a page sends its API key as a header, as every other caller does.

    Raises:
        ValueError: an entry is no exact origin; `*` has others beside it; or `*` is given without API keys, when any
            page that is open on this machine could call the service as its owner.
    """
    text = environment.get(ORIGINS_VARIABLE, "")
    if not text:
        return None
    origins = tuple(entry.strip() for entry in text.split(","))
    if ANY_ORIGIN in origins:
        if len(origins) > 1:
            raise ValueError(f"{ORIGINS_VARIABLE} is {text!r}; {ANY_ORIGIN!r} stands alone or not at all")
        if not environment.get(KEYS_VARIABLE):
            reason = "without keys every page open on this machine could call the service as its owner"
            raise ValueError(f"{ORIGINS_VARIABLE} is {text!r}, which needs {KEYS_VARIABLE}: {reason}")
    else:
        for origin in origins:
            _check(origin)
    options = {
        "allow_origins": origins,
        "allow_methods": METHODS,
        "allow_headers": REQUEST_HEADERS,
        "expose_headers": RESPONSE_HEADERS,
        "max_age": MAX_AGE_S,
    }
    return CORSMiddleware, options


def _check(origin: str) -> None:
    """Raise `ValueError` for what no browser sends as an origin: it would be compared for ever and never match."""
    found = f"{ORIGINS_VARIABLE} has the entry {origin!r}"
    if not _ORIGIN.fullmatch(origin):
        form = "exact origins such as https://example.org, http or https, lower case, without a path, or * alone"
        raise ValueError(f"{found}; allowed, separated by commas: {form}")
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{found}: {error}") from error
    if port == _DEFAULT_PORTS[parts.scheme]:
        raise ValueError(f"{found}; leave out :{port}, as browsers do")
