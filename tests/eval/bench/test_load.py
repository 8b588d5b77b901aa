"""The load against a server of this test's own on loopback, and against levels that are made up."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from eval.bench import load
from eval.bench.load import LEVELS, REGIONS, arrivals_within, as_opened, figures_of, measure, measure_level
from eval.bench.loops import Ran, Sent
from eval.peers.measure import Figures, Job
from retrieval_shared.errors import WardlineError

SWAP = object()
"""Known again by its identity."""
DECIDED = {"status": "ok", "degraded": False, "decisions": [{"entries": []}] * 3}


class Service(BaseHTTPRequestHandler):
    """Decides every ad, but not those whose text says so."""

    protocol_version = "HTTP/1.1"
    items: list[dict[str, Any]]

    def do_GET(self) -> None:
        self._answer(200, b"")

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        (item,) = request["items"]
        self.items.append(item)
        is_warm_up = "-w" in item["id"]
        refused = item["fields"]["text"] == "refuse" and not is_warm_up
        result = DECIDED if item["fields"]["text"] != "cannot" else {"status": "error"}
        content = json.dumps({"results": [result]}, separators=(",", ":")).encode()
        self._answer(503 if refused else 200, content)

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def items() -> list[dict[str, Any]]:
    """What the service was sent."""
    return []


@pytest.fixture
def port(items: list[dict[str, Any]]) -> Iterator[int]:
    handler = type("Noting", (Service,), {"items": items})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def job_for(port: int, *ads: str, requests: int = 20) -> Job:
    return {"port": port, "workers": [os.getpid()], "ads": list(ads), "requests": requests, "limit_s": 60, "seed": 1}


def test_a_closed_loop_sends_each_request_once_for_every_region(port: int, items: list[dict[str, Any]]) -> None:
    found = measure_level(job_for(port, "tea", "bread"), "closed-4", clients=4)
    sent = [item for item in items if "-w" not in item["id"]]
    assert sorted(item["id"] for item in sent) == sorted(f"closed-4-{i}" for i in range(20))
    assert {tuple(item["regions"]) for item in sent} == {REGIONS}
    assert (found["key"], found["clients"], found["wanted"], found["sent"]) == ("closed-4", 4, 20, 20)
    assert found["outcomes"] == {"ok": 20}
    assert len(found["latency_ms"]) == 20
    assert (found["reopened"], found["meanwhile"], found["swap"]) == (0, None, None)
    assert found["requests_per_s"] == pytest.approx(20 / found["wall_s"])
    assert len({item["id"] for item in items} - {item["id"] for item in sent}) == 8  # two on each connection before


def test_what_is_refused_is_an_error_and_no_latency(port: int) -> None:
    found = measure_level(job_for(port, "tea", "refuse", "tea", "tea"), "closed-2", clients=2)
    assert found["outcomes"] == {"ok": 15, "status 503": 5}
    assert len(found["latency_ms"]) == 15


def test_a_service_that_decides_nothing_is_not_measured(port: int) -> None:
    with pytest.raises(WardlineError, match="without its model, or not at all"):
        measure_level(job_for(port, "cannot"), "closed-1", clients=1)
    with pytest.raises(WardlineError, match=r"no request was decided: \{'status 503': 20\}"):
        measure_level(job_for(port, "refuse"), "closed-1", clients=1)


def test_what_happens_in_the_middle_is_told_with_the_figures(port: int) -> None:
    found = measure_level(job_for(port, "tea"), "open", clients=2, arrivals=[0.0] * 4, during=lambda: {"slot": "one"})
    assert found["swap"] == {"slot": "one"}
    assert found["meanwhile"]["took_s"] >= 0
    assert found["meanwhile"]["requests"] == len(found["meanwhile"]["latency_ms"])  # all were decided


def test_connections_are_counted_where_the_system_puts_them(port: int) -> None:
    assert as_opened(job_for(port, "tea"), 3) == [3]


# ---- figures of a run


def test_figures_of_a_run_are_those_of_decided_requests() -> None:
    """Three in 4 s, two of them decided; the second was sent half a second late."""
    ran = Ran((Sent(0, 0, 1, "ok"), Sent(1, 1.5, 3, "ok"), Sent(2, 2, 4, "status 503")), None)
    found = figures_of(ran, wanted=5, cpu_s=0.006)
    assert (found["wanted"], found["sent"], found["wall_s"]) == (5, 3, 4)
    assert found["requests_per_s"] == 0.5
    assert found["latency_ms"] == [1_000, 2_000]
    assert found["late_ms"] == [0, 500, 0]
    assert found["client_cpu_ms"] == pytest.approx(2.0)
    assert found["meanwhile"] is None


def test_requests_that_a_swap_touched_are_those_on_their_way_meanwhile() -> None:
    """The swap is from 2 to 3 s: the first answer came before it, the last request was due after it; one is refused."""
    sent = (
        Sent(0, 0, 1, "ok"), Sent(1, 1, 2.5, "ok"), Sent(2.2, 2.2, 2.4, "ok"), Sent(2.5, 2.5, 3.5, "status 503"),
        Sent(4, 4, 5, "ok"),
    )  # fmt: skip
    found = figures_of(Ran(sent, (2.0, 3.0)), wanted=5, cpu_s=0.0)
    assert (found["meanwhile"]["took_s"], found["meanwhile"]["requests"]) == (1.0, 3)
    assert found["meanwhile"]["latency_ms"] == pytest.approx([1_500, 200])


# ---- levels


def test_requests_that_would_come_after_the_time_are_left_out() -> None:
    job: Job = {"requests": 1_000, "limit_s": 3.0, "seed": 5}
    due = arrivals_within(job, rate=100.0)
    assert due[-1] < 3.0
    assert 200 < len(due) < 400  # 300 on average, deviation 17
    assert len(arrivals_within({**job, "limit_s": 600.0}, rate=100.0)) == 1_000


@pytest.fixture
def levels(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The levels that were asked for; so many clients are served at 10 requests/s each, up to 100."""
    asked: list[dict[str, Any]] = []

    def level(
        _: Job, key: str, *, clients: int, arrivals: Sequence[float] | None = None, during: object = None
    ) -> Figures:
        asked.append({"key": key, "clients": clients, "arrivals": arrivals, "during": during, "ready": bool(ready)})
        return {"key": key, "requests_per_s": min(100.0, 10.0 * clients)}

    ready: list[Job] = []

    @contextmanager
    def swapping(job: Job) -> Iterator[object]:
        ready.append(job)
        yield SWAP
        ready.clear()

    monkeypatch.setattr(load, "measure_level", level)
    monkeypatch.setattr(load, "swapping", swapping)
    monkeypatch.setattr(load, "as_opened", lambda _, clients: [clients, 0])
    return asked


