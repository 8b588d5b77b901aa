"""Third stage: a LoRA per region with rows enough, each measured beside its parent; only those no worse are shipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from eval.metrics.bootstrap import bootstrap_interval
from eval.metrics.multilabel import average_precision, recall_at_precision
from moderation.classifier import SLOT
from training.base_model import load_rounded
from training.config import ModerationConfig
from training.examples import HEADS, Examples
from training.heads import PooledHeads
from training.region_adapters import RegionRows, parent_of, region_slots, rows_of, sample_region, train_region
from training.sampling import weigh
from training.texts import Texts
from training.violation_heads import logits_of

log = structlog.get_logger()

ENOUGH = 20
"""Held-out positives, and negatives, below which a head of a region is not measured."""
PRECISION = 0.9
"""At which recall is told."""


@dataclass(frozen=True)
class Regions:
    """What the third stage leaves behind."""

    shipped: Mapping[str, Path]
    """Slot -> its adapter as PEFT saved it, of the regions that are no worse than their parents."""
    parents: Mapping[str, str]
    """Slot -> the slot it was trained from."""
    record: Mapping[str, Any]
    """Slot -> rows, parent, whether it is shipped, and per head the parent's, its own and the gain's figures."""


@dataclass(frozen=True)
class RegionStage:
    """What the third stage works on."""

    texts: Texts
    examples: Examples
    usable: NDArray[np.bool_]
    """`[n]`, rows an adapter may learn from; none of the held-out fold."""
    held: NDArray[np.bool_]
    """`[n]`, rows of the held-out fold."""
    heads: PooledHeads
    """Heads that have not seen the held-out fold."""
    moderation: Path
    """The moderation adapter, as PEFT saved it."""
    folder: Path
    threads: int


def train_regions(at: RegionStage, config: ModerationConfig) -> Regions:
    """Return an adapter for every region with rows enough; what `at.folder` already holds is not trained again."""
    trained: dict[str, Path] = {SLOT: at.moderation}
    record: dict[str, Any] = {}
    for slot in region_slots(at.examples, at.usable, config.regions):
        parent = parent_of(slot, list(trained))
        trained[slot] = _train(slot, trained[parent], at, config)
        record[slot] = _measure(slot, (SLOT, parent), trained, at)
        record[slot]["shipped"] = slot.startswith("region:") and _no_worse(record[slot], config)
        log.info("region", slot=slot, parent=parent, gain=record[slot]["mean_gain"], shipped=record[slot]["shipped"])
    shipped = {slot: trained[slot] for slot in record if record[slot]["shipped"]}
    return Regions(shipped, {slot: record[slot]["parent"] for slot in shipped}, record)


def _train(slot: str, parent: Path, at: RegionStage, config: ModerationConfig) -> Path:
    rng = np.random.default_rng(config.seed)
    rows = sample_region(slot, at.examples, at.usable, config.regions, rng)
    weighted = weigh(
        at.examples.take(rows), ad_weight=config.heads.ad_weight, unlabelled_share=config.heads.unlabelled_share
    )
    return train_region(
        load_rounded(config), RegionRows(at.texts.branch(rows), weighted), at.heads, config.adapter, config.regions,
        parent=parent, folder=at.folder / slot.replace(":", "-"), seed=config.seed,
    )  # fmt: skip


def _measure(slot: str, others: Sequence[str], trained: Mapping[str, Path], at: RegionStage) -> dict[str, Any]:
    """Return how a region's adapter does on the region's held-out rows, beside moderation's and its parent's."""
    rows = np.flatnonzero(at.held & rows_of(slot, at.examples))
    logits: dict[str, NDArray[np.float32]] = {}
    for name in dict.fromkeys((*others, slot)):
        folder = at.folder / "held-out" / f"{slot}-under-{name}".replace(":", "-")
        states = at.texts.states(trained[name], folder=folder, threads=at.threads, rows=rows)
        logits[name] = logits_of(at.heads, states, np.arange(len(rows)))
    examples = at.examples.take(rows)
    heads: dict[str, Any] = {}
    for h, head in enumerate(HEADS):
        known = ~np.isnan(examples.targets[:, h])
        y = examples.targets[known, h]
        if min((y == 1).sum(), (y == 0).sum()) < ENOUGH:
            continue
        z = {name: each[known, h] for name, each in logits.items()}
        gain = paired_gain(y, z[slot], z[others[-1]], groups=examples.group[known].tolist())
        heads[head] = {
            "positives": int((y == 1).sum()),
            "negatives": int((y == 0).sum()),
            "ap": {name: average_precision(y, each) for name, each in z.items()},
            "recall": {name: recall_at_precision(y, each, precision=PRECISION).recall for name, each in z.items()},
            "gain": gain,
        }
    gains = [each["gain"]["mean"] for each in heads.values()]
    return {
        "parent": others[-1],
        "rows": int((at.usable & rows_of(slot, at.examples)).sum()),
        "held_out": len(rows),
        "mean_gain": float(np.mean(gains)) if gains else None,
        "heads": heads,
    }


def paired_gain(
    y: NDArray[np.float32], scores: NDArray[np.float32], other: NDArray[np.float32], *, groups: Sequence[str]
) -> dict[str, float]:
    """Return how much better `scores` ranks than `other` in average precision: `mean`, and `low` and `high` at 95%.

    Both are scored on the same resamples of groups, so that what makes rows hard for both falls out.

    Args:
        y: `[n]` in {0, 1}, with both values.
        scores: `[n]`.
        other: `[n]`, of the scorer it is held against.
        groups: `[n]`, drawn whole.
    """

    def difference(weights: NDArray[np.int64]) -> float:
        return average_precision(y, scores, weights=weights) - average_precision(y, other, weights=weights)

    interval = bootstrap_interval(difference, groups)
    mean = average_precision(y, scores) - average_precision(y, other)
    return {"mean": mean, "low": interval.low, "high": interval.high}


def _no_worse(record: Mapping[str, Any], config: ModerationConfig) -> bool:
    """Return whether an adapter is shipped: better on average, and for no head clearly worse than its parent."""
    if record["mean_gain"] is None or record["mean_gain"] < config.regions.ship_gain:
        return False
    return all(each["gain"]["low"] >= config.regions.ship_loss for each in record["heads"].values())
