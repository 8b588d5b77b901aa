"""A whole API over the tiny bundle, and clients of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from moderation.api import ModerationApi
from moderation.pipeline import Moderator
from moderation.review.store import Store
from moderation.service import build_app
from moderation.settings import Settings
from retrieval_shared.bundle import Bundle


@pytest.fixture(scope="module")
def api(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModerationApi]:
    url = f"sqlite:///{tmp_path_factory.mktemp('database') / 'wardline.db'}"
    made = ModerationApi.over(Moderator.load(tiny_bundle.path), Store(url), Settings(database=url))
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(api: ModerationApi) -> Iterator[TestClient]:
    """A client on this machine."""
    app = build_app(lambda: api)
    with TestClient(
        app, base_url="http://localhost", client=("127.0.0.1", 1), raise_server_exceptions=False
    ) as connected:
        yield connected


@pytest.fixture
def stranger(api: ModerationApi) -> TestClient:
    """A client elsewhere, without a key."""
    return TestClient(build_app(lambda: api), base_url="http://localhost", client=("10.0.0.9", 1))


@pytest.fixture
def log(api: ModerationApi) -> Store:
    """The decision log behind the API."""
    return api._queue.store  # type: ignore[attr-defined,no-any-return]  # noqa: SLF001 - what was written
