"""The page's section on what adapters cost, from the report's `branches`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval import plots
from eval.bench.branches_batching import ARRIVAL_BATCH
from eval.bench.spreads import Part, spread
from eval.page import Section, SectionBuilder

MANY_REGIONS = (
    ("mixed", "one run, mixed, vectors alone"),
    ("mixed_heads", "one run, mixed, all heads"),
    ("merged", "a merged model per region, a run for each, vectors alone"),
    ("lora", "ONNX Runtime's LoraAdapter, a run for each, vectors alone"),
)
ONE_AD = (
    ("mixed", "one run, a branch for each, vectors alone"),
    ("merged", "a merged model for each, vectors alone"),
    ("lora", "ONNX Runtime's LoraAdapter, a run for each, vectors alone"),
)
HEAD_ADAPTERS = (
    ("pooled", "LoRA of each head on the shared pooling block: as served"),
    ("last_layer", "LoRA of each head inside the last layer, a branch for each"),
    ("passes", "LoRA of each head in the whole encoder, a pass for each"),
)
WAYS = {
    "budget": "sorted, under a budget of padded tokens: as served",
    "one_by_one": "one by one",
    "arrival": f"{ARRIVAL_BATCH} at a time, padded, in the order in which they came",
}


def section(document: Part) -> Section:
    """Return the section; one sentence where the run had none."""
    built = SectionBuilder("What adapters cost")
    found = document.get("branches")
    if found is None:
        return built.text("Adapters were not measured in this run.").build()
    _batches(built, found)
    _branches(built, found)
    _curves(built, found)
    _alternatives(built, found)
    _memory(built, found)
    _peft(built, found["peft"])
    _batching(built, found)
    return built.build()


def _batches(built: SectionBuilder, found: Part) -> None:
    sizes, both = found["sizes"], found["weights"]
    plain = ", ".join(f"{spread(each['plain_ms'], 2)} ms a text in {name}" for name, each in both.items())
    fewest = min(min(each["rounds"].values()) for each in both.values())
    built.text(
        f"An encoder of {sizes['layers']} layers, the upper {sizes['served']} of them above the trunk, LoRA of rank "
        f"{sizes['rank']}, {sizes['heads']} heads; adapters and heads are random, which costs the same. One process, "
        "one thread, no tokenizer: processor time of runs on the same tokens, in rounds that interleave them; ratios "
        "are taken within rounds. A plain pass is the encoder without slots and heads: "
        f"{plain}. At least {fewest} round{'s' * (fewest > 1)} of each, in {found['took_s']:.0f} s."
    )
    rows = [
        [
            f"{point['n']} {what}{'s' * (point['n'] > 1)}",
            *_pair(both, series, i, "over_plain"),
            *_pair(both, series, i, "over_first"),
        ]
        for series, what in (("regions", "region"), ("slots", "loaded slot"))
        for i, point in enumerate(_first(both)[series])
    ]
    built.table(
        [f"batch of {found['batch']}", *both, *both],
        rows,
        caption=f"{found['batch']} texts of {found['tokens']} tokens under one or more regions, all heads; and under "
        "one region with so many loaded. Median over rounds (least to greatest).",
        groups=[("", 1), ("over the plain pass", len(both)), ("over the same with 1", len(both))],
    )


def _branches(built: SectionBuilder, found: Part) -> None:
    both = found["weights"]
    rows = [
        [str(point["n"]), f"{point['passes']:.2f}", *_pair(both, "fan_out", i, "over_plain")]
        for i, point in enumerate(_first(both)["fan_out"])
    ]
    built.table(
        ["upper layers m", "(L - m)/L + n m/L", *both],
        rows,
        caption=f"One ad in n = {found['ad_branches']} branches (three regions, topics, products, the plain vector), "
        "all heads asked for, in plain passes.",
    )


def _curves(built: SectionBuilder, found: Part) -> None:
    both = found["weights"]
    wide = _first(both)["wide_batch"]
    figures = (
        ("branches", "branches_of_one_text", "branches", f"Branches of one text of {found['tokens']} tokens"),
        ("wide_regions", "regions_of_a_batch", "distinct regions", f"Distinct regions in a batch of {wide} texts"),
        ("heads", "heads_of_a_batch", "heads", "Heads of a batch under one region"),
        ("length", "tokens_of_a_text", "tokens", "Length of a text, as many tokens in every batch"),
    )
    for series, name, x, title in figures:
        records = [
            {"title": weights, "points": [[point["n"], point["over_plain"]["median"]] for point in each[series]]}
            for weights, each in both.items()
        ]
        built.figure(
            plots.curves(records, name=name, x=x, y="plain passes"),
            caption=f"{title}. Cost over the plain pass on the same tokens, median over rounds; mind where the axis "
            "starts.",
        )
    rows = [
        [str(point["n"]), *_pair(both, "length", i, "ms"), *_pair(both, "length", i, "over_plain")]
        for i, point in enumerate(_first(both)["length"])
    ]
    built.table(
        ["tokens", *both, *both],
        rows,
        caption="One text of so many tokens, under one region with all heads.",
        groups=[("", 1), ("ms per text", len(both)), ("over the plain pass", len(both))],
    )


def _alternatives(built: SectionBuilder, found: Part) -> None:
    both, heads = found["weights"], found["sizes"]["heads"]
    for series, titles, caption in (
        ("many_regions", MANY_REGIONS, f"{found['batch']} texts, each under a region of its own"),
        ("one_ad", ONE_AD, f"One ad under {found['ad_branches']} adapters"),
        ("head_adapters", HEAD_ADAPTERS, f"One ad and {heads} heads, each with a LoRA of its own"),
    ):
        rows = [[title, *(spread(each[series][key], 2) for each in both.values())] for key, title in titles]
        built.table(["way", *both], rows, caption=f"{caption}: cost in plain passes on the same tokens.", narrow=True)


def _memory(built: SectionBuilder, found: Part) -> None:
    memory = found["memory"]
    merged = ", ".join(f"{mb:.0f} MB in {weights}" for weights, mb in memory["merged_mb"].items())
    times = ", ".join(f"{spread(each['mixed_over_merged'], 2)} ({name})" for name, each in found["weights"].items())
    built.text(
        f"A region more is {memory['mb_per_region']:.2f} MB resident (from 1 to {memory['regions']} loaded; its "
        f"matrices are {memory['bytes_of_matrices'] / 1e6:.2f} MB, held once as they came and once stacked). As a "
        f"merged model it is {merged}. That, the swap by pointer and one queue for all regions are what mixing is for "
        f"on a CPU: where each text has one region, a mixed run takes {times} times as long as merged copies do."
    )


def _peft(built: SectionBuilder, peft: Part | None) -> None:
    if peft is None:
        return
    rows = [
        [
            str(each["n"]),
            *(spread(each[key], 2) for key in ("peft_over_plain", "ours_over_plain", "peft_ms", "ours_ms")),
            spread(each["ours_over_peft"], 2),
        ]
        for each in peft["rows"]
    ]
    versions = ", ".join(f"{name} {value}" for name, value in peft["versions"].items())
    built.table(
        ["texts", "PEFT", "ours", "PEFT", "ours", "ours / PEFT"],
        rows,
        caption="A batch in float32, its texts under adapters of their own, up to 20: PEFT's adapter_names in torch "
        f"beside our graph, in one process on one thread; vectors alone. {versions}.",
        groups=[("", 1), ("over its plain pass", 2), ("ms per text", 2), ("", 1)],
    )


def _batching(built: SectionBuilder, found: Part) -> None:
    gain, batching = found["gain"], found["batching"]
    rows = [
        [WAYS[way["key"]], spread(way["texts_per_s"], 1), spread(way["budget_over"], 2), f"{way['padding']:.2f}"]
        for way in batching["ways"]
    ]
    built.table(
        ["batches", "texts/s", "as served over it", "tokens read / there"],
        rows,
        caption=f"The bundle's own encoder, tokenizer and heads included: n = {batching['texts']} of the bench's texts "
        "per second of processor time.",
        narrow=True,
    )
    built.text(
        f"Int8 reads {spread(gain['served'], 2)} times as many of these texts as float32 with adapter and heads, "
        f"{spread(gain['plain'], 2)} times as many without."
    )


def _first(both: Mapping[str, Any]) -> Part:
    found: Part = next(iter(both.values()))
    return found


def _pair(both: Mapping[str, Any], series: str, number: int, key: str) -> Sequence[str]:
    """Return one figure of a series in each precision."""
    return [spread(each[series][number][key], 2) for each in both.values()]
