"""Third stage: a LoRA per region with rows enough; shipped are those that serve it no worse than moderation's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from eval.metrics.bootstrap import bootstrap_interval
from eval.metrics.multilabel import average_precision, recall_at_precision
from moderation.classifier import SLOT
from training.adapter import Rows
from training.base_model import load_rounded
from training.branch import Branch
from training.config import ModerationConfig, RegionConfig
from training.examples import HEADS, Examples
from training.heads import PooledHeads
from training.region_adapters import parent_of, region_slots, rows_of, sample_region, train_region
from training.sampling import weigh
from training.separate import separate_logits
from training.texts import Texts
from training.violation_heads import logits_of

log = structlog.get_logger()

ENOUGH = 20
"""Held-out positives, and negatives, below which a head of a region is not measured."""
PRECISION = 0.9
"""At which recall is told."""
SEPARATE = "separate"
"""Names a full model of the region's own among the slots it stands beside."""

Metric = Callable[[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]], float]
"""Labels `[n]`, scores `[n]` and how often each row counts `[n]` -> a value."""


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
        sample = sample_region(slot, at.examples, at.usable, config.regions, np.random.default_rng(config.seed))
        trained[slot] = _train(slot, trained[parent], sample, at, config)
        held = np.flatnonzero(at.held & rows_of(slot, at.examples))
        logits = {name: _logits(slot, trained[name], held, at) for name in dict.fromkeys((SLOT, parent, slot))}
        if config.regions.separate and slot.startswith("region:"):
            logits[SEPARATE] = _separate(slot, sample, held, at, config)
        heads = measure(slot, logits, at.examples.take(held))
        gains = [each["gain"]["mean"] for each in heads.values()]
        record[slot] = {
            "parent": parent,
            "rows": int((at.usable & rows_of(slot, at.examples)).sum()),
            "held_out": len(held),
            "mean_gain": float(np.mean(gains)) if gains else None,
            "heads": heads,
        }
        record[slot]["shipped"] = slot.startswith("region:") and no_worse(record[slot], config.regions)
        log.info("region", slot=slot, parent=parent, gain=record[slot]["mean_gain"], shipped=record[slot]["shipped"])
    shipped = {slot: trained[slot] for slot in record if record[slot]["shipped"]}
    return Regions(shipped, {slot: record[slot]["parent"] for slot in shipped}, record)


def _train(slot: str, parent: Path, sample: NDArray[np.intp], at: RegionStage, config: ModerationConfig) -> Path:
    return train_region(
        load_rounded(config), _rows(at.texts.branch(sample), sample, at, config), at.heads, config.adapter,
        config.regions, parent=parent, folder=at.folder / slot.replace(":", "-"), seed=config.seed,
    )  # fmt: skip


def _rows(branch: Branch, sample: NDArray[np.intp], at: RegionStage, config: ModerationConfig) -> Rows:
    heads = config.heads
    drawn = at.examples.take(sample)
    return Rows(branch, weigh(drawn, ad_weight=heads.ad_weight, unlabelled_share=heads.unlabelled_share))


def _logits(slot: str, adapter: Path, held: NDArray[np.intp], at: RegionStage) -> NDArray[np.float32]:
    """Return the logits `[held, H]` of a region's held-out rows under an adapter."""
    folder = at.folder / "held-out" / f"{slot}-under-{adapter.parent.name}".replace(":", "-")
    states = at.texts.states(adapter, folder=folder, threads=at.threads, rows=held)
    return logits_of(at.heads, states, np.arange(len(held)))


def _separate(
    slot: str, sample: NDArray[np.intp], held: NDArray[np.intp], at: RegionStage, config: ModerationConfig
) -> NDArray[np.float32]:
    """Return the logits `[held, H]` of a full model of the region's own, trained on the same rows."""
    folder = at.folder / f"{SEPARATE}-{slot}".replace(":", "-")
    done = folder / "logits.npy"
    if not done.is_file():
        rows = _rows(at.texts.whole(sample), sample, at, config)
        found = separate_logits(
            config, rows, at.texts.whole(held), at.heads, moderation=at.moderation, folder=folder, seed=config.seed
        )
        part = done.with_suffix(".part.npy")
        np.save(part, found)
        part.replace(done)
    logits: NDArray[np.float32] = np.load(done)
    return logits


