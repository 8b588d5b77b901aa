from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eval.bench import processes as module
from eval.bench.environment import PEERS
from eval.bench.processes import Processes, Served, clean_environment, free_port, is_ready, stop, workers_of
from retrieval_shared.errors import WardlineError


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    return Processes(bundle=tmp_path / "none", folder=tmp_path, pythons={PEERS: Path(sys.executable)})


def test_a_failed_process_is_named_with_its_last_line(processes: Processes) -> None:
    with pytest.raises(WardlineError, match=r"eval.bench.inprocess failed \(1\): .*no model bundle"):
        processes.run("eval.bench.inprocess", {"bundle": str(processes.bundle)}, timeout_s=120)


def test_a_failed_peer_says_how_to_go_on_without(processes: Processes) -> None:
    """The package that is missing is named, too."""
    with pytest.raises(WardlineError, match=r"failed \(1\): .*no_such_package.*; without peers: --no-peers"):
        processes.run("no_such_package", {}, timeout_s=120, environment=PEERS)


def test_a_process_that_takes_too_long_is_ended(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess.Popen, "wait", _never_done_in_time(subprocess.Popen.wait))
    with pytest.raises(WardlineError, match="did not end within 1 s; measure fewer texts"):
        processes.run("http.server", {}, timeout_s=1)


def _never_done_in_time(wait: object) -> object:
    calls: list[object] = []

    def waits(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        calls.append(timeout)
        if len(calls) == 1:
            raise subprocess.TimeoutExpired(process.args, timeout or 0)
        assert callable(wait)
        return int(wait(process, timeout))

    return waits


def test_the_load_runs_against_a_service_of_several_workers_with_their_memory_beside_it(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[dict[str, Any]] = []

    @contextmanager
    def serving(_: Processes, *, workers: int, timeout_s: float) -> Iterator[Served]:
        assert (workers, timeout_s) == (2, 60.0)
        yield Served(3_000, 1, (os.getpid(), os.getpid()), time.monotonic(), 2.0)

    def run(_: Processes, module: str, job: dict[str, Any], *, timeout_s: float) -> dict[str, Any]:
        assert (module, 0 < timeout_s <= 60) == ("eval.bench.load", True)
        jobs.append(job)
        return {"levels": []}

    monkeypatch.setattr(Processes, "serving", serving)
    monkeypatch.setattr(Processes, "run", run)
    found = processes.measure_load({"requests": 20}, workers=2, timeout_s=60.0)
    folders = {"adapters": str(processes.folder / "adapters"), "bundle": str(processes.bundle)}
    assert jobs == [{"requests": 20, "port": 3_000, "workers": [os.getpid()] * 2, **folders}]
    assert found["levels"] == []
    assert [len(found["memory_mb"][name]) for name in ("loaded", "after")] == [2, 2]


def test_every_worker_is_waited_for(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first to be ready answers for all until the second is."""
    answers = iter([None, 11, 11, 22])
    monkeypatch.setattr(module, "answering_worker", lambda *_: next(answers))
    monkeypatch.setattr(module, "POLL_S", 0)
    running: Any = SimpleNamespace(poll=lambda: None)
    deadline = time.monotonic() + 60
    processes._await_workers(running, 3_000, (11, 22), deadline=deadline)
    assert list(answers) == []
    processes._await_workers(running, 3_000, (11,), deadline=deadline)  # one alone has answered already


def test_a_service_that_ends_is_not_waited_for(processes: Processes) -> None:
    (processes.folder / "service.log").write_text("noise\nno such bundle\n", encoding="utf-8")
    ended: Any = SimpleNamespace(poll=lambda: 3, returncode=3)
    with pytest.raises(WardlineError, match="the service ended with 3: no such bundle"):
        processes._await_workers(ended, 3_000, (11, 22), deadline=time.monotonic() + 60)
    running: Any = SimpleNamespace(poll=lambda: None)
    with pytest.raises(WardlineError, match="the service was not ready in time"):
        processes._await_workers(running, 3_000, (11, 22), deadline=time.monotonic() - 1)


def test_stop_ends_the_whole_group() -> None:
    child = "subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)"
    code = f"import subprocess, sys; p = {child}; print(p.pid, flush=True); p.wait()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) > 0
        stop(process)
        assert process.returncode != 0
        assert process.stdout.read() == b""  # ends only when the child, which holds it too, is gone


def test_a_free_port_can_be_bound_and_is_not_ready() -> None:
    port = free_port()
    assert not is_ready(port)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", port))


def test_our_settings_and_bentomls_do_not_reach_a_measured_process() -> None:
    given = {"PATH": "/bin", "WARDLINE_KEYS": "k", "BENTOML_HOME": "h", "PYTHONPATH": "p", "HOME": "/root"}
    assert clean_environment(given) == {"PATH": "/bin", "HOME": "/root"}


def test_a_process_that_is_no_service_has_no_worker() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        with pytest.raises(WardlineError, match="found 0 workers of the service, expected 1"):
            workers_of(process.pid)
        process.kill()


def test_every_worker_is_found_below_the_process_that_started_them() -> None:
    """A worker is known by its command line; the parent, which names it too, is one of the three."""
    child = "subprocess.Popen([sys.executable, '-c', 'input() # _bentoml_impl.worker.service'], stdin=subprocess.PIPE)"
    code = f"import subprocess, sys; both = [{child}, {child}]; print(flush=True); both[0].wait()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            assert len(set(workers_of(process.pid, expected=3))) == 3
        finally:
            stop(process)
