from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle

import pytest

from eval.bench import connections
from eval.bench.connections import MOST_TRIES, answering_worker, spread_over, worker_at
from eval.bench.processes import free_port
from retrieval_shared.errors import WardlineError

ONE, OTHER, STRANGER = 11, 22, 99


@dataclass
class Fake:
    """A connection that ended in some worker."""

    worker: int | None
    closed: bool = False

    def close(self) -> None:
        self.closed = True


def opening(*workers: int | None) -> tuple[list[Fake], cycle[int | None]]:
    return [], cycle(workers)


def spread(n: int, *workers: int | None) -> tuple[list[Fake], list[Fake]]:
    """Return those kept and those opened, the system giving connections to the workers in turn."""
    opened, turns = opening(*workers)

    def connect() -> Fake:
        opened.append(Fake(next(turns)))
        return opened[-1]

    kept = spread_over([ONE, OTHER], n, connect=connect, worker_of=lambda each: each.worker)
    return kept, opened


def test_each_worker_gets_its_share_whatever_the_system_prefers() -> None:
    kept, opened = spread(8, ONE, ONE, ONE, ONE, ONE, OTHER)
    assert sorted(each.worker or 0 for each in kept) == [ONE] * 4 + [OTHER] * 4
    assert [each.closed for each in opened] == [each not in kept for each in opened]
    assert not any(each.closed for each in kept)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 32])
def test_shares_differ_by_one_at_most(n: int) -> None:
    kept, _ = spread(n, ONE, OTHER)
    first = sum(each.worker == ONE for each in kept)
    assert len(kept) == n
    assert abs(first - (n - first)) <= 1


def test_connections_of_nobody_known_are_not_kept() -> None:
    kept, _ = spread(2, None, STRANGER, ONE, OTHER)
    assert {each.worker for each in kept} == {ONE, OTHER}


def test_a_worker_that_takes_none_is_told_and_nothing_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_TRIES", 10)
    opened, turns = opening(ONE)

    def connect() -> Fake:
        opened.append(Fake(next(turns)))
        return opened[-1]

    with pytest.raises(WardlineError, match="of 4 connections 2 could be spread over 2 workers"):
        spread_over([ONE, OTHER], 4, connect=connect, worker_of=lambda each: each.worker)
    assert len(opened) == 10
    assert all(each.closed for each in opened)
    assert MOST_TRIES > 32


def test_the_process_at_the_other_end_of_a_connection_is_found() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other,
    ):
        taken, _ = server.accept()
        port = client.getsockname()[1]
        with taken:
            assert worker_at(port, [other.pid, os.getpid()]) == os.getpid()
            assert worker_at(port, [other.pid]) is None
        other.kill()


class Alive(BaseHTTPRequestHandler):
    """Says nothing, and keeps the connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def test_the_worker_that_answers_is_told() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Alive) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        assert answering_worker(server.server_port, [os.getpid()]) == os.getpid()
        server.shutdown()
        thread.join()


def test_where_nobody_listens_no_worker_answers() -> None:
    assert answering_worker(free_port(), [os.getpid()]) is None
