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
from dataclasses import dataclass
from pathlib import Path

import psutil

from eval.bench.environment import ROOT
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
}
WORKER = "_bentoml_impl.worker.service"
"""In the command line of the process that holds the model."""
STOP_S = 15
POLL_S = 0.02
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Processes:
    """Measures a stack by running it."""

    bundle: Path
    """The bundle that our stacks load."""
    peers_python: Path | None
    """Interpreter of the peers' environment; None when no peer is measured."""
    folder: Path
    """For jobs, results, databases and logs; the caller removes it."""

    def measure(self, stack: Stack, job: Job, timeout_s: float) -> Figures:
        """Return the figures of one stack.

        Raises:
            WardlineError: it failed or did not end in `timeout_s` seconds.
        """
        if stack.key == HTTP:
            return self._measure_service(stack, job, timeout_s)
        given = {**job, **stack.settings, "bundle": str(self.bundle), "database": self._database("inprocess")}
        return self.run(stack.module, given, timeout_s=timeout_s, peer=stack.is_peer)

    def run(self, module: str, job: Job, *, timeout_s: float, peer: bool = False) -> Figures:
        """Return what `python -m module` writes about `job`.

        Raises:
            WardlineError: it failed or did not end in time.
        """
        python = self.peers_python if peer else Path(sys.executable)
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
            raise WardlineError(f"{module} failed ({code}): {self._last_line(module)}")
        figures: Figures = json.loads(result_file.read_text(encoding="utf-8"))
        return figures

    def _measure_service(self, stack: Stack, job: Job, timeout_s: float) -> Figures:
        port, start = free_port(), time.monotonic()
        command = [sys.executable, str(ROOT / "wardline.py"), "serve", "--host", LOOPBACK, "--port", str(port)]
        own = {"WARDLINE_BUNDLE": str(self.bundle), "WARDLINE_DATABASE": self._database("service")}
        with self._started(command, name="service", own=own) as process:
            self._await_ready(process, port, deadline=start + timeout_s)
            ready_s = time.monotonic() - start
            worker = worker_of(process.pid)
            loaded = resident_mb(worker)
            left = timeout_s - (time.monotonic() - start)
            figures = self.run(stack.module, {**job, "port": port}, timeout_s=left)
            memory = {"loaded": loaded, "after": resident_mb(worker), "parent": resident_mb(process.pid)}
        return {**figures, "ready_s": ready_s, "memory_mb": memory}

    def _await_ready(self, process: subprocess.Popen[bytes], port: int, *, deadline: float) -> None:
        while not is_ready(port):
            if process.poll() is not None:
                raise WardlineError(f"the service ended with {process.returncode}: {self._last_line('service')}")
            if time.monotonic() > deadline:
                raise WardlineError("the service was not ready in time")
            time.sleep(POLL_S)

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


def worker_of(pid: int) -> int:
    """Return the process, `pid` or below it, that holds the model.

    Raises:
        WardlineError: there is not exactly one.
    """
    process = psutil.Process(pid)
    family = (process, *process.children(recursive=True))
    found: list[int] = [each.pid for each in family if WORKER in " ".join(each.cmdline())]
    if len(found) != 1:
        raise WardlineError(f"found {len(found)} workers of the service, expected 1")
    return found[0]


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
