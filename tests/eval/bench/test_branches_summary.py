from __future__ import annotations

from typing import Any

import pytest

from eval.bench.branches_summary import passes, summarise, targets
from eval.bench.summary import Target

SIZES = {"layers": 6, "counts": [1, 2, 3], "served": 2, "rank": 8, "heads": 16}
DISTINCT, LOADED, BRANCHES = (1, 2, 5, 10, 20), (1, 4, 16, 64), (1, 2, 4, 8, 16, 32, 64)


def times(**changed: list[float]) -> dict[str, dict[str, list[float]]]:
    """Seconds of two rounds, the second twice as slow as the first: every ratio is the same in both."""

    def rounds(passes: float) -> list[float]:
        return [passes, 2 * passes]

    batch = {"plain": rounds(2.0)}
    batch |= {f"regions_{k}": rounds(2.2) for k in DISTINCT} | {f"slots_{k}": rounds(2.2) for k in LOADED}
    return {
        "batch": batch | changed,
        "wide_batch": {"plain": rounds(1), **{f"regions_{k}": rounds(1.1) for k in (1, 8, 64)}},
        "fan_out": {"plain": rounds(1), "layers_1": rounds(1.9), "layers_2": rounds(2.8), "layers_3": rounds(3.7)},
        "one_text": {"plain": rounds(1), **{f"branches_{n}": rounds(0.7 + 0.35 * n) for n in BRANCHES}},
        "heads": {"plain": rounds(1), **{f"heads_{h}": rounds(1 + h / 100) for h in (1, 2, 4, 8, 16, 32)}},
        "length": {f"{key}_{t}": rounds(s) for t in (16, 512) for key, s in (("plain", 1.0), ("tokens", 1.5))},
        "many_regions": {
            "plain": rounds(1), "mixed": rounds(1.05), "mixed_heads": rounds(1.1), "merged": rounds(1.0),
            "lora": rounds(1.2),
        },
        "one_ad": {"plain": rounds(1), "mixed": rounds(2.8), "merged": rounds(6), "lora": rounds(6.6)},
        "head_adapters": {"plain": rounds(1), "pooled": rounds(1.1), "last_layer": rounds(3.5), "passes": rounds(16)},
    }  # fmt: skip


def figures(mb: float = 0.9, gain: float = 2.0, **changed: list[float]) -> dict[str, Any]:
    return {
        "sizes": SIZES,
        "took_s": 100.0,
        "times": {"int8": times(**changed), "float32": times()},
        "memory": {"regions": 64, "mb_per_region": mb, "bytes_of_matrices": 1, "merged_mb": {"int8": 40.0}},
        "weights": {
            "plain_int8": [1.0, 2.0], "plain_float32": [2.2, 4.4], "served_int8": [1.1, 2.2],
            "served_float32": [1.1 * gain, 2.2 * gain],
        },
        "batching": {"budget": [2.0, 4.0], "one_by_one": [2.2, 4.4], "arrival": [6.0, 12.0]},
        "batching_texts": 96,
        "padding": {"budget": 1.05, "one_by_one": 1.0, "arrival": 3.3},
    }  # fmt: skip


def target(name: str, **given: Any) -> Target:
    found = [each for each in targets(summarise(figures(**given))) if name in each.name]
    assert len(found) == 1, [each.name for each in found]
    return found[0]


def test_passes_by_hand() -> None:
    """Of 6 layers, 2 above the trunk: 4/6 once and 2/6 for each branch."""
    assert passes(6, 2, 1) == 1.0
    assert passes(6, 2, 6) == pytest.approx(4 / 6 + 2)
    assert passes(6, 1, 6) == pytest.approx(11 / 6)
    assert passes(6, 6, 3) == 3.0


def test_ratios_are_taken_within_rounds() -> None:
    """The second round is slower by half throughout; over the rounds nothing of it is left."""
    found = summarise(figures())["weights"]["int8"]
    assert [point["over_plain"].rounds for point in found["regions"]] == [(pytest.approx(1.1),) * 2] * 5
    assert found["branches"][3] == {
        "n": 8, "over_plain": found["branches"][3]["over_plain"], "over_first": found["branches"][3]["over_first"],
        "passes": pytest.approx(4 / 6 + 8 * 2 / 6),
    }  # fmt: skip
    assert found["branches"][3]["over_plain"].median == pytest.approx(3.5)
    assert found["branches"][3]["over_first"].median == pytest.approx(3.5 / 1.05)
    assert found["fan_out"][0]["passes"] == pytest.approx(11 / 6)
    assert found["many_regions"]["lora"].median == pytest.approx(1.2)
    assert found["mixed_over_merged"].median == pytest.approx(1.05)
    assert set(found["rounds"].values()) == {2}


