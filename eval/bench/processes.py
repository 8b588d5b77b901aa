"""The bench's processes: each stack in one of its own, on one thread, with a time limit; the service, too."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from eval.bench.connections import answering_worker
from eval.bench.environment import ROOT, WITHOUT, Environment
from eval.bench.stacks import HTTP, Stack
from eval.peers.measure import Figures, Job, resident_mb
from retrieval_shared.errors import WardlineError

ONE_THREAD = {
    name: "1"
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "WARDLINE_THREADS")
}
OFFLINE = {
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "1",
}
WORKER = "_bentoml_impl.worker.service"
"""In the command line of the process that holds the model."""
STOP_S = 15
POLL_S = 0.02
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Served:
    """A running service."""

    port: int
    """Where it listens on loopback."""
    pid: int
    """Of the process that the workers belong to."""
    workers: tuple[int, ...]
    """Processes that hold the model."""
    started: float
    """When it was started, on the monotonic clock."""
    ready_s: float
    """Seconds from there to its first answer."""


@dataclass(frozen=True)
class Processes:
    """Measures a stack by running it."""

    bundle: Path
    """The bundle that our stacks load."""
    folder: Path
    """For jobs, results, databases and logs; the caller removes it."""
    pythons: Mapping[Environment, Path] = field(default_factory=dict)
    """Interpreter of each of the peers' environments; none when no peer is measured."""

    @property
    def adapters(self) -> Path:
        """Return the folder of the store that a service follows."""
        return self.folder / "adapters"

    def measure(self, stack: Stack, job: Job, timeout_s: float) -> Figures:
        """Return the figures of one stack.

        Raises:
            WardlineError: it failed or did not end in `timeout_s` seconds.
        """
        if stack.key == HTTP:
            return self._measure_service(stack, job, timeout_s)
        given = {**job, **stack.settings, "bundle": str(self.bundle), "database": self._database("inprocess")}
        return self.run(stack.module, given, timeout_s=timeout_s, environment=stack.environment)

    def run(
        self, module: str, job: Job, *, timeout_s: float, environment: Environment | None = None
    ) -> Figures:  # fmt: skip
        """Return what `python -m module` writes about `job`, in one of the peers' environments or (None) in our own.

        Raises:
            WardlineError: it failed or did not end in time.
        """
        python = self.pythons[environment] if environment else Path(sys.executable)
        job_file, result_file = self.folder / "job.json", self.folder / "result.json"
        result_file.unlink(missing_ok=True)
        job_file.write_text(json.dumps({**job, "started": time.time()}), encoding="utf-8")
        command = [str(python), "-m", module, str(job_file), str(result_file)]
        with self._started(command, name=module) as process:
            try:
                code = process.wait(timeout=max(1.0, timeout_s))
            except subprocess.TimeoutExpired as error:
                raise WardlineError(f"{module} did not end within {timeout_s:.0f} s; measure fewer texts") from error
        if code != 0 or not result_file.is_file():
            way_out = f"; {WITHOUT}" if environment else ""
            raise WardlineError(f"{module} failed ({code}): {self._last_line(module)}{way_out}")
        figures: Figures = json.loads(result_file.read_text(encoding="utf-8"))
        return figures

    def _measure_service(self, stack: Stack, job: Job, timeout_s: float) -> Figures:
        with self.serving(workers=1, timeout_s=timeout_s) as served:
            (worker,) = served.workers
            loaded = resident_mb(worker)
            left = timeout_s - (time.monotonic() - served.started)
            figures = self.run(stack.module, {**job, "port": served.port}, timeout_s=left)
            memory = {"loaded": loaded, "after": resident_mb(worker), "parent": resident_mb(served.pid)}
        return {**figures, "ready_s": served.ready_s, "memory_mb": memory}

    def measure_load(self, job: Job, *, workers: int, timeout_s: float) -> Figures:
        """Return the figures of many clients at once, of a service of its own with so many workers.

        Raises:
            WardlineError: the service or its clients failed, or did not end in time.
        """
        with self.serving(workers=workers, timeout_s=timeout_s) as served:
            loaded = [resident_mb(worker) for worker in served.workers]
            given = {
                **job,
                "port": served.port,
                "workers": list(served.workers),
                "adapters": str(self.adapters),
                "bundle": str(self.bundle),
            }
            left = timeout_s - (time.monotonic() - served.started)
            figures = self.run("eval.bench.load", given, timeout_s=left)
            after = [resident_mb(worker) for worker in served.workers]
        return {**figures, "memory_mb": {"loaded": loaded, "after": after}}

    @contextmanager
    def serving(self, *, workers: int, timeout_s: float) -> Iterator[Served]:
        """Serve the bundle on a free port of this machine; every worker has answered when this yields.

        Raises:
            WardlineError: it ended, or was not ready in time.
        """
        port, start = free_port(), time.monotonic()
        command = [sys.executable, str(ROOT / "wardline.py"), "serve", "--host", LOOPBACK, "--port", str(port)]
        own = {
            "WARDLINE_ADAPTERS": str(self.adapters),
            "WARDLINE_BUNDLE": str(self.bundle),
            "WARDLINE_DATABASE": self._database("service"),
            "WARDLINE_THREADS": str(workers),  # a core each
        }
        with self._started([*command, "--workers", str(workers)], name="service", own=own) as process:
            self._await_ready(process, port, deadline=start + timeout_s)
            ready_s = time.monotonic() - start
            found = workers_of(process.pid, expected=workers)
            self._await_workers(process, port, found, deadline=start + timeout_s)
            yield Served(port, process.pid, found, start, ready_s)

    def _await_ready(self, process: subprocess.Popen[bytes], port: int, *, deadline: float) -> None:
        while not is_ready(port):
            self._check_alive(process, deadline)
            time.sleep(POLL_S)

    def _await_workers(
        self, process: subprocess.Popen[bytes], port: int, workers: Sequence[int], *, deadline: float
    ) -> None:  # fmt: skip
        """Return when each of several workers has answered once; the first to be ready answers for all until then."""
        missing = set(workers) if len(workers) > 1 else set()
        while missing:
            self._check_alive(process, deadline)
            missing -= {answering_worker(port, workers)}
            time.sleep(POLL_S)

    def _check_alive(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        if process.poll() is not None:
            raise WardlineError(f"the service ended with {process.returncode}: {self._last_line('service')}")
        if time.monotonic() > deadline:
            raise WardlineError("the service was not ready in time")

    @contextmanager
    def _started(
        self, command: Sequence[str], *, name: str, own: Mapping[str, str] | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Start a process in a group of its own, and end the group whatever happens."""
        environment = {**clean_environment(os.environ), **ONE_THREAD, **OFFLINE, **(own or {})}
        with self._log(name).open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                stop(process)

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _last_line(self, name: str) -> str:
        text = self._log(name).read_text(encoding="utf-8", errors="replace").strip()
        return text.splitlines()[-1] if text else "it wrote nothing"

    def _database(self, name: str) -> str:
        return f"sqlite:///{self.folder / f'{name}-{time.monotonic_ns()}.db'}"


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what would change a measured process: our settings, BentoML's, Python's paths."""
    foreign = ("WARDLINE_", "BENTOML_", "PYTHON")
    return {name: value for name, value in environment.items() if not name.startswith(foreign)}


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def is_ready(port: int) -> bool:
    """Return whether `/readyz` answers 200."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2)  # knows no proxies
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def workers_of(pid: int, *, expected: int = 1) -> tuple[int, ...]:
    """Return the processes, `pid` or below it, that hold the model.

    Raises:
        WardlineError: there are not `expected` of them.
    """
    process = psutil.Process(pid)
    family = (process, *process.children(recursive=True))
    found: list[int] = [each.pid for each in family if WORKER in " ".join(each.cmdline())]
    if len(found) != expected:
        raise WardlineError(f"found {len(found)} workers of the service, expected {expected}")
    return tuple(found)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and its group: politely first, then not."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            _signal_group(process.pid, sent)
            try:
                process.wait(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                continue
    _signal_group(process.pid, signal.SIGKILL)  # children that outlived their parent


def _signal_group(group: int, sent: signal.Signals) -> None:
    try:
        os.killpg(group, sent)
    except ProcessLookupError:
        return
