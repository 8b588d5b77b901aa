"""How the heads fit: train beside dev, head by head, so that a head that only learnt its rows by heart is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from training.examples import HEADS
from training.violation_heads import ENOUGH, TrainedHeads, logits_of

if TYPE_CHECKING:
    from training.moderation import HeadStage

TRAIN_ROWS = 20_000
"""Rows learnt from that are looked at again."""
MAX_TRAIN_AUC, MIN_DEV_AUC = 0.99, 0.70
"""A head above the first on rows it learnt from and below the second on others has learnt them by heart."""


def fit_record(
    trained: TrainedHeads, at: HeadStage, learn: NDArray[np.intp], stop: NDArray[np.intp]
) -> dict[str, dict[str, float | int | None]]:
    """Return per head ROC AUC and average precision on rows it learnt from and on rows of the held-out fold.

    Args:
        trained: heads that have not seen the held-out fold.
        at: the second stage.
        learn: the rows they learnt from.
        stop: the rows each one's best pass was found by.
    """
    some = np.sort(np.random.default_rng(0).choice(learn, min(TRAIN_ROWS, len(learn)), replace=False))
    held = np.flatnonzero(at.allowed & (at.fold == 0))
    held = np.sort(np.random.default_rng(0).choice(held, min(TRAIN_ROWS, len(held)), replace=False))
    sides = {"train": some, "stop": stop, "held_out": held}
    logits = {side: logits_of(trained.heads, at.states, rows) for side, rows in sides.items()}
    found: dict[str, dict[str, float | int | None]] = {}
    for h, head in enumerate(HEADS):
        found[head] = {"pass": trained.passes[h]}
        for side, rows in sides.items():
            found[head] |= _scores(side, at.examples.targets[rows, h], logits[side][:, h])
    return found


def learnt_by_heart(record: dict[str, dict[str, float | int | None]]) -> list[str]:
    """Return the heads of a record that must not be shipped."""
    return [
        head
        for head, scores in record.items()
        if (scores["train_auc"] or 0) > MAX_TRAIN_AUC and (scores["held_out_auc"] or 1) < MIN_DEV_AUC
    ]


def _scores(side: str, targets: NDArray[np.float32], logits: NDArray[np.float32]) -> dict[str, float | int | None]:
    known = ~np.isnan(targets)
    y, z = targets[known], logits[known]
    positives = int((y == 1).sum())
    enough = min(positives, len(y) - positives) >= ENOUGH
    return {
        f"{side}_positives": positives,
        f"{side}_auc": float(roc_auc_score(y, z)) if enough else None,
        f"{side}_ap": float(average_precision_score(y, z)) if enough else None,
    }