def test_milliseconds_are_of_one_text() -> None:
    """The batch of 20 takes 2 and 4 seconds; a text of 512 tokens is a batch, of 16 tokens it has 32 texts."""
    found = summarise(figures())["weights"]["int8"]
    assert found["plain_ms"].rounds == (100.0, 200.0)
    assert [(each["n"], each["ms"].rounds[0]) for each in found["length"]] == [(16, 1_500 / 32), (512, 1_500.0)]


def test_how_batches_are_made_is_held_against_the_budget() -> None:
    found = summarise(figures())
    assert [
        (way["key"], way["texts_per_s"].rounds, way["budget_over"].median) for way in found["batching"]["ways"]
    ] == [
        ("budget", (48.0, 24.0), 1.0),
        ("one_by_one", pytest.approx((96 / 2.2, 96 / 4.4)), pytest.approx(1.1)),
        ("arrival", (16.0, 8.0), 3.0),
    ]
    assert (found["gain"]["plain"].median, found["gain"]["served"].median) == (pytest.approx(2.2), pytest.approx(2.0))


@pytest.mark.parametrize(("seconds", "value", "met"), [(2.4, 1.2, True), (2.41, 1.205, False)])
def test_a_batch_of_one_region_must_not_cost_more_than_a_fifth(seconds: float, value: float, met: bool) -> None:
    found = target("1 region in a batch of 20 texts, all heads, int8", regions_1=[seconds, 2 * seconds])
    assert (found.value, found.limit, found.met) == (pytest.approx(value), 1.2, met)


@pytest.mark.parametrize(("seconds", "met"), [(2.49, True), (2.51, False)])
def test_nor_one_of_twenty_regions_more_than_a_quarter(seconds: float, met: bool) -> None:
    assert target("20 regions in a batch of 20 texts, all heads, int8", regions_20=[seconds, 2 * seconds]).met is met


def test_an_ad_in_six_branches_is_held_against_its_passes() -> None:
    found = target("m = 2, int8")
    assert (found.value, found.limit, found.met) == (pytest.approx(2.8), pytest.approx(1.15 * 16 / 6), True)


@pytest.mark.parametrize(("seconds", "percent"), [(2.09, 5.0), (2.0, 9.0909), (2.31, 5.0)])
def test_flat_is_flat_in_both_directions(seconds: float, percent: float) -> None:
    found = target("cost of 1 to 20 regions in a batch, int8", regions_10=[seconds, 2 * seconds])
    assert found.value == pytest.approx(percent, abs=1e-3)
    assert target("cost of 1 to 64 loaded slots, float32").value == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(("mb", "met"), [(1.5, True), (1.51, False)])
def test_a_region_must_stay_small(mb: float, met: bool) -> None:
    assert target("resident memory of a region more", mb=mb).met is met


@pytest.mark.parametrize(("gain", "met"), [(1.91, True), (1.89, False)])
def test_int8_must_gain(gain: float, met: bool) -> None:
    found = target("in int8, over float32", gain=gain)
    assert (found.met, found.at_least) == (met, True)


def test_peft_is_held_against_its_own_plain_pass_and_against_ours() -> None:
    seconds = {"torch_plain": 10.0, "torch_mixed": 12.0, "ours_plain": 8.0, "ours_mixed": 9.0}
    peft = {
        "times": {f"{key}_{n}": [s * n, 2 * s * n] for key, s in seconds.items() for n in (8, 32)},
        "versions": {"peft": "0.21"},
    }
    found = summarise(figures(), peft)["peft"]["rows"]
    assert [row["n"] for row in found] == [8, 32]
    assert found[0]["peft_over_plain"].median == pytest.approx(1.2)
    assert found[0]["ours_over_plain"].median == pytest.approx(1.125)
    assert found[0]["ours_over_peft"].median == pytest.approx(0.75)
    assert found[0]["peft_ms"].rounds == (12_000.0, 24_000.0)
    assert summarise(figures())["peft"] is None
