"""The bench's HTTP client, a process of its own: one connection, one request at a time, answers checked."""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from typing import Any

from eval.bench.request import batch_bodies, single_bodies
from eval.peers.measure import Figures, Job, run, time_calls, time_once
from retrieval_shared.errors import WardlineError

TIMEOUT_S = 60
HEADERS = {"Content-Type": "application/json"}
PATH = "/v1/ads:moderate"
OK = "ok"
"""The outcome of a request whose ad was decided, with the model."""
DECIDED, DEGRADED = b'"status":"ok"', b'"degraded":true'
"""What an answer about one ad must hold and must not: to look for that costs a busy client next to nothing."""


class Client:
    """One kept-alive connection to the service on this machine."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        self._socket: object = None
        self.connections = 0
        """How often a connection was opened: 1 when it was kept."""

    def post(self, body: bytes) -> bytes:
        """Return the answer's body.

        Raises:
            WardlineError: the status is not 200.
        """
        status, content = self._exchange("POST", PATH, body)
        if status != 200:
            raise WardlineError(f"the service answered {status}: {content[:300]!r}")
        return content

    def outcome(self, body: bytes) -> str:
        """Return `ok` when the one ad in `body` was decided, else what happened; never raises for want of an answer."""
        try:
            return outcome_of(*self._exchange("POST", PATH, body))
        except (OSError, http.client.HTTPException) as error:
            self.close()  # the next request opens it again
            return f"no answer: {type(error).__name__}"

    def touch(self) -> None:
        """Ask whether the process at the other end lives, so that one has taken the connection."""
        self._exchange("GET", "/livez", None)

    @property
    def local_port(self) -> int:
        """Return the port of this end of the open connection."""
        return int(self._connection.sock.getsockname()[1])

    def open(self) -> None:
        """Open the connection."""
        self._connection.connect()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        self._connection.request(method, path, body, HEADERS)
        if self._connection.sock is not self._socket:
            self._socket = self._connection.sock
            self.connections += 1
        answer = self._connection.getresponse()
        return answer.status, answer.read()


def outcome_of(status: int, content: bytes) -> str:
    """Return `ok` for an answer in which the ad was decided with the model, else what is wrong with it."""
    if status != 200:
        return f"status {status}"
    return OK if DECIDED in content and DEGRADED not in content else "not decided"


def is_flagged(answer: bytes) -> list[bool]:
    """Return per item of an answer whether any policy was touched.

    Raises:
        WardlineError: an item was not decided, or without the model.
    """
    results: list[dict[str, Any]] = json.loads(answer)["results"]
    if any(result["status"] != "ok" or result["degraded"] for result in results):
        raise WardlineError("the service decided an item without its model, or not at all")
    return [any(region["entries"] for region in result["decisions"]) for result in results]


def measure(job: Job) -> Figures:
    """Return the latencies of single ads, without and with evidence, and the time of the batch."""
    client = Client(int(job["port"]))
    ads: Sequence[str] = job["ads"]
    flagged = [is_flagged(client.post(body))[0] for body in single_bodies(ads, n=len(ads), explain="none", run="f")]
    plain = single_bodies(ads, n=job["requests"], explain="none", run="n")
    spans = single_bodies(ads, n=job["explained"], explain="spans", run="s")
    bodies = batch_bodies(job["texts"], run="b")
    answers: list[bytes] = []
    return {
        "latency_ms": time_calls(client.post, plain, calls=len(plain)),
        "spans_ms": time_calls(client.post, spans, calls=len(spans)),
        "batch": {
            **time_once(lambda: answers.extend(map(client.post, bodies))),
            "cpu_s": None,  # the work is done in another process
            "texts": sum(len(is_flagged(answer)) for answer in answers),
        },
        "flagged": flagged,
        "connections": client.connections,
    }


if __name__ == "__main__":
    run(measure)
