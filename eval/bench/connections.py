"""Which worker holds which connection, and as many to each: what a balancer in front of a service sees to."""

from __future__ import annotations

import http.client
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import psutil

from eval.bench.http_client import Client
from retrieval_shared.errors import WardlineError

MOST_TRIES = 400
"""Connections that are opened before it is given up: who takes one is up to the system."""


class Open(Protocol):
    """An open connection."""

    def close(self) -> None:
        """Close it."""


C = TypeVar("C", bound=Open)


def spread_over(
    workers: Sequence[int], n: int, *, connect: Callable[[], C], worker_of: Callable[[C], int | None]
) -> list[C]:  # fmt: skip
    """Return n open connections, the same number to each worker, one more to some where n cannot be shared evenly.

    Connections are opened one by one; one that ends in a worker that has its share is closed in the end.

    Args:
        workers: processes that answer.
        n: connections wanted.
        connect: opens one that is taken by a worker when it returns.
        worker_of: the process that holds its other end; None where it is not known.

    Raises:
        WardlineError: after `MOST_TRIES` some worker still lacks one.
    """
    room = Counter({worker: (n + i) // len(workers) for i, worker in enumerate(workers)})  # n in all
    kept: list[C] = []
    surplus: list[C] = []
    while len(kept) < n and len(kept) + len(surplus) < MOST_TRIES:
        opened = connect()
        worker = worker_of(opened)
        if worker is None or room[worker] == 0:
            surplus.append(opened)
            continue
        room[worker] -= 1
        kept.append(opened)
    for each in surplus if len(kept) == n else [*kept, *surplus]:
        each.close()
    if len(kept) < n:
        raise WardlineError(f"of {n} connections {len(kept)} could be spread over {len(workers)} workers")
    return kept


def answering_worker(port: int, workers: Sequence[int]) -> int | None:
    """Return which of the processes answers on a new connection to `port`; None: none of them, or nobody."""
    client = Client(port)
    try:
        client.touch()
        return worker_at(client.local_port, workers)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        client.close()


def worker_at(local_port: int, workers: Sequence[int]) -> int | None:
    """Return which of the processes holds the other end of this machine's connection from a port; None: none does."""
    for worker in workers:
        for connection in psutil.Process(worker).net_connections(kind="tcp"):
            if connection.raddr and connection.raddr.port == local_port:
                return worker
    return None
