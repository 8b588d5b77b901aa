"""From the figures of the load to the report's table, curves and targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.bench.http_client import OK
from eval.bench.load import OPEN, REGIONS, SHARE, SWAPPED
from eval.bench.summary import Target
from eval.metrics.timing import percentile

P99_MS = 100.0
"""Within which 99 of 100 answers are to come at `SHARE` of the capacity."""
SHARES = tuple(share / 100 for share in range(2, 99, 2)) + (0.99, 0.995, 0.999, 1.0)
"""Points of a curve: shares of the requests."""

Part = Mapping[str, Any]


def summary(figures: Part) -> dict[str, Any]:
    """Return what the report says of the load, from what `eval.bench.load` measured."""
    levels = [level_record(level) for level in figures["levels"]]
    memory = figures["memory_mb"]
    return {
        "workers": len(memory["after"]),
        "regions": list(REGIONS),
        "capacity": figures["capacity"],
        "share": SHARE,
        "rate": figures["rate"],
        "requests": sum(level["sent"] for level in levels),
        "errors": sum(level["errors"] for level in levels),
        "as_opened": figures["as_opened"],
        "memory_mb": memory,
        "levels": levels,
    }


def level_record(level: Part) -> dict[str, Any]:
    """Return one level: its rate, errors, percentiles and the curve of its latencies."""
    latencies: Sequence[float] = level["latency_ms"]
    record = {
        "key": level["key"],
        "title": title_of(level),
        **{name: level[name] for name in ("clients", "wanted", "sent", "requests_per_s", "client_cpu_ms", "reopened")},
        "errors": level["sent"] - len(latencies),
        "outcomes": {name: n for name, n in level["outcomes"].items() if name != OK},
        "p50_ms": percentile(latencies, 0.50),
        "p99_ms": percentile(latencies, 0.99),
        "max_ms": max(latencies),
        "late_p99_ms": percentile(level["late_ms"], 0.99),
        "curve": [[100 * share, percentile(latencies, share)] for share in SHARES],
        "meanwhile": None,
    }
    if level["meanwhile"] is not None:
        touched = level["meanwhile"]["latency_ms"]
        record["meanwhile"] = {
            "took_s": level["meanwhile"]["took_s"],
            "requests": level["meanwhile"]["requests"],
            "errors": level["meanwhile"]["requests"] - len(touched),
            "p99_ms": percentile(touched, 0.99) if touched else None,
            "max_ms": max(touched, default=None),
            "swap": level["swap"],
        }
    return record


def title_of(level: Part) -> str:
    """Return how a level is called."""
    if level["key"] == OPEN:
        return f"open loop, {SHARE:.0%} of the capacity"
    if level["key"] == SWAPPED:
        return "the same, an adapter swapped meanwhile"
    return f"closed loop, {level['clients']} client{'s' * (level['clients'] > 1)}"


def targets(load: Part) -> list[Target]:
    """Return the open loop's p99 and the errors of all levels beside their limits; `load` is what `summary` returns."""
    (steady,) = (level for level in load["levels"] if level["key"] == OPEN)
    name = f"p99 under open load, {SHARE:.0%} of the capacity"
    errors = f"errors in {load['requests']:,} requests under load"
    return [
        Target(name, steady["p99_ms"], P99_MS, "ms", met=steady["p99_ms"] < P99_MS),
        Target(errors, float(load["errors"]), 0.0, "requests", met=load["errors"] == 0),
    ]