def test_the_open_loop_brings_a_share_of_what_the_fastest_closed_loop_took(levels: list[dict[str, Any]]) -> None:
    found = measure({"requests": 5_000, "limit_s": 600.0, "seed": 5})
    assert [each["key"] for each in levels] == ["closed-1", "closed-8", "closed-32", "open", "open-meanwhile"]
    assert [each["clients"] for each in levels] == [1, 8, 32, 32, 32]
    assert len(found["levels"]) == LEVELS
    assert (found["capacity"], found["rate"]) == (100.0, 70.0)
    due = levels[-2]["arrivals"]
    assert len(due) == 5_000
    assert 5_000 / due[-1] == pytest.approx(70.0, rel=4 / 5_000**0.5)
    assert found["as_opened"] == {"1": [1, 0], "8": [8, 0], "32": [32, 0]}


def test_a_swap_comes_in_an_open_loop_of_its_own_by_the_same_clock(levels: list[dict[str, Any]]) -> None:
    measure({"requests": 50, "limit_s": 600.0, "seed": 5})
    *others, steady, swapped = levels
    assert (swapped["key"], swapped["during"], swapped["ready"]) == ("open-meanwhile", SWAP, True)
    assert not any(each["during"] or each["ready"] for each in (*others, steady))
    assert swapped["arrivals"] == steady["arrivals"]
