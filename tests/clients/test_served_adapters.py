"""Adapters and bundles that are exchanged under a service with two workers: no request fails, and both follow."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from eval.bench.processes import free_port
from moderation.auth import Scope, add_key, create_key
from moderation.demo import HOST, running, service_command, service_environment, wait_until_ready
from retrieval_shared.adapter_store import AdapterStore
from retrieval_shared.adapters import ENCODER_KEY, WEIGHTS
from retrieval_shared.bundle import ADAPTERS, Bundle, write_manifest
from tests.clients.conftest import Served

if TYPE_CHECKING:
    from _pytest.tmpdir import TempPathFactory

OPS = "ops"
REQUESTS_UNTIL_LOADED = 1_000
BODY = {"items": [{"id": "1", "fields": {"body": "free vodka"}, "regions": ["ID", "US"]}], "explain": "none"}


@dataclass(frozen=True)
class Exchanged:
    """A running service, and the folders that it follows."""

    served: Served
    folder: Path
    tiny: Bundle

    @property
    def store(self) -> AdapterStore:
        return AdapterStore(self.folder / "adapters")

    def turn(self, bundle: Path) -> None:
        """Turn the link to another bundle, whole."""
        turning = self.folder / "turning"
        turning.symlink_to(bundle)
        turning.replace(self.folder / "bundle")

    def bundle(self, version: str) -> Path:
        """A copy of the bundle under another version."""
        folder = self.folder / version
        shutil.copytree(self.tiny.path, folder)
        write_manifest(folder, replace(self.tiny.manifest, version=version))
        return folder

    def adapter(self, factor: float, *, encoder: str | None = None) -> Path:
        """The bundle's adapter of `region:ID` with every B times `factor`."""
        source = self.tiny.path / ADAPTERS / "region-ID"
        folder = self.folder / f"trained-{factor}-{encoder}"
        shutil.copytree(source, folder)
        with safe_open(source / WEIGHTS, framework="numpy") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = file.metadata()
        given = {
            key: np.ascontiguousarray(tensor * np.float16(factor) if "lora_B" in key else tensor)
            for key, tensor in tensors.items()
        }
        save_file(given, folder / WEIGHTS, metadata=metadata | ({ENCODER_KEY: encoder} if encoder else {}))
        return folder


@pytest.fixture(scope="module")
def exchanged(tiny_bundle: Bundle, tmp_path_factory: TempPathFactory) -> Iterator[Exchanged]:
    """Two workers over a link to the tiny bundle and an empty store; whatever a test does, they are ended."""
    folder = tmp_path_factory.mktemp("exchanged")
    (folder / "bundle").symlink_to(tiny_bundle.path)
    made = create_key(OPS, [Scope.ADMIN])
    add_key(folder / "keys.yaml", made.record)
    database, log, port = f"sqlite:///{folder / 'wardline.db'}", folder / "service.log", free_port()
    given = service_environment(folder, database).items()
    environment = {name: value for name, value in given if not name.startswith("WARDLINE_")} | {
        "BENTOML_CONFIG_OPTIONS": "services.wardline.workers=2",
        "WARDLINE_ADAPTERS": str(folder / "adapters"),
        "WARDLINE_BUNDLE": str(folder / "bundle"),
        "WARDLINE_DATABASE": database,
        "WARDLINE_KEYS": str(folder / "keys.yaml"),
    }
    with running(service_command(port), environment=environment, log=log) as process:
        url = f"http://{HOST}:{port}"
        wait_until_ready(process, url=url, log=log)
        yield Exchanged(Served(url, database, {OPS: made.secret}, process.pid), folder, tiny_bundle)


@dataclass(frozen=True)
class Answer:
    """What a request was answered."""

    status: int
    bundle: str
    adapter: str
    """Name and version of the one that judged for ID."""


def moderate(client: httpx.Client) -> Answer:
    answer = client.post("/v1/ads:moderate", json=BODY)
    if answer.status_code != 200:
        return Answer(answer.status_code, "", "")
    [result] = answer.json()["results"]
    versions: dict[str, Any] = result["versions"]
    assert [each["adapter"] for each in result["decisions"]] == [versions["adapter:region:ID"], versions["adapter"]]
    return Answer(200, versions["bundle"].partition("+")[0], versions["adapter:region:ID"])


def reload(client: httpx.Client) -> dict[str, Any]:
    answer = client.post("/v1/adapters:reload")
    assert answer.status_code == 200
    told: dict[str, Any] = answer.json()
    return told


