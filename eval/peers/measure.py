"""What every measured process does: read its job, load, time single texts and the batch, write its figures.

Knows no stack and needs only the standard library and psutil, because it also runs in the peers' environment.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

Job = dict[str, Any]
Figures = dict[str, Any]

WARM_UP = 8
"""Calls before the clock starts: first runs allocate."""
PROBES = 4
"""Texts whose vectors are compared between stacks."""


@dataclass(frozen=True)
class Stack:
    """One way to read texts, loaded."""

    one: Callable[[str], object]
    """Reads a single text."""
    many: Callable[[Sequence[str]], object]
    """Reads n texts, as fast as the stack can when it has them all."""
    packages: tuple[str, ...]
    """Distributions whose versions count."""
    vectors: Callable[[Sequence[str]], Any] | None = None
    """Gives unit vectors `[n, d]`, where stacks are held against each other."""
    close: Callable[[], object] | None = None
    """Ends what would keep the process from ending."""


def run(measure: Callable[[Job], Figures], arguments: Sequence[str] | None = None) -> None:
    """Measure the job in the file that the first argument names and write the figures into the second.

    Raises:
        ValueError: there are not two arguments.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 2:
        raise ValueError(f"arguments: found {len(given)}, expected the job file and the result file")
    job = json.loads(Path(given[0]).read_text(encoding="utf-8"))
    Path(given[1]).write_text(json.dumps(measure(job)), encoding="utf-8")


def measure_stack(stack: Stack, job: Job) -> Figures:
    """Return the figures of one stack that has just been loaded, and close it.

    Args:
        stack: what is measured.
        job: `started` (time of the process's start), `ads` (single texts), `requests` (single calls to time; may be 0)
            and `texts` (the batch).
    """
    try:
        return _figures(stack, job)
    finally:
        if stack.close is not None:
            stack.close()


def _figures(stack: Stack, job: Job) -> Figures:
    stack.one(job["ads"][0])
    ready_s = time.time() - job["started"]
    loaded = resident_mb()
    latencies = time_calls(stack.one, job["ads"], calls=job["requests"])
    stack.many(job["texts"][:WARM_UP])
    batch = time_once(lambda: stack.many(job["texts"]))
    return {
        "ready_s": ready_s,
        "latency_ms": latencies,
        "batch": {**batch, "texts": len(job["texts"])},
        "memory_mb": {"loaded": loaded, "after": resident_mb()},
        "versions": versions(stack.packages),
        "vectors": [[float(x) for x in row] for row in stack.vectors(job["texts"][:PROBES])] if stack.vectors else None,
    }


def time_calls(call: Callable[[Any], object], inputs: Sequence[Any], *, calls: int) -> list[float]:
    """Return the milliseconds of each of `calls` calls, one after the other, over the inputs in turn.

    `WARM_UP` calls are made before, unless none are asked for.
    """
    if calls == 0:
        return []
    for i in range(WARM_UP):
        call(inputs[i % len(inputs)])
    found = []
    for i in range(calls):
        given = inputs[i % len(inputs)]
        start = time.perf_counter()
        call(given)
        found.append(1_000 * (time.perf_counter() - start))
    return found


def time_once(call: Callable[[], object]) -> dict[str, float]:
    """Return the seconds one call takes, on the clock and of processor time."""
    start, start_cpu = time.perf_counter(), time.process_time()
    call()
    return {"wall_s": time.perf_counter() - start, "cpu_s": time.process_time() - start_cpu}


def resident_mb(pid: int | None = None) -> float:
    """Return the resident memory of a process (None: this one), in 10^6 bytes."""
    import psutil

    return float(psutil.Process(pid or os.getpid()).memory_info().rss) / 1e6


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the installed version of each distribution; a missing one is left out."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
