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
        self._connection.request("POST", "/v1/ads:moderate", body, HEADERS)
        if self._connection.sock is not self._socket:
            self._socket = self._connection.sock
            self.connections += 1
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise WardlineError(f"the service answered {answer.status}: {content[:300]!r}")
        return content


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
