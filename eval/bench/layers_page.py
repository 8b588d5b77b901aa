"""The page's section on how many layers carry LoRA: what each number of them reaches beside what it costs."""

from __future__ import annotations

from eval.bench.spreads import Part, spread
from eval.bench.stacks import INT8
from eval.page import Section, SectionBuilder, interval, number
from eval.sections.balance import SIDES
from eval.sections.cells import signed


def section(document: Part) -> Section:
    """Return the section, from the report's `layers` and, where adapters were measured too, its `branches`."""
    built, part = SectionBuilder("How many layers carry LoRA"), document.get("layers")
    if not part:
        return built.text(
            "No numbers of layers were compared for this report: `python wardline.py train layers` does so."
        ).build()
    n = part["n"]
    built.text(
        f"A small first stage was trained with adapters of rank {part['rank']} on the upper m layers, once for each m, "
        "on the same rows in the same order, and scored on rows of the fold that no adapter sees. "
        f"Gains whose interval lies above 0: {_sure_gains(part)}. "
        f"({part['command']}, seed {part['seed']}, n = {n['sample']:,} rows learnt from and {n['held_out']:,} held "
        "out.)"
    )
    _table(built, part, document.get("branches"))
    return built.build()


def _sure_gains(part: Part) -> str:
    found = [
        f"m = {each['layers']} on {name}"
        for each in part["layers"]
        for side, name in SIDES
        if (each.get("gain", {}).get(side, {}).get("low") or 0) > 0
    ]
    return ", ".join(found) or "none"


def _table(built: SectionBuilder, part: Part, branches: Part | None) -> None:
    costs = {point["n"]: point["over_plain"] for point in branches["weights"][INT8]["fan_out"]} if branches else {}
    heading = [f"one ad in {branches['ad_branches']} branches, plain passes, {INT8}"] if branches else []
    caption = "Cost: all heads asked for, median over rounds (least to greatest). " if branches else ""
    rows = []
    for each in part["layers"]:
        cells = [str(each["layers"]), *(spread(costs.get(each["layers"]), 2) for _ in heading)]
        for side, _ in SIDES:
            scored = each[side]
            cells += [f"{number(scored['macro_ap'])}, 95% {interval(scored)}", _gain(each.get("gain", {}).get(side))]
        rows.append(cells)
    built.table(
        ["upper layers m", *heading, *["macro AP", "gain"] * len(SIDES)], rows,
        groups=[("", 1 + len(heading)), *((name, 2) for _, name in SIDES)],
        caption=f"Held-out rows. {caption}Gain: over the m before, paired bootstrap over groups. One run of each: the "
        "intervals are over rows, not over seeds.",
    )  # fmt: skip


def _gain(gain: Part | None) -> str:
    """Return a gain and its interval to a thousandth; nothing where there is no m before."""
    if gain is None:
        return ""
    ends = "–" if gain["low"] is None else f"{signed(gain['low'])} to {signed(gain['high'])}"
    return f"{signed(gain['mean'])}, 95% {ends}"
