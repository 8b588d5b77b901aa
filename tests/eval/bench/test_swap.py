"""The swap against servers of this test's own on loopback, which follow a real store as workers do."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from eval.bench import swap as module
from eval.bench.load import REGIONS
from eval.bench.swap import FACTOR, REGION, changed_copy, connect, swap, swapping
from retrieval_shared.adapter_store import AdapterStore
from retrieval_shared.adapters import NAME_KEY, WEIGHTS, read_adapter
from retrieval_shared.bundle import ADAPTERS
from retrieval_shared.errors import BundleError, WardlineError
from retrieval_shared.onnx_encoder import OnnxEncoder

if TYPE_CHECKING:
    from retrieval_shared.bundle import Bundle

OWN = {"task:moderation": "1" * 12, "region:US": "2" * 12}


class Worker(ThreadingHTTPServer):
    """Lists the bundle's adapters with those of the store in their place, as of its last look."""

    def __init__(self, store: AdapterStore, *, deaf_to: int | None = None, status: int = 200) -> None:
        super().__init__(("127.0.0.1", 0), Listing)
        self.store = store
        self.deaf_to = deaf_to
        self.status = status
        self.looks = 0
        self.asked: list[str] = []
        self.served = dict(OWN)

    def look(self) -> None:
        self.looks += 1
        if self.looks != self.deaf_to:
            self.served = OWN | {each.name: each.version for each in self.store.read()}


class Listing(BaseHTTPRequestHandler):
    """The two routes of adapters."""

    protocol_version = "HTTP/1.1"
    server: Worker

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.server.look()
        self._answer()

    def _answer(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        adapters = [{"name": name, "version": version} for name, version in self.server.served.items()]
        content = json.dumps({"adapters": adapters, "refused": [{"name": "a reason"}]}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def running(*workers: Worker) -> Iterator[list[HTTPConnection]]:
    """A connection to each of the workers, which answer until the end."""
    with ExitStack() as stack:
        opened = []
        for worker in workers:
            stack.enter_context(worker)
            thread = threading.Thread(target=worker.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            stack.callback(thread.join)
            stack.callback(worker.shutdown)
            opened += connect(worker.server_port, [os.getpid()])
            stack.callback(opened[-1].close)
        yield opened


@pytest.fixture
def store(tmp_path: Path) -> AdapterStore:
    return AdapterStore(tmp_path / "adapters")


@pytest.fixture
def adapter(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    """One for the region."""
    folder = tmp_path / "changed"
    folder.mkdir()
    return changed_copy(tiny_bundle.path, folder)


def test_the_region_is_one_that_the_load_is_decided_for() -> None:
    assert REGION in REGIONS


def test_a_region_without_an_adapter_gets_a_changed_copy_of_the_one_it_is_judged_under(
    tiny_bundle: Bundle, adapter: Path
) -> None:
    """The tiny bundle has none for US: B of `task:moderation` is changed, A is not, and the encoder takes it."""
    own, changed = read_adapter(tiny_bundle.path / ADAPTERS / "task-moderation"), read_adapter(adapter)
    assert (changed.name, changed.encoder, changed.parent) == ("region:US", own.encoder, own.parent)
    assert changed.version != own.version
    for path, (a, b) in own.matrices.items():
        np.testing.assert_array_equal(changed.matrices[path][0], a)
        np.testing.assert_allclose(changed.matrices[path][1], FACTOR * b, rtol=1e-3)  # float16 on the disk
        assert np.abs(changed.matrices[path][1] - b).max() > 0
    encoder = OnnxEncoder(tiny_bundle)
    assert encoder.with_adapters([*encoder.adapters, changed]).slots[-1] == "region:US"


def test_a_regions_own_adapter_is_the_one_that_is_changed(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REGION", "ID")
    source = tiny_bundle.path / ADAPTERS / "region-ID" / WEIGHTS
    changed = load_file(changed_copy(tiny_bundle.path, tmp_path) / WEIGHTS)
    for key, tensor in load_file(source).items():
        expected = tensor * tensor.dtype.type(FACTOR) if ".lora_B." in key else tensor
        np.testing.assert_array_equal(changed[key], expected)
    assert read_adapter(tmp_path).name == "region:ID"


def test_every_worker_lists_the_adapter_before_it_is_removed_and_its_own_after(
    store: AdapterStore, adapter: Path
) -> None:
    both = Worker(store), Worker(store)
    with running(*both) as connections:
        found = swap(adapter, store=store, workers=connections)
    assert (found["slot"], found["version"]) == ("region:US", read_adapter(adapter).version)
    assert (found["instead_of"], found["workers"]) == (OWN["region:US"], 2)
    assert found["added_s"] > 0 < found["removed_s"]
    turn = ["POST /v1/adapters:reload", "GET /v1/adapters"]
    assert [worker.asked for worker in both] == [["GET /v1/adapters", *turn, *turn], [*turn, *turn]]
    assert [worker.served for worker in both] == [OWN, OWN]
    assert store.entries() == ()


def test_an_adapter_of_a_new_name_takes_nobodys_place(store: AdapterStore, adapter: Path) -> None:
    tensors = load_file(adapter / WEIGHTS)
    own = read_adapter(adapter)
    save_file(tensors, adapter / WEIGHTS, metadata={NAME_KEY: "region:DE", "wardline.encoder": own.encoder})
    with running(Worker(store)) as connections:
        found = swap(adapter, store=store, workers=connections)
    assert (found["slot"], found["instead_of"]) == ("region:DE", None)


@pytest.mark.parametrize(("deaf_to", "expected"), [(1, "serves .*, expected"), (2, f"expected .*'{'2' * 12}'")])
def test_a_worker_that_does_not_follow_is_told(
    deaf_to: int, expected: str, store: AdapterStore, adapter: Path
) -> None:  # fmt: skip
    """The second of two does not see the adapter come, or does not see it go."""
    with (
        running(Worker(store), Worker(store, deaf_to=deaf_to)) as connections,
        pytest.raises(WardlineError, match=f"worker 2 of 2 .*{expected}.*refused .*a reason"),
    ):
        swap(adapter, store=store, workers=connections)
    assert len(store.entries()) == 2 - deaf_to


def test_a_worker_that_refuses_or_is_gone_is_an_error(store: AdapterStore, adapter: Path) -> None:
    with running(Worker(store, status=403)) as connections:
        with pytest.raises(WardlineError, match="GET /v1/adapters: found status 403, expected 200"):
            swap(adapter, store=store, workers=connections)
        connections[0].close()
        with pytest.raises(WardlineError, match="GET /v1/adapters: no answer: NotConnected"):
            swap(adapter, store=store, workers=connections)
    assert store.entries() == ()


def test_what_a_job_names_is_swapped_when_it_is_asked_for(tiny_bundle: Bundle, store: AdapterStore) -> None:
    worker = Worker(store)
    with running(worker):
        job = {
            "port": worker.server_port,
            "workers": [os.getpid()],
            "adapters": str(store.folder),
            "bundle": str(tiny_bundle.path),
        }
        with swapping(job) as swap_once:
            assert worker.asked == []  # a connection that was used would not be kept until it is needed
            found = swap_once()
        assert (found["slot"], found["workers"]) == ("region:US", 1)
        assert worker.looks == 2
        with pytest.raises(BundleError, match="no model bundle"), swapping({**job, "bundle": "nowhere"}):
            pass
