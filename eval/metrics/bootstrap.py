"""Percentile bootstrap over groups: rows that share a prompt, a translation or an opening are drawn together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class BootstrapInterval:
    """A percentile interval and what it rests on."""

    low: float
    """Lower end; NaN when no resample gave a value."""
    high: float
    """Upper end; NaN when no resample gave a value."""
    resamples: int
    """Resamples with a defined value."""
    groups: int
    """Distinct groups drawn from."""


def group_weights(groups: Sequence[str], *, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return int64 [n]: how often each row's group came; as many groups as there are were drawn, with replacement."""
    _, inverse = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    return _draw(inverse, rng)


def bootstrap_interval(
    statistic: Callable[[NDArray[np.int64]], float],
    groups: Sequence[str],
    *,
    resamples: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
) -> BootstrapInterval:
    """Return the percentile interval of a statistic of row weights.

    Efron and Tibshirani 1993, section 13.3; whole groups are drawn as in Field and Welsh 2007.

    Args:
        statistic: int64 weights [n] -> value; a NaN (a class was not drawn) is left out.
        groups: the group of each row, [n].
        resamples: how many draws.
        confidence: in (0, 1), two-sided.
        seed: of the generator; equal seeds give equal intervals.

    Raises:
        ValueError: there are no rows, no resamples, or the confidence is outside (0, 1).
    """
    if not len(groups):
        raise ValueError("groups: found none, expected at least one row")
    if resamples < 1:
        raise ValueError(f"resamples: found {resamples}, allowed 1 or more")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence: found {confidence}, allowed above 0 and below 1")
    rng = np.random.default_rng(seed)
    names, inverse = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    values = np.array([statistic(_draw(inverse, rng)) for _ in range(resamples)], dtype=np.float64)
    values = values[~np.isnan(values)]
    if not values.size:
        return BootstrapInterval(float("nan"), float("nan"), 0, int(names.size))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return BootstrapInterval(float(low), float(high), int(values.size), int(names.size))


def _draw(inverse: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    count = int(inverse.max()) + 1
    drawn = np.bincount(rng.integers(0, count, size=count), minlength=count)
    return drawn[inverse].astype(np.int64)
