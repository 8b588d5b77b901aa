"""The served bento as the clients of this folder meet it: two workers, real keys with a rate limit, a real queue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

import httpx
import psutil
import pytest

from eval.bench.processes import WORKER, free_port
from moderation.auth import Scope, add_key, create_key
from moderation.demo import HOST, running, service_command, service_environment, wait_until_ready
from moderation.review.store import Store
from moderation.tables import ReviewRow
from retrieval_shared.bundle import DEFAULT_BUNDLE, MANIFEST

LIMIT, WINDOW_S = 100, 3600
USERS = ("openai", "google", "http", "spent")
"""Who calls, each with a key and so with a rate limit of its own."""
CONNECTIONS = 200
"""After so many that all end in one worker, there is no second one."""


@dataclass(frozen=True)
class Served:
    """A running service."""

    url: str
    database: str
    keys: Mapping[str, str]
    """The secret of each user."""
    pid: int
    limit: int = LIMIT
    """Requests of each user in the window, over both workers."""
    window_s: int = WINDOW_S

    def client(self, user: str) -> httpx.Client:
        """A client whose requests bring the user's key in their header."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.keys[user]}"}, timeout=60)

    def reviews(self, text: str) -> list[ReviewRow]:
        """The reviews of a text that wait for a person, read from the database beside the running service."""
        with closing(Store(self.database)) as store:
            pending = [filed.review for filed in store.reviews(state="pending")]
        return [review for review in pending if text in (review.text or {}).values()]

    @contextmanager
    def client_of_each_worker(self, user: str) -> Iterator[tuple[httpx.Client, httpx.Client]]:
        """Two clients whose open connections end in different workers; who takes one is up to the system."""
        with ExitStack() as stack:
            found: dict[int, httpx.Client] = {}
            for _ in range(CONNECTIONS):
                client = stack.enter_context(self.client(user))
                stream = client.get("/livez").extensions["network_stream"]
                found.setdefault(self._worker_at(stream.get_extra_info("client_addr")[1]), client)
                if len(found) == 2:
                    break
            first, second = found.values()
            yield first, second

    def _worker_at(self, port: int) -> int:
        """The process that holds the other end of the open connection from `port`."""
        [found] = [
            child.pid
            for child in psutil.Process(self.pid).children(recursive=True)
            if WORKER in " ".join(child.cmdline())
            for connection in child.net_connections(kind="tcp")
            if connection.raddr and connection.raddr.port == port
        ]
        return found


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The bento with the shipped bundle, whose languages are those of the field; whatever a test does, it is ended."""
    if not (DEFAULT_BUNDLE / MANIFEST).is_file():
        pytest.skip("no bundle in models/default: `make train`")
    folder = tmp_path_factory.mktemp("served")
    keys = {}
    for name in USERS:
        made = create_key(name, [Scope.MODERATE])
        add_key(folder / "keys.yaml", made.record)
        keys[name] = made.secret
    database, log, port = f"sqlite:///{folder / 'wardline.db'}", folder / "service.log", free_port()
    given = service_environment(folder, database).items()
    environment = {name: value for name, value in given if not name.startswith("WARDLINE_")} | {
        "BENTOML_CONFIG_OPTIONS": "services.wardline.workers=2",
        "WARDLINE_ADAPTERS": str(folder / "adapters"),
        "WARDLINE_DATABASE": database,
        "WARDLINE_KEEP_TEXT": "1",
        "WARDLINE_KEYS": str(folder / "keys.yaml"),
        "WARDLINE_RATE_LIMIT": f"{LIMIT}/h",
    }
    with running(service_command(port), environment=environment, log=log) as process:
        url = f"http://{HOST}:{port}"
        wait_until_ready(process, url=url, log=log)
        yield Served(url, database, keys, process.pid)


@pytest.fixture(autouse=True, scope="module")
def no_proxy() -> Iterator[None]:
    """Clients heed the proxies of their environment; the service is on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "all_proxy"):
            patch.delenv(name, raising=False)
            patch.delenv(name.upper(), raising=False)
        yield
