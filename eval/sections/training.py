"""How the first bundle's encoder was trained: its curves, and what it learnt from."""

from __future__ import annotations

from collections.abc import Mapping

from eval import plots
from eval.page import Section, SectionBuilder, percent
from eval.sections.cells import Part

FOLDS = 3
"""Parts of the table of languages that stand side by side."""


def training(report: Part) -> Section:
    """Return the curves of every stage, and the pairs per source and per language."""
    built, part = SectionBuilder("Training"), report["training"]
    if part is None:
        return built.text("The first encoder's bundle holds no record of how its encoder was trained.").build()
    data, teacher = part["data"], part["teacher"]
    built.text(
        f"{data['pairs']:,} pairs of {data['sentences']:,} sentences (sha256 {data['sha256']}); teacher "
        f"{teacher['name']} (sha256 {teacher['sha256']})."
    )
    records = [{"title": _title(curve), "points": curve["points"]} for curve in part["curves"]]
    if records:
        points = max(len(record["points"]) for record in records)
        thinned = f", at most {plots.MOST_POINTS} of them drawn" if points > plots.MOST_POINTS else ""
        built.figure(
            plots.curves(records, name="training", x="step", y="loss"),
            caption="Loss over the steps of each stage. Every stage has a loss and a scale of its own; "
            f"n = {' + '.join(str(len(record['points'])) for record in records)} points{thinned}.",
        )
    built.table(["source", "pairs", "share"], _shares(data["sources"]), caption="Pairs per source.")
    rows = _shares(data["languages"])
    height = -(-len(rows) // FOLDS)
    parts = [rows[start : start + height] for start in range(0, len(rows), height or 1)]
    folded = [[cell for rows in parts for cell in (rows[i] if i < len(rows) else ["", "", ""])] for i in range(height)]
    headers = ["language", "pairs", "share"] * len(parts)
    return built.table(headers, folded, caption="Pairs per language, most first, column after column.").build()


def _title(curve: Part) -> str:
    return f"{curve['stage']}, {curve['steps']:,} steps"


def _shares(counts: Mapping[str, int]) -> list[list[str]]:
    """Return a row per name, most first: name, count, share of all."""
    total = sum(counts.values()) or 1
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return [[name, f"{count:,}", percent(count / total)] for name, count in ordered]