def follow(workers: tuple[httpx.Client, ...], **expected: str) -> bool:
    """Whether every worker comes to answer so; a request that comes while it loads is still decided by the old."""
    return all(
        any(vars(moderate(worker)).items() >= expected.items() for _ in range(REQUESTS_UNTIL_LOADED))
        for worker in workers
    )


@contextmanager
def asked_all_the_time(clients: tuple[httpx.Client, ...]) -> Iterator[list[Future[list[Answer]]]]:
    """The answers to requests that each client sends one after the other, from a block's first line to its last."""
    stop, begun = threading.Event(), threading.Barrier(len(clients) + 1)

    def ask(client: httpx.Client) -> list[Answer]:
        answers = [moderate(client)]
        begun.wait(30)
        while not stop.is_set():
            answers.append(moderate(client))
        return answers

    with ThreadPoolExecutor(len(clients)) as pool:
        answers = [pool.submit(ask, client) for client in clients]
        try:
            begun.wait(30)
            yield answers
        finally:
            stop.set()


def test_adapters_come_and_go_without_one_failed_request(exchanged: Exchanged) -> None:
    """And each answer names one version: the bundle's own, or one of the two that are exchanged."""
    store, served = exchanged.store, exchanged.served
    sources = [exchanged.adapter(factor) for factor in (2.0, -2.0)]
    with served.client_of_each_worker(OPS) as load, served.client_of_each_worker(OPS) as workers:
        own = moderate(workers[0]).adapter
        with asked_all_the_time(load) as futures:
            known = [own]
            for number in range(12):
                if number % 3 == 2:
                    store.remove("region:ID")
                    expected = own
                else:
                    expected = f"region:ID@{store.add(sources[number % 3]).version}"
                if number % 2:  # one is told to look, and waits until it has
                    told = workers[number // 2 % 2]
                    assert reload(told)["refused"] == []
                    assert moderate(told).adapter == expected
                assert follow(workers, adapter=expected)
                known.append(expected)
        answers = [answer for future in futures for answer in future.result()]
    assert len(set(known)) == 3
    assert {answer.status for answer in answers} == {200}
    assert {answer.adapter for answer in answers} <= set(known)
    assert {answer.bundle for answer in answers} == {"tiny@1"}


def test_a_bundle_is_updated_without_one_failed_request(exchanged: Exchanged) -> None:
    served = exchanged.served
    with served.client_of_each_worker(OPS) as load, served.client_of_each_worker(OPS) as workers:
        with asked_all_the_time(load) as futures:
            for version in ("2", "3"):
                exchanged.turn(exchanged.bundle(version))
                assert follow(workers, bundle=f"tiny@{version}")
        answers = [[answer.bundle for answer in future.result()] for future in futures]
        exchanged.turn(exchanged.tiny.path)
        assert [moderate(worker).bundle for worker in workers] == ["tiny@1"] * 2
    for seen in answers:
        assert set(seen) <= {"tiny@1", "tiny@2", "tiny@3"}
        assert seen == sorted(seen)  # never back to what was before


def damaged(exchanged: Exchanged) -> None:
    folder = exchanged.bundle("damaged")
    (folder / "encoder.onnx").write_bytes(b"half")
    exchanged.turn(folder)


def foreign(exchanged: Exchanged) -> None:
    exchanged.store.add(exchanged.adapter(3.0, encoder="0" * 64))


def mended(exchanged: Exchanged) -> None:
    exchanged.turn(exchanged.tiny.path)
    if exchanged.store.entries():
        exchanged.store.remove("region:ID")


@pytest.mark.parametrize(("spoil", "name"), [(damaged, "bundle"), (foreign, "region:ID")])
def test_what_cannot_be_used_is_refused_by_both_and_fails_no_request(
    spoil: Callable[[Exchanged], None], name: str, exchanged: Exchanged
) -> None:
    served = exchanged.served
    with served.client_of_each_worker(OPS) as load, served.client_of_each_worker(OPS) as workers:
        before = moderate(workers[0])
        with asked_all_the_time(load) as futures:
            spoil(exchanged)
            assert [moderate(worker) for worker in workers] == [before] * 2
            assert [[each["name"] for each in reload(worker)["refused"]] for worker in workers] == [[name]] * 2
            told = [worker.get("/v1/adapters").json() for worker in workers]
            warnings = [worker.get("/readyz").json()["warnings"] for worker in workers]
            mended(exchanged)
            assert [reload(worker)["refused"] for worker in workers] == [[], []]
        assert [[each["name"] for each in listing["refused"]] for listing in told] == [[name]] * 2
        assert all(f"{name} is refused" in warning for [warning] in warnings)
        answers = [answer for future in futures for answer in future.result()]
    assert set(answers) == {before}
