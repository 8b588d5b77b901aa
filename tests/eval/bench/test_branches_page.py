from __future__ import annotations

from typing import Any

from eval.bench.branches_page import section


def same(value: float) -> dict[str, Any]:
    return {"median": value, "min": value, "max": value, "rounds": [value]}


def series(*points: tuple[int, float], **more: Any) -> list[dict[str, Any]]:
    return [{"n": n, "over_plain": same(value), "over_first": same(1.0), **more} for n, value in points]


def precision(times: float) -> dict[str, Any]:
    return {
        "rounds": {"batch": 5, "heads": 4},
        "plain_ms": same(6.25 * times),
        "regions": series((1, 1.08 * times), (20, 1.12 * times)),
        "slots": series((1, 1.08), (64, 1.09)),
        "wide_batch": 64,
        "wide_regions": series((1, 1.07), (64, 1.11)),
        "fan_out": series((1, 1.95), (2, 2.81), passes=1.833),
        "branches": series((1, 1.1), (64, 23.0), passes=1.0),
        "heads": series((1, 1.03), (32, 1.13)),
        "length": series((16, 1.2), (512, 1.05), ms=same(7.5)),
        "many_regions": {key: same(1.01) for key in ("mixed", "mixed_heads", "merged", "lora")},
        "one_ad": {"mixed": same(2.7), "merged": same(6.02), "lora": same(6.3)},
        "head_adapters": {"pooled": same(1.09), "last_layer": same(3.61), "passes": same(16.2)},
        "mixed_over_merged": same(1.03),
    }


def found(**more: Any) -> dict[str, Any]:
    return {
        "sizes": {"layers": 6, "served": 2, "rank": 8, "heads": 16},
        "took_s": 170.4,
        "tokens": 64,
        "batch": 20,
        "ad_branches": 6,
        "weights": {"int8": precision(1.0), "float32": precision(1.01)},
        "memory": {
            "regions": 64, "mb_per_region": 0.903, "bytes_of_matrices": 442_368,
            "merged_mb": {"int8": 40.49, "float32": 79.99},
        },
        "gain": {"plain": same(2.2), "served": same(2.05)},
        "batching": {
            "texts": 96,
            "ways": [
                {"key": key, "texts_per_s": same(rate), "budget_over": same(150 / rate), "padding": padding}
                for key, rate, padding in (("budget", 150.0, 1.05), ("one_by_one", 140.0, 1.0), ("arrival", 50.0, 3.3))
            ],
        },
        "peft": None,
    } | more  # fmt: skip


def text_of(document: dict[str, Any] | None) -> str:
    return "".join(section({"branches": document}).parts)


def test_batches_and_branches_have_their_rows_in_both_precisions() -> None:
    text = text_of(found())
    assert "slots and heads: 6.25 ms a text in int8, 6.31 ms a text in float32." in text
    assert "At least 4 rounds of each, in 170 s." in text
    assert "<td>1 region</td><td>1.08</td><td>1.09</td><td>1.00</td><td>1.00</td>" in text
    assert "<td>64 loaded slots</td>" in text
    assert "<td>2</td><td>1.83</td><td>2.81</td><td>2.81</td>" in text
    assert "<td>512</td><td>7.50</td><td>7.50</td><td>1.05</td><td>1.05</td>" in text


def test_every_curve_is_drawn_once_in_each_precision() -> None:
    drawn = section({"branches": found()})
    assert len(drawn.figures) == 4
    text = "".join(drawn.parts)
    assert text.count("<polyline") == 8
    names = ("branches_of_one_text", "regions_of_a_batch", "heads_of_a_batch", "tokens_of_a_text")
    assert all(text.count(f'<svg id="{name}"') == 1 for name in names)


def test_the_other_ways_are_named_beside_ours() -> None:
    text = text_of(found())
    for way, cost in (("a merged model for each", "6.02"), ("a pass for each", "16.20"), ("a branch for each", "3.61")):
        assert f"{cost}</td>" in text
        assert way in text
    assert "32 at a time, padded, in the order in which they came</td><td>50.0</td><td>3.00</td><td>3.30</td>" in text


def test_memory_is_told_beside_a_merged_models_and_what_mixing_does_not_gain() -> None:
    text = text_of(found())
    assert "A region more is 0.90 MB resident (from 1 to 64 loaded; its matrices are 0.44 MB" in text
    assert "As a merged model it is 40 MB in int8, 80 MB in float32." in text
    assert "a mixed run takes 1.03 (int8), 1.03 (float32) times as long as merged copies do" in text


def test_peft_has_a_table_where_it_was_measured() -> None:
    row = {
        "n": 8, "peft_over_plain": same(1.17), "ours_over_plain": same(1.07), "peft_ms": same(23.1),
        "ours_ms": same(16.3), "ours_over_peft": same(0.71),
    }  # fmt: skip
    peft = {"versions": {"peft": "0.21.2"}, "rows": [row]}
    cells = "<td>8</td><td>1.17</td><td>1.07</td><td>23.10</td><td>16.30</td><td>0.71</td>"
    assert cells in text_of(found(peft=peft))
    assert "peft 0.21.2." in text_of(found(peft=peft))
    assert "adapter_names" not in text_of(found())


def test_without_figures_it_says_so() -> None:
    assert text_of(None) == "<p>Adapters were not measured in this run.</p>"
