"""From the figures of every round to the report's tables: spreads over rounds, ratios within them, targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.bench.stacks import FLOAT32, HTTP, INT8, WARDLINE, Stack
from eval.metrics.timing import Spread, difference, percentile, ratio, spread

Round = Mapping[str, Mapping[str, Any]]
"""Stack key -> its figures."""
Figure = Callable[[Mapping[str, Any]], float]
"""Reads one number off a stack's figures."""

HTTP_OVERHEAD_MS, RESIDENT_MB, READY_S = 3.0, 400.0, 10.0
"""What the service is built to stay within."""
POLICY_MS, RULES_MS, BACKTEST_S = 0.08, 0.5, 10.0
"""What deciding is built to stay within: per ad and region; 10,000 terms per ad; a backtest of 100,000 decisions."""


@dataclass(frozen=True)
class Target:
    """A figure held against what the service is built for."""

    name: str
    """What is held."""
    value: float
    """The median over rounds, where there are some."""
    limit: float
    """What it must not exceed; with `at_least`, what it must reach."""
    unit: str
    """Of both."""
    met: bool
    """Whether the value keeps to the limit."""
    at_least: bool = False
    """Whether more is better."""


def p50(figures: Mapping[str, Any]) -> float:
    """Return the median latency of single texts, milliseconds."""
    return percentile(figures["latency_ms"], 0.50)


def p99(figures: Mapping[str, Any]) -> float:
    """Return the 99th percentile of the latency of single texts, milliseconds."""
    return percentile(figures["latency_ms"], 0.99)


def texts_per_s(figures: Mapping[str, Any]) -> float:
    """Return the texts of the batch read in a second."""
    return float(figures["batch"]["texts"]) / float(figures["batch"]["wall_s"])


def cpu_ms(figures: Mapping[str, Any]) -> float:
    """Return the processor time of one text of the batch, milliseconds."""
    return 1_000 * float(figures["batch"]["cpu_s"]) / float(figures["batch"]["texts"])


def memory_after(figures: Mapping[str, Any]) -> float:
    """Return the resident memory after the batch, 10^6 bytes."""
    return float(figures["memory_mb"]["after"])


def memory_loaded(figures: Mapping[str, Any]) -> float:
    """Return the resident memory once loaded, 10^6 bytes."""
    return float(figures["memory_mb"]["loaded"])


def ready_s(figures: Mapping[str, Any]) -> float:
    """Return the seconds from the process's start to its first answer."""
    return float(figures["ready_s"])


SINGLE: Mapping[str, Figure] = {"p50_ms": p50, "p99_ms": p99}
ALWAYS: Mapping[str, Figure] = {
    "texts_per_s": texts_per_s,
    "memory_loaded_mb": memory_loaded,
    "memory_after_mb": memory_after,
    "ready_s": ready_s,
}
RATIOS: Mapping[str, Figure] = {
    "p50_ms": p50,
    "p99_ms": p99,
    "texts_per_s": texts_per_s,
    "memory_after_mb": memory_after,
    "ready_s": ready_s,
}


def stack_records(rounds: Sequence[Round], stacks: Sequence[Stack]) -> list[dict[str, Any]]:
    """Return per stack what it is and its figures over rounds; None for a figure it was not measured for."""
    return [
        {
            "key": stack.key,
            "title": stack.title,
            "what": stack.what,
            "versions": rounds[0][stack.key].get("versions", {}),
            "figures": _figures([each[stack.key] for each in rounds], single=stack.single),
        }
        for stack in stacks
    ]


def _figures(rounds: Sequence[Mapping[str, Any]], *, single: bool) -> dict[str, Spread | None]:
    found: dict[str, Spread | None] = {name: _over(rounds, figure) for name, figure in ALWAYS.items()}
    found |= {name: _over(rounds, figure) if single else None for name, figure in SINGLE.items()}
    measured = all(each["batch"]["cpu_s"] is not None for each in rounds)
    return {**found, "cpu_ms_per_text": _over(rounds, cpu_ms) if measured else None}


def _over(rounds: Sequence[Mapping[str, Any]], figure: Figure) -> Spread:
    return spread([figure(each) for each in rounds])


def ratio_records(rounds: Sequence[Round], stacks: Sequence[Stack]) -> list[dict[str, Any]]:
    """Return ours / theirs for each of our stacks and each peer, taken within rounds."""
    return [
        {
            "ours": ours.key,
            "peer": peer.key,
            "ratios": {
                name: ratio([figure(each[ours.key]) for each in rounds], [figure(each[peer.key]) for each in rounds])
                if peer.single or name not in SINGLE
                else None
                for name, figure in RATIOS.items()
            },
        }
        for ours in stacks
        if not ours.is_peer
        for peer in stacks
        if peer.is_peer
    ]


