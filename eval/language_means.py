"""A figure per language, its mean over languages, and how far that mean is to be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.metrics.bootstrap import bootstrap_interval


def over_languages(
    values: Sequence[float], languages: Sequence[str], groups: Sequence[str], *, resamples: int, seed: int
) -> dict[str, Any]:
    """Return the mean over languages of the mean of each, with its 95% interval, and the worst language.

    The interval draws groups, never rows: one sentence in 30 languages is one draw. It speaks of other sentences in
    these languages, not of other languages, and holds the pools fixed.

    Args:
        values: n values.
        languages: the language of each, n.
        groups: what is drawn together, n; the sentence, where rows are its translations.
        resamples: bootstrap resamples.
        seed: of the draws.

    Raises:
        ValueError: there are no values.
    """
    names, place = np.unique(np.asarray(languages, dtype=np.str_), return_inverse=True)
    given = np.asarray(values, dtype=np.float64)

    def means(weights: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return float64 [languages]; a language none of whose rows was drawn is NaN."""
        counts = np.bincount(place, weights=weights, minlength=names.size)
        sums = np.bincount(place, weights=weights * given, minlength=names.size)
        return np.asarray(sums / np.where(counts > 0, counts, np.nan), dtype=np.float64)

    interval = bootstrap_interval(
        lambda weights: float(np.nanmean(means(weights))), groups, resamples=resamples, seed=seed
    )
    each = means(np.ones(given.size, dtype=np.int64))
    worst = int(each.argmin())
    return {
        "n_languages": int(names.size),
        "mean": float(each.mean()),
        "interval": interval,
        "worst": {"language": str(names[worst]), "value": float(each[worst])},
    }
