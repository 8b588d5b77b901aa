"""The service under load, a process of its own: clients that wait for their answers, then requests by a clock.

Closed loops of several sizes find what the service can take; an open loop then brings a share of it, at random times,
and once more while an adapter is swapped.
The clients share the machine with the service, so that what they cost is measured, too.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

from eval.bench.connections import spread_over, worker_at
from eval.bench.http_client import OK, Client, is_flagged, outcome_of
from eval.bench.loops import Ran, poisson_arrivals, run_clients
from eval.bench.request import single_bodies
from eval.bench.swap import swapping
from eval.peers.measure import Figures, Job, run
from retrieval_shared.errors import WardlineError

WORKERS = 2
CLIENTS = (1, 8, 32)
"""Clients of each closed loop."""
SHARE = 0.7
"""Of the capacity, for the open loop: what a service is run at that is to keep its answers quick."""
OPEN_CLIENTS = 32
"""Connections that the open loop may use at once."""
REGIONS = ("US", "DE", "ID")
"""Every ad is decided for each of them."""
WARM_UP = 2
"""Requests on each connection before the clock starts."""
OPEN, SWAPPED = "open", "open-meanwhile"
"""Keys of the open loops; in the middle of the second an adapter is swapped."""
LEVELS = len(CLIENTS) + 2
"""Closed and open loops."""


def measure(job: Job) -> Figures:
    """Return the figures of every level, and what the service can take.

    Args:
        job: `port` and `workers` (processes) of the service, `ads` (sent in turn), `requests` of each level, `limit_s`
            (no request of a level is sent later), `seed` of the arrivals; `adapters` and `bundle` for `swapping`.

    Raises:
        WardlineError: no request of a level was decided, a worker cannot be reached, or it does not follow the swap.
    """
    opened = {str(clients): as_opened(job, clients) for clients in CLIENTS}
    levels = [measure_level(job, f"closed-{clients}", clients=clients) for clients in CLIENTS]
    capacity = max(each["requests_per_s"] for each in levels)
    arrivals = arrivals_within(job, rate=SHARE * capacity)
    levels.append(measure_level(job, OPEN, clients=OPEN_CLIENTS, arrivals=arrivals))
    with swapping(job) as swap:
        levels.append(measure_level(job, SWAPPED, clients=OPEN_CLIENTS, arrivals=arrivals, during=swap))
    return {"levels": levels, "capacity": capacity, "rate": SHARE * capacity, "as_opened": opened}


def arrivals_within(job: Job, *, rate: float) -> list[float]:
    """Return when the requests of an open loop are due, those left out that would come after the time."""
    due = poisson_arrivals(int(job["requests"]), rate=rate, seed=int(job["seed"]))
    return [at for at in due if at < float(job["limit_s"])]


def measure_level(
    job: Job,
    key: str,
    *,
    clients: int,
    arrivals: Sequence[float] | None = None,
    during: Callable[[], Figures] | None = None,
) -> Figures:
    """Return the figures of one run of clients, their connections spread evenly over the workers.

    Args:
        job: what `measure` is given.
        key: names the run.
        clients: how many.
        arrivals: when requests are due (None: as soon as a client is free).
        during: called once in the middle; `swap` among the figures is what it returns, None without.

    Raises:
        WardlineError: no request was decided, or what `during` raises.
    """
    n = int(job["requests"]) if arrivals is None else len(arrivals)
    bodies = single_bodies(job["ads"], n=n, explain="none", run=key, regions=REGIONS)
    connections = _spread(job, clients)
    swaps: list[Figures] = []
    try:
        for i, connection in enumerate(connections):
            _warm_up(connection, job["ads"], run=f"{key}-w{i}")
        before = time.process_time()
        ran = run_clients(
            [connection.outcome for connection in connections],
            bodies,
            limit_s=float(job["limit_s"]),
            arrivals=arrivals,
            during=None if during is None else lambda: swaps.append(during()),
        )
        cpu_s = time.process_time() - before
    finally:
        for connection in connections:
            connection.close()
    reopened = sum(connection.connections - 1 for connection in connections)
    return {"key": key, "clients": clients, **figures_of(ran, wanted=int(job["requests"]), cpu_s=cpu_s),
            "reopened": reopened, "swap": swaps[0] if swaps else None}  # fmt: skip


def figures_of(ran: Ran, *, wanted: int, cpu_s: float) -> Figures:
    """Return the figures of a run; latencies and the rate are those of requests whose ad was decided.

    Raises:
        WardlineError: there was none.
    """
    decided = [each for each in ran.sent if each.outcome == OK]
    outcomes = dict(Counter(each.outcome for each in ran.sent))
    if not decided:
        raise WardlineError(f"under load no request was decided: {outcomes}")
    wall_s = max(each.ended_s for each in ran.sent)
    meanwhile = None
    if ran.during_s is not None:
        begun, ended = ran.during_s
        touched = [each for each in ran.sent if each.due_s <= ended and each.ended_s >= begun]
        latencies = [each.latency_ms for each in touched if each.outcome == OK]
        meanwhile = {"took_s": ended - begun, "requests": len(touched), "latency_ms": latencies}
    return {
        "wanted": wanted,
        "sent": len(ran.sent),
        "outcomes": outcomes,
        "wall_s": wall_s,
        "requests_per_s": len(decided) / wall_s,
        "latency_ms": [each.latency_ms for each in decided],
        "late_ms": [each.late_ms for each in ran.sent],
        "client_cpu_ms": 1_000 * cpu_s / len(ran.sent),
        "meanwhile": meanwhile,
    }


def as_opened(job: Job, clients: int) -> list[int]:
    """Return how many of so many connections, opened at once, end in each worker when that is left to the system."""
    connections = [Client(int(job["port"])) for _ in range(clients)]
    for connection in connections:
        connection.open()
    found = Counter(_worker(job, _touched(connection)) for connection in connections)
    for connection in connections:
        connection.close()
    return sorted((found[worker] for worker in job["workers"]), reverse=True)


def _spread(job: Job, clients: int) -> list[Client]:
    return spread_over(
        job["workers"],
        clients,
        connect=lambda: _touched(Client(int(job["port"]))),
        worker_of=lambda connection: _worker(job, connection),
    )


def _touched(connection: Client) -> Client:
    connection.touch()  # until it is asked something, no worker need have taken it
    return connection


def _worker(job: Job, connection: Client) -> int | None:
    return worker_at(connection.local_port, job["workers"])


def _warm_up(connection: Client, ads: Sequence[str], *, run: str) -> None:
    """Send a few requests, and hold the quick look at an answer against a thorough one.

    Raises:
        WardlineError: the service does not decide them.
    """
    for body in single_bodies(ads, n=WARM_UP, explain="none", run=run, regions=REGIONS):
        answer = connection.post(body)
        is_flagged(answer)
        if (found := outcome_of(200, answer)) != OK:
            raise WardlineError(f"a decided ad is taken for {found!r}: the form of the answer has changed")


if __name__ == "__main__":
    run(measure)
