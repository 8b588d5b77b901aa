"""One set of rows cut by language, source, region or kind, and the same figures for every part."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.datasets import Suite
from eval.metrics.multilabel import macro, per_head

KEYS = ("lang", "source", "region", "kind")
MINIMUM = 10
"""Fewest positives, and fewest negatives, for a head to count within a part: below, one row moves AP by a tenth."""


def parts(suite: Suite, key: str) -> dict[str, NDArray[np.bool_]]:
    """Return the rows (bool [n]) of every value of `key`, the largest part first; rows without a value are left out.

    Raises:
        ValueError: `key` is not one of `KEYS`.
    """
    if key not in KEYS:
        raise ValueError(f"key: found {key!r}, allowed {', '.join(KEYS)}")
    values = suite.column(key)
    names, counts = np.unique(values[values != ""], return_counts=True)
    return {str(names[i]): values == names[i] for i in np.argsort(-counts, kind="stable")}


def enough_of_both(labels: NDArray[np.float64], *, minimum: int = MINIMUM) -> NDArray[np.bool_]:
    """Return bool [H], whether a head has at least `minimum` positives and negatives among labels [n, H]."""
    return np.asarray(((labels == 1).sum(0) >= minimum) & ((labels == 0).sum(0) >= minimum), dtype=np.bool_)


def slice_table(
    suite: Suite, labels: NDArray[np.float64], scores: NDArray[np.float32], *, key: str, minimum: int = MINIMUM
) -> list[dict[str, Any]]:
    """Return one record per value of `key`: n, heads that count, macro AP and macro AUC over them (NaN without any).

    AP falls with the share of positives, so compare parts by AUC; a head counts with `minimum` positives and negatives.
    """
    table = []
    for name, rows in parts(suite, key).items():
        y, s = labels[rows], scores[rows]
        enough = enough_of_both(y, minimum=minimum)
        y = np.where(enough, y, np.nan)
        table.append({
            "value": name,
            "n": int(rows.sum()),
            "heads": int(enough.sum()),
            "ap": macro(per_head(y, s)),
            "auc": macro(per_head(y, s, metric="roc_auc")),
        })  # fmt: skip
    return table