def measure(slot: str, logits: Mapping[str, NDArray[np.float32]], examples: Examples) -> dict[str, dict[str, Any]]:
    """Return, per head with labels enough, what each of several models reaches on a region's held-out rows.

    Args:
        slot: the region's, whose gain over the moderation adapter, under which the region is judged without one, and
            over a model of its own, is told with an interval.
        logits: slot, or `separate` -> `[held, H]`.
        examples: the held-out rows.
    """
    found: dict[str, dict[str, Any]] = {}
    for h, head in enumerate(HEADS):
        known = ~np.isnan(examples.targets[:, h])
        y = examples.targets[known, h]
        if min((y == 1).sum(), (y == 0).sum()) < ENOUGH:
            continue
        z = {name: each[known, h] for name, each in logits.items()}
        groups = examples.group[known].tolist()
        found[head] = {
            "positives": int((y == 1).sum()),
            "negatives": int((y == 0).sum()),
            "ap": {name: average_precision(y, each) for name, each in z.items()},
            "recall": {name: recall_at_precision(y, each, precision=PRECISION).recall for name, each in z.items()},
            "gain": paired_gain(y, z[slot], z[SLOT], groups=groups),
            "recall_gain": paired_gain(y, z[slot], z[SLOT], groups=groups, metric=_recall),
        }
        if SEPARATE in z:
            found[head]["over_separate"] = paired_gain(y, z[slot], z[SEPARATE], groups=groups)
            found[head]["recall_over_separate"] = paired_gain(
                y, z[slot], z[SEPARATE], groups=groups, metric=_recall
            )  # fmt: skip
    return found


def _average_precision(y: NDArray[np.float32], scores: NDArray[np.float32], weights: NDArray[np.int64]) -> float:
    return average_precision(y, scores, weights=weights)


def _recall(y: NDArray[np.float32], scores: NDArray[np.float32], weights: NDArray[np.int64]) -> float:
    """Return the recall at `PRECISION` of rows that came so often; NaN where no positive came."""
    drawn = np.repeat(np.arange(len(y)), weights)
    if not (y[drawn] == 1).any():
        return math.nan
    return recall_at_precision(y[drawn], scores[drawn], precision=PRECISION).recall


def paired_gain(
    y: NDArray[np.float32],
    scores: NDArray[np.float32],
    other: NDArray[np.float32],
    *,
    groups: Sequence[str],
    metric: Metric = _average_precision,
) -> dict[str, float]:
    """Return how much better `scores` does than `other`: `mean`, and `low` and `high` at 95%.

    Both are scored on the same resamples of groups, so that what makes rows hard for both falls out.

    Args:
        y: `[n]` in {0, 1}, with both values.
        scores: `[n]`.
        other: `[n]`, of the scorer it is held against.
        groups: `[n]`, drawn whole.
        metric: of labels, scores and how often each row counts; average precision unless told otherwise.
    """

    def difference(weights: NDArray[np.int64]) -> float:
        return metric(y, scores, weights) - metric(y, other, weights)

    interval = bootstrap_interval(difference, groups)
    return {"mean": difference(np.ones(len(y), dtype=np.int64)), "low": interval.low, "high": interval.high}


def no_worse(record: Mapping[str, Any], config: RegionConfig) -> bool:
    """Return whether an adapter is shipped: better on average than moderation's, and for no head clearly worse."""
    if record["mean_gain"] is None or record["mean_gain"] < config.ship_gain:
        return False
    return all(each["gain"]["low"] >= config.ship_loss for each in record["heads"].values())
