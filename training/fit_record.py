"""How the heads fit: train beside dev, head by head, so that a head that only learnt its rows by heart is seen."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from eval.metrics.multilabel import average_precision, roc_auc
from training.examples import HEADS
from training.states import TokenStates
from training.violation_heads import ENOUGH, TrainedHeads, logits_of

ROWS = 20_000
"""Rows of a side that are looked at."""
MAX_TRAIN_AUC, MIN_DEV_AUC = 0.99, 0.70
"""A head above the first on rows it learnt from and below the second on others has learnt them by heart."""


def fit_record(
    trained: TrainedHeads,
    states: TokenStates,
    targets: NDArray[np.float32],
    sides: Mapping[str, NDArray[np.intp]],
) -> dict[str, dict[str, float | int | None]]:
    """Return per head its pass, and ROC AUC and average precision on each side, of at most `ROWS` rows.

    Args:
        trained: heads.
        states: cached states of n examples.
        targets: `[n, H]`, NaN = unknown.
        sides: name -> rows: `train`, those they learnt from; `stop`, those each one's pass was found by; `held_out`.
    """
    found: dict[str, dict[str, float | int | None]] = {
        head: {"pass": trained.passes[h]} for h, head in enumerate(HEADS)
    }
    for side, rows in sides.items():
        some = np.sort(np.random.default_rng(0).choice(rows, min(ROWS, len(rows)), replace=False))
        logits = logits_of(trained.heads, states, some)
        for h, head in enumerate(HEADS):
            found[head] |= _scores(side, targets[some, h], logits[:, h])
    return found


def learnt_by_heart(record: Mapping[str, Mapping[str, float | int | None]]) -> list[str]:
    """Return the heads of a record that must not be shipped; one that too few rows are labelled for is not among them.

    Args:
        record: what `fit_record` returned for the sides `train` and `held_out`.
    """
    found = []
    for head, scores in record.items():
        train, held_out = scores["train_auc"], scores["held_out_auc"]
        if train is not None and held_out is not None and train > MAX_TRAIN_AUC and held_out < MIN_DEV_AUC:
            found.append(head)
    return found


def _scores(side: str, targets: NDArray[np.float32], logits: NDArray[np.float32]) -> dict[str, float | int | None]:
    known = ~np.isnan(targets)
    y, z = targets[known], logits[known]
    positives = int((y == 1).sum())
    enough = min(positives, len(y) - positives) >= ENOUGH
    return {
        f"{side}_positives": positives,
        f"{side}_auc": roc_auc(y, z) if enough else None,
        f"{side}_ap": average_precision(y, z) if enough else None,
    }
