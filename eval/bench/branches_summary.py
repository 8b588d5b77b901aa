"""From the seconds of every round to the report's section on adapters: ratios within rounds, and targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.bench.branches_graphs import WEIGHTS
from eval.bench.branches_groups import (
    AD_BRANCHES,
    BATCH,
    BRANCHES,
    DISTINCT,
    DISTINCT_WIDE,
    HEADS,
    LENGTH_TOKENS,
    LENGTHS,
    LOADED,
    TOKENS,
    WIDE_BATCH,
)
from eval.bench.branches_peft import ROWS
from eval.bench.stacks import FLOAT32, INT8
from eval.bench.summary import Target
from eval.metrics.timing import Spread, ratio, spread

ONE_REGION, MANY_REGIONS = 1.20, 1.25
"""Most that a batch under one region, and under one for each text, may cost, in plain passes on the same tokens."""
FAN_OUT = 1.15
"""Most that one ad in six branches may cost, in times `passes`."""
FLAT = 5.0
"""Percent by which a batch may cost more or less with many regions, or many loaded slots, than with one."""
REGION_MB = 1.5
"""Most that a region more may add to the resident memory, 10^6 bytes."""
INT8_GAIN = 1.9
"""Least that int8 must read in a second, in times float32."""

Part = Mapping[str, Any]
Times = Mapping[str, Sequence[float]]


def passes(layers: int, upper: int, branches: int) -> float:
    """Return what a text costs in so many branches, in passes of the encoder: `(L - m) / L + n m / L`."""
    return (layers - upper + branches * upper) / layers


def summarise(figures: Part, peft: Part | None = None) -> dict[str, Any]:
    """Return what the report says of adapters.

    Args:
        figures: what `eval.bench.branches` measured.
        peft: what `eval.bench.branches_peft` measured; None: nothing.
    """
    sizes = figures["sizes"]
    return {
        "sizes": sizes,
        "took_s": figures["took_s"],
        "tokens": TOKENS,
        "batch": BATCH,
        "ad_branches": AD_BRANCHES,
        "weights": {weights: _precision(figures["times"][weights], sizes) for weights in WEIGHTS},
        "memory": figures["memory"],
        "gain": _gain(figures["weights"]),
        "batching": _batching(figures),
        "peft": None if peft is None else _peft(peft),
    }


def _precision(times: Mapping[str, Times], sizes: Part) -> dict[str, Any]:
    layers, length = sizes["layers"], times["length"]
    return {
        "rounds": {name: min(map(len, group.values())) for name, group in times.items()},
        "plain_ms": spread([1e3 * s / BATCH for s in times["batch"]["plain"]]),
        "regions": _series(times["batch"], "regions", DISTINCT),
        "slots": _series(times["batch"], "slots", LOADED),
        "wide_batch": WIDE_BATCH,
        "wide_regions": _series(times["wide_batch"], "regions", DISTINCT_WIDE),
        "fan_out": [
            {"n": m, "passes": passes(layers, m, AD_BRANCHES), "over_plain": _over(times["fan_out"], f"layers_{m}")}
            for m in sizes["counts"]
        ],
        "branches": [
            {**each, "passes": passes(layers, sizes["served"], each["n"])}
            for each in _series(times["one_text"], "branches", BRANCHES)
        ],
        "heads": _series(times["heads"], "heads", HEADS),
        "length": [
            {
                "n": t,
                "ms": spread([1e3 * s * t / LENGTH_TOKENS for s in length[f"tokens_{t}"]]),
                "over_plain": ratio(length[f"tokens_{t}"], length[f"plain_{t}"]),
            }
            for t in LENGTHS
            if f"tokens_{t}" in length
        ],
        **{
            name: {key: _over(times[name], key) for key in times[name] if key != "plain"}
            for name in ("many_regions", "one_ad", "head_adapters")
        },
        "mixed_over_merged": _over(times["many_regions"], "mixed", "merged"),
    }


def _over(times: Times, key: str, other: str = "plain") -> Spread:
    return ratio(times[key], times[other])


def _series(times: Times, name: str, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Return each task `<name>_<n>` over the plain pass, and over the first of them."""
    first = f"{name}_{numbers[0]}"
    return [
        {"n": n, "over_plain": _over(times, f"{name}_{n}"), "over_first": _over(times, f"{name}_{n}", first)}
        for n in numbers
    ]


def _gain(times: Times) -> dict[str, Spread]:
    """Return how many times as many texts int8 reads in a second: of the encoder alone, and of what is served."""
    return {name: _over(times, f"{name}_{FLOAT32}", f"{name}_{INT8}") for name in ("plain", "served")}


def _batching(figures: Part) -> dict[str, Any]:
    times, n = figures["batching"], figures["batching_texts"]
    return {
        "texts": n,
        "ways": [
            {
                "key": key,
                "texts_per_s": spread([n / s for s in seconds]),
                "budget_over": ratio(seconds, times["budget"]),
                "padding": figures["padding"][key],
            }
            for key, seconds in times.items()
        ],
    }


def _peft(figures: Part) -> dict[str, Any]:
    times = figures["times"]
    return {
        "versions": figures["versions"],
        "rows": [
            {
                "n": n,
                "peft_over_plain": _over(times, f"torch_mixed_{n}", f"torch_plain_{n}"),
                "ours_over_plain": _over(times, f"ours_mixed_{n}", f"ours_plain_{n}"),
                "ours_over_peft": _over(times, f"ours_mixed_{n}", f"torch_mixed_{n}"),
                "peft_ms": spread([1e3 * s / n for s in times[f"torch_mixed_{n}"]]),
                "ours_ms": spread([1e3 * s / n for s in times[f"ours_mixed_{n}"]]),
            }
            for n in ROWS
        ],
    }


def targets(found: Part) -> list[Target]:
    """Return the costs beside what they must keep to; `found` is what `summarise` returns."""
    rows = []
    for weights, each in found["weights"].items():
        one, many = each["regions"][0], each["regions"][-1]
        title = f"batch of {BATCH} texts, all heads, {weights}, over the plain pass"
        rows += [
            _at_most(f"1 region in a {title}", one["over_plain"].median, ONE_REGION, "x"),
            _at_most(f"{many['n']} regions in a {title}", many["over_plain"].median, MANY_REGIONS, "x"),
        ]
        for m in each["fan_out"]:
            name = f"one ad in {AD_BRANCHES} branches, m = {m['n']}, {weights}, over the plain pass"
            rows.append(_at_most(name, m["over_plain"].median, FAN_OUT * m["passes"], "x"))
        for series, what in (("regions", "regions in a batch"), ("slots", "loaded slots")):
            worst = max(100 * abs(point["over_first"].median - 1) for point in each[series])
            name = f"cost of 1 to {each[series][-1]['n']} {what}, {weights}: furthest from that of 1"
            rows.append(_at_most(name, worst, FLAT, "%"))
    rows.append(_at_most("resident memory of a region more", found["memory"]["mb_per_region"], REGION_MB, "MB"))
    gain = found["gain"]["served"].median
    name = "texts/s of the served graph in int8, over float32"
    return [*rows, Target(name, gain, INT8_GAIN, "x", met=gain >= INT8_GAIN, at_least=True)]


def _at_most(name: str, value: float, limit: float, unit: str) -> Target:
    return Target(name, value, limit, unit, met=value <= limit)
