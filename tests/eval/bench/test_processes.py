from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from eval.bench.processes import Processes, clean_environment, free_port, is_ready, stop, worker_of
from retrieval_shared.errors import WardlineError


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    return Processes(bundle=tmp_path / "none", peers_python=None, folder=tmp_path)


def test_a_failed_process_is_named_with_its_last_line(processes: Processes) -> None:
    with pytest.raises(WardlineError, match=r"eval.bench.inprocess failed \(1\): .*no model bundle"):
        processes.run("eval.bench.inprocess", {"bundle": str(processes.bundle)}, timeout_s=120)


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
            worker_of(process.pid)
        process.kill()