def overhead(rounds: Sequence[Round]) -> dict[str, Spread]:
    """Return what HTTP adds at p50, in milliseconds, in all and in its two parts.

    `http_ms` is HTTP over `Moderator.moderate`; of it `log_and_json_ms` is reading the request, logging the decision
    and writing the answer (the API in process over the moderator), `wire_ms` the rest: sockets, server, client.
    """
    whole = [p50(each[HTTP]) for each in rounds]
    answer = [percentile(each[WARDLINE]["answer_ms"], 0.50) for each in rounds]
    inside = [p50(each[WARDLINE]) for each in rounds]
    return {
        "http_ms": difference(whole, inside),
        "log_and_json_ms": difference(answer, inside),
        "wire_ms": difference(whole, answer),
        "ratio": ratio(whole, inside),
    }


def evidence(rounds: Sequence[Round], key: str) -> dict[str, Any]:
    """Return the latency with evidence asked for, over all ads and over those that any policy touched."""
    first: Sequence[bool] = rounds[0][key]["flagged"]
    chosen = [[ms for i, ms in enumerate(each[key]["spans_ms"]) if first[i % len(first)]] for each in rounds]
    flagged_only = None
    if all(chosen):
        flagged_only = {
            "p50_ms": spread([percentile(each, 0.50) for each in chosen]),
            "p99_ms": spread([percentile(each, 0.99) for each in chosen]),
        }
    return {
        "stack": key,
        "requests": len(rounds[0][key]["spans_ms"]),
        "ads": len(first),
        "flagged_ads": sum(first),
        "p50_ms": spread([percentile(each[key]["spans_ms"], 0.50) for each in rounds]),
        "p99_ms": spread([percentile(each[key]["spans_ms"], 0.99) for each in rounds]),
        "flagged_only": flagged_only,
    }


def deciding(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return what deciding costs, medians in milliseconds beside the model's of the same ads in the same process."""
    return {
        "model_ms": percentile(figures["model_ms"], 0.50),
        "policy_ms": percentile(figures["policy_ms"], 0.50),
        "regions": figures["regions"],
        **figures["signals"],
        "backtest": figures["backtest"],
    }


def targets(rounds: Sequence[Round], deciding: Mapping[str, Any]) -> list[Target]:
    """Return the service's figures beside their limits; `deciding` is what `eval.bench.deciding` measured."""
    service = [each[HTTP] for each in rounds]
    rows = (
        ("HTTP overhead at p50", overhead(rounds)["http_ms"].median, HTTP_OVERHEAD_MS, "ms"),
        ("resident memory of the worker after the batch", _over(service, memory_after).median, RESIDENT_MB, "MB"),
        ("start of the process to ready", _over(service, ready_s).median, READY_S, "s"),
        ("policy of one ad in one region, p50", percentile(deciding["policy_ms"], 0.50), POLICY_MS, "ms"),
        ("10,000 terms in one ad, p50", float(deciding["signals"]["terms_ms"]), RULES_MS, "ms"),
        ("backtest of 100,000 decisions, one core", float(deciding["backtest"]["wall_s"]), BACKTEST_S, "s"),
    )
    return [Target(name, value, limit, unit, met=value <= limit) for name, value, limit, unit in rows]


def agreement(figures: Round, stacks: Sequence[Stack]) -> float | None:
    """Return the least cosine between two peers' vectors of one text; None with fewer than two peers that gave some.

    Peers that read the same weights must agree, or one of them does less work than it says. Counted are those with the
    float32 weights, each held against the first of them.
    """
    given = _vectors(figures, stacks, FLOAT32)
    return _least_cosine(given[0], given[1:]) if len(given) > 1 else None


def agreement_int8(figures: Round, stacks: Sequence[Stack]) -> float | None:
    """Return the least cosine between a peer's vectors of int8 weights and the first float32 peer's; None without."""
    exact, rounded = _vectors(figures, stacks, FLOAT32), _vectors(figures, stacks, INT8)
    return _least_cosine(exact[0], rounded) if exact and rounded else None


def _vectors(figures: Round, stacks: Sequence[Stack], weights: str) -> list[NDArray[np.float64]]:
    """Return the vectors `[n, d]`, of unit length, of each peer with such weights that gave some."""
    found = [figures[stack.key].get("vectors") for stack in stacks if stack.is_peer and stack.weights == weights]
    return [np.asarray(vectors, dtype=np.float64) for vectors in found if vectors]


def _least_cosine(one: NDArray[np.float64], others: Sequence[NDArray[np.float64]]) -> float:
    return min(float((one * other).sum(axis=1).min()) for other in others)
