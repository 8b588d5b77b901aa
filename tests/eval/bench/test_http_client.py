from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from eval.bench.http_client import OK, Client, is_flagged, outcome_of
from retrieval_shared.errors import WardlineError


def answer(*results: dict[str, object]) -> bytes:
    return json.dumps({"results": results}).encode()


OK_RESULT: dict[str, object] = {"status": "ok", "degraded": False}


def test_an_item_is_flagged_when_a_policy_is_touched_in_any_region() -> None:
    clean = {**OK_RESULT, "decisions": [{"entries": []}, {"entries": []}]}
    touched = {**OK_RESULT, "decisions": [{"entries": []}, {"entries": [{"policy": "gambling"}]}]}
    assert is_flagged(answer(clean, touched)) == [False, True]


@pytest.mark.parametrize("bad", [{"status": "error"}, {"status": "ok", "degraded": True, "decisions": []}])
def test_an_answer_without_the_model_is_not_measured(bad: dict[str, object]) -> None:
    with pytest.raises(WardlineError, match="without its model, or not at all"):
        is_flagged(answer(bad))


def compact(*results: dict[str, object]) -> bytes:
    """An answer as the service writes it, without blanks."""
    return json.dumps({"results": results}, separators=(",", ":")).encode()


def test_the_quick_look_at_an_answer_sees_what_the_thorough_one_refuses() -> None:
    assert outcome_of(200, compact({**OK_RESULT, "decisions": []})) == OK
    assert outcome_of(200, compact({"status": "error"})) == "not decided"
    assert outcome_of(200, compact({"status": "ok", "degraded": True})) == "not decided"
    assert outcome_of(503, b"") == "status 503"


class Echo(BaseHTTPRequestHandler):
    """Answers a request with the status its body names; hangs up on `0`."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        status = int(self.rfile.read(int(self.headers["Content-Length"])))
        if status == 0:
            self.close_connection = True
            return
        content = compact({**OK_RESULT, "decisions": []})
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_one_connection_is_kept_and_opened_again_after_no_answer(port: int) -> None:
    client = Client(port)
    assert [client.outcome(body) for body in (b"200", b"503", b"200")] == [OK, "status 503", OK]
    assert client.connections == 1
    assert client.outcome(b"0") == "no answer: RemoteDisconnected"
    assert client.outcome(b"200") == OK
    assert client.connections == 2
    client.close()


def test_an_answer_that_must_be_there_raises(port: int) -> None:
    client = Client(port)
    with pytest.raises(WardlineError, match="the service answered 503"):
        client.post(b"503")
    client.close()


def test_nobody_listening_is_an_outcome() -> None:
    from eval.bench.processes import free_port

    client = Client(free_port())
    assert client.outcome(b"200") == "no answer: ConnectionRefusedError"
    client.close()
