"""An adapter that is swapped under load: added while the service runs, seen by every worker, and removed again."""

from __future__ import annotations

import http.client
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.numpy import save_file

from eval.bench.connections import spread_over, worker_at
from eval.bench.http_client import TIMEOUT_S
from eval.peers.measure import Figures, Job
from moderation.classifier import SLOT
from retrieval_shared.adapter_store import FILES, AdapterStore
from retrieval_shared.adapters import NAME_KEY, WEIGHTS, folder_of, slot_of_region
from retrieval_shared.bundle import ADAPTERS, read_manifest
from retrieval_shared.errors import WardlineError

REGION = "US"
"""Whose adapter is swapped: a region that every ad of the load is decided for."""
FACTOR = 0.99
"""By which the added adapter's B differs from that of the one before: another version, and much the same answers."""
LISTING, RELOAD = "/v1/adapters", "/v1/adapters:reload"


@contextmanager
def swapping(job: Job) -> Iterator[Callable[[], Figures]]:
    """Yield what swaps an adapter once, and returns its figures (`swap`); all it needs is ready before.

    Args:
        job: `port` and `workers` (processes) of the service, `adapters` (folder of the store they follow), `bundle`
            (folder of the one they serve).

    Raises:
        BundleError: the bundle's manifest is missing or malformed.
        WardlineError: a worker cannot be reached.
    """
    bundle, store = Path(job["bundle"]), AdapterStore(Path(job["adapters"]))
    workers = connect(int(job["port"]), job["workers"])
    try:
        with tempfile.TemporaryDirectory(prefix="wardline-swap-") as folder:
            adapter = changed_copy(bundle, Path(folder))
            yield lambda: swap(adapter, store=store, workers=workers)
    finally:
        for worker in workers:
            worker.close()


def changed_copy(bundle: Path, folder: Path) -> Path:
    """Return `folder`, in which the adapter now lies that `REGION` is judged under, B times `FACTOR`, as the region's.

    Args:
        bundle: folder of the bundle whose adapter it is.
        folder: an empty one.

    Raises:
        BundleError: the bundle's manifest is missing or malformed.
    """
    own = slot_of_region(REGION, read_manifest(bundle).slots, default=SLOT)
    source = bundle / ADAPTERS / folder_of(own)
    for name in FILES:
        shutil.copyfile(source / name, folder / name)
    with safe_open(str(source / WEIGHTS), framework="numpy") as file:
        metadata = {**file.metadata(), NAME_KEY: f"region:{REGION}"}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    for key in tensors:
        if ".lora_B." in key:
            tensors[key] = tensors[key] * tensors[key].dtype.type(FACTOR)
    save_file(tensors, folder / WEIGHTS, metadata=metadata)
    return folder


def connect(port: int, workers: Sequence[int]) -> list[HTTPConnection]:
    """Return a connection to each worker that stays open until it is used, and is never opened again elsewhere.

    Raises:
        WardlineError: a worker takes none.
    """
    return spread_over(
        workers,
        len(workers),
        connect=lambda: _opened(port),
        worker_of=lambda connection: worker_at(connection.sock.getsockname()[1], workers),
    )


def swap(adapter: Path, *, store: AdapterStore, workers: Sequence[HTTPConnection]) -> Figures:
    """Add an adapter to the store and remove it again; return its name, versions, and how long both took.

    Each takes until every worker has been told to look (`POST /v1/adapters:reload`) and lists what it should
    (`GET /v1/adapters`). `instead_of` is the version that the added one took the place of, None where there was none.

    Args:
        adapter: folder of the adapter.
        store: the one that the workers follow.
        workers: a connection to each.

    Raises:
        WardlineError: a worker does not answer, or lists other adapters than it should.
    """
    before = _versions(_ask(workers[0], "GET", LISTING))
    start = time.perf_counter()
    added = store.add(adapter)
    _follow(workers, {**before, added.name: added.version})
    swapped = time.perf_counter()
    store.remove(added.name)
    _follow(workers, before)
    return {
        "slot": added.name,
        "version": added.version,
        "instead_of": before.get(added.name),
        "workers": len(workers),
        "added_s": swapped - start,
        "removed_s": time.perf_counter() - swapped,
    }


def _follow(workers: Sequence[HTTPConnection], expected: Mapping[str, str]) -> None:
    """Have every worker look, and return when each lists the expected adapters, name -> version."""
    for worker in workers:
        _ask(worker, "POST", RELOAD)
    for number, worker in enumerate(workers, start=1):
        told = _ask(worker, "GET", LISTING)
        if (found := _versions(told)) != expected:
            raise WardlineError(
                f"worker {number} of {len(workers)} serves the adapters {found}, expected {dict(expected)}; "
                f"it refused {told['refused']}"
            )


def _versions(listing: Mapping[str, Any]) -> dict[str, str]:
    return {each["name"]: each["version"] for each in listing["adapters"]}


def _ask(worker: HTTPConnection, method: str, path: str) -> dict[str, Any]:
    try:
        worker.request(method, path)
        answer = worker.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise WardlineError(f"{method} {path}: no answer: {type(error).__name__}") from error
    if answer.status != 200:
        raise WardlineError(f"{method} {path}: found status {answer.status}, expected 200: {content[:300]!r}")
    document: dict[str, Any] = json.loads(content)
    return document


def _opened(port: int) -> HTTPConnection:
    """Return an open connection that nothing was asked on: only after an answer would an idle one be closed soon."""
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    connection.connect()
    connection.auto_open = 0  # opened again it might end in another worker
    return connection
