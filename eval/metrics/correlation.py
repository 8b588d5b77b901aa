"""Rank correlation."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Return Spearman's rho in [-1, 1]: 1 = the same order, -1 = the opposite, 0 = none.

    Spearman 1904: Pearson's correlation of the ranks, equal values sharing the mean of their ranks. NaN where it is
    not defined: fewer than two pairs, or one side constant.

    Raises:
        ValueError: the shapes differ, are not [n], or a value is not finite.

    Example:
        >>> round(spearman([1, 2, 3, 4], [10, 20, 40, 30]), 3)
        0.8
    """
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"second: found shape {y.shape}, expected that of first, {x.shape}, one axis")
    for name, values in (("first", x), ("second", y)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: found a value that is not finite in row {int((~np.isfinite(values)).argmax())}")
    if x.size < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    a, b = ranks(x) - (x.size + 1) / 2, ranks(y) - (y.size + 1) / 2
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def ranks(values: Floats) -> Floats:
    """Return float64 [n], ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)
