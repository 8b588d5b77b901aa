"""What adapters and heads learnt: each head on rows it saw and did not, each region's adapter beside its parent."""

from __future__ import annotations

from collections.abc import Sequence

from eval import plots
from eval.page import Section, SectionBuilder, interval, number
from eval.sections.cells import Part, signed

SIDES = (("train", "learnt from"), ("stop", "stopped by"), ("held_out", "held out"))
"""Key of a side in the record -> what the page calls it."""


def fit(report: Part) -> Section:
    """Return every head on the rows it learnt from, on those it stopped by, and on the fold it never saw."""
    built, heads = SectionBuilder("What the heads learnt, and what by heart"), report["adapters"]["fit"]
    if not heads:
        return built.text("This bundle does not record how its heads fit.").build()
    built.text(
        "Each head over its known labels, before calibration, as fitted without the held-out fold. A head that ranks "
        "its own rows far better than others has learnt them by heart."
    )
    rows = [
        [head, str(each["pass"])]
        + [number(each[f"{side}_{what}"]) for what in ("auc", "ap") for side, _ in SIDES]
        + [f"{each['train_positives']:,} / {each['held_out_positives']:,}"]
        for head, each in heads.items()
    ]
    columns = [f"{what}, {name}" for what in ("ROC AUC", "AP") for _, name in SIDES]
    built.table(
        ["head", "pass", *columns, "positives"], rows,
        caption="Pass: of the training, after which the head's average precision was highest on rows kept for that. "
        "Positives: among the rows looked at, learnt from and held out. – where there are fewer than five of a kind.",
    )  # fmt: skip
    series = {name: [each[f"{side}_auc"] for each in heads.values()] for side, name in (SIDES[0], SIDES[2])}
    return built.figure(
        plots.bars(list(heads), series, name="fit", x="ROC AUC"), caption="ROC AUC of each head, both sides."
    ).build()


def regions(report: Part) -> Section:
    """Return every region's adapter beside the one it started from, on the region's held-out rows."""
    built, found = SectionBuilder("Region adapters"), report["adapters"]["regions"]
    if not found:
        return built.text("This bundle has no region adapters.").build()
    shipped = [slot for slot, each in found.items() if each["shipped"]]
    built.text(
        f"{len(shipped)} of {sum(slot.startswith('region:') for slot in found)} are shipped: {', '.join(shipped)}. "
        "An adapter is shipped where it ranks its region's held-out rows no worse than moderation's on average, and no "
        "head clearly worse. The others are judged under the moderation adapter. Adapters of areas are parents "
        "only."
    )
    rows: list[list[str]] = []
    recalls: list[list[str]] = []
    labels: list[str] = []
    series: dict[str, list[float | None]] = {"moderation": [], "own": []}
    for slot, each in found.items():
        for head, scores in each["heads"].items():
            rows.append([slot, each["parent"].partition(":")[2], head, *_cells(slot, each["parent"], scores)])
            recalls.append([slot, head, *_recalls(slot, scores)])
            labels.append(f"{slot.partition(':')[2]} {head}")
            series["moderation"].append(scores["ap"]["task:moderation"])
            series["own"].append(scores["ap"][slot])
        if not each["heads"]:
            rows.append([slot, each["parent"].partition(":")[2], "too few labels", *[""] * 6])
    built.table(
        ["slot", "parent", "head", "positives / negatives", "moderation", "parent", "own", "gain", "separate; gain"],
        rows,
        groups=[("", 4), ("average precision", 5)],
        caption="Rows of the held-out fold, which neither adapters nor these heads have seen; 95% intervals by paired "
        "bootstrap over groups. Gain: of the region's own over moderation's. Separate: a model with all weights of an "
        "encoder and of heads trained on the same rows for one region, and what the adapter gains over it.",
    )  # fmt: skip
    if over := [scores["over_separate"] for each in found.values() for scores in each["heads"].values()
                if "over_separate" in scores]:  # fmt: skip
        built.text(_beside_separate(over))
    built.table(
        ["slot", "head", "moderation", "own", "gain", "separate; gain"],
        recalls,
        groups=[("", 2), ("recall at precision .9", 4)],
        caption="The same rows: the highest recall at which nine of ten that are flagged are violations.",
    )
    return built.figure(
        plots.bars(labels, series, name="regions", x="average precision"),
        caption="Average precision on a region's held-out rows, under the moderation adapter and under its own.",
    ).build()


def _beside_separate(gains: Sequence[Part]) -> str:
    """Return how adapters do beside separate models, over all heads of regions that could be measured."""
    mean = sum(each["mean"] for each in gains) / len(gains)
    better, worse = sum(each["low"] > 0 for each in gains), sum(each["high"] < 0 for each in gains)
    return (
        f"Over {len(gains)} heads of regions the adapter gains {signed(mean)} in average precision over the separate "
        f"model on average; beyond doubt (the interval leaves 0) it is better for {better} and worse for {worse}."
    )


def _cells(slot: str, parent: str, scores: Part) -> list[str]:
    return [
        f"{scores['positives']:,} / {scores['negatives']:,}",
        *(number(scores["ap"][name]) for name in ("task:moderation", parent, slot)),
        _gain(scores["gain"]),
        _separate(scores["ap"], scores.get("over_separate")),
    ]


def _recalls(slot: str, scores: Part) -> list[str]:
    recall = scores["recall"]
    return [
        *(number(recall[name]) for name in ("task:moderation", slot)),
        _gain(scores["recall_gain"]) if "recall_gain" in scores else "–",
        _separate(recall, scores.get("recall_over_separate")),
    ]


def _separate(values: Part, gain: Part | None) -> str:
    """Return a separate model's value and the adapter's gain over it; a dash where none was trained."""
    return "–" if gain is None else f"{number(values['separate'])}; {_gain(gain)}"


def _gain(gain: Part) -> str:
    return f"{signed(gain['mean'])} ({interval(dict(gain))})"
