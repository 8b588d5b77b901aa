"""Calls from web pages: off, for named origins, for any; and every entry that could never match."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from moderation.cors import cors_middleware

PAGE = "https://example.org"


def client(environment: dict[str, str]) -> TestClient:
    """A client of an app that has what the environment asks for."""

    async def ok(_: Request) -> Response:
        return Response("ok", headers={"X-Request-Id": "r-1"})

    app = Starlette(routes=[Route("/", ok, methods=["GET", "POST"])])
    if (found := cors_middleware(environment)) is not None:
        kind, options = found
        app.add_middleware(kind, **options)
    return TestClient(app)


def preflight(connection: TestClient, origin: str, headers: str = "authorization, idempotency-key") -> Any:
    asked = {"origin": origin, "access-control-request-method": "POST", "access-control-request-headers": headers}
    return connection.options("/", headers=asked)


def test_without_the_variable_no_page_is_let_in() -> None:
    for environment in ({}, {"WARDLINE_CORS_ORIGINS": ""}):
        assert cors_middleware(environment) is None
    answer = client({}).get("/", headers={"origin": PAGE})
    assert "access-control-allow-origin" not in answer.headers


def test_named_origins_are_let_in_and_no_other() -> None:
    """With their key in a header and without cookies; they may read the request's id and their limits."""
    connection = client({"WARDLINE_CORS_ORIGINS": f"http://localhost:8080, {PAGE}"})
    for origin in (PAGE, "http://localhost:8080"):
        allowed = preflight(connection, origin)
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, origin)
        answer = connection.post("/", headers={"origin": origin})
        assert answer.headers["access-control-allow-origin"] == origin
        assert "access-control-allow-credentials" not in answer.headers
        exposed = answer.headers["access-control-expose-headers"].split(", ")
        assert {"X-Request-Id", "RateLimit-Remaining", "Retry-After", "Idempotency-Replayed"} <= set(exposed)
    for other in ("http://example.org", "https://example.org:8443", "https://a.example.org", "null"):
        assert preflight(connection, other).status_code == 400
        assert "access-control-allow-origin" not in connection.get("/", headers={"origin": other}).headers
    assert preflight(connection, PAGE, "x-other").status_code == 400
    for header in ("authorization", "content-type", "idempotency-key", "x-goog-api-key", "x-request-id"):
        assert preflight(connection, PAGE, header).status_code == 200


def test_any_origin_only_alone_and_only_with_keys() -> None:
    keys = {"WARDLINE_KEYS": "keys.yaml"}
    answer = client({"WARDLINE_CORS_ORIGINS": "*", **keys}).get("/", headers={"origin": PAGE})
    assert answer.headers["access-control-allow-origin"] == "*"
    with pytest.raises(ValueError, match=r"WARDLINE_CORS_ORIGINS is '\*,https://example.org'; '\*' stands alone"):
        cors_middleware({"WARDLINE_CORS_ORIGINS": f"*,{PAGE}", **keys})
    with pytest.raises(ValueError, match=r"is '\*', which needs WARDLINE_KEYS: without keys every page"):
        cors_middleware({"WARDLINE_CORS_ORIGINS": "*"})


@pytest.mark.parametrize(
    "entry",
    [
        "https://example.org/",
        "https://example.org/path",
        "HTTPS://example.org",
        "https://Example.org",
        "https://*.example.org",
        "https://user@example.org",
        "https://example.org?x",
        "https://bücher.example",
        "https://",
        "https://example.org:0",
        "example.org",
        "ftp://example.org",
        "file://",
        "null",
        "",
        "https://a.example https://b.example",
    ],
)
def test_an_entry_that_no_browser_sends_is_refused(entry: str) -> None:
    """The message names it and says what is allowed."""
    with pytest.raises(ValueError, match="WARDLINE_CORS_ORIGINS has the entry .*; allowed, separated by commas: exact"):
        cors_middleware({"WARDLINE_CORS_ORIGINS": f"{PAGE},{entry}"})


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("https://example.org:443", "leave out :443, as browsers do"),
        ("http://example.org:80", "leave out :80, as browsers do"),
        ("https://example.org:99999", "Port out of range"),
        ("https://[1:2]", "1:2"),
    ],
)
def test_a_port_or_address_that_cannot_be_is_refused(entry: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"has the entry '.*'.*{reason}"):
        cors_middleware({"WARDLINE_CORS_ORIGINS": entry})


@given(
    st.lists(
        st.builds(
            "{}://{}{}".format,
            st.sampled_from(["http", "https"]),
            st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True),
            st.one_of(st.just(""), st.integers(1024, 65535).map(":{}".format)),
        ),
        min_size=1,
    )
)
def test_all_exact_origins_are_read(origins: list[str]) -> None:
    found = cors_middleware({"WARDLINE_CORS_ORIGINS": " , ".join(origins)})
    assert found is not None
    kind, options = found
    assert kind is CORSMiddleware
    assert options["allow_origins"] == tuple(origins)
