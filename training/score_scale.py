"""Scales for a score: from a head's probability to the fraction of readers who see something, and how well it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from eval.metrics.perceived import ScaleFigures, balanced_weights, scale_figures, weighted_mean, weighted_quantiles
from eval.votes import USUAL

BINS = 20
"""Equal shares of the weight whose means are made monotone; other numbers, from 10 to 80, changed little."""
FOLDS = 5
"""Of the cross-validation, by group."""
DIGITS = 5
"""Decimals of a point."""

Floats = NDArray[np.float64]
Points = tuple[tuple[float, float], ...]
Scale = Callable[["Voted"], Points]


@dataclass(frozen=True)
class Voted:
    """n rows of one attribute; all arrays share their axis."""

    scores: Floats
    """`[n]`, before any mapping, in [0, 1], by heads that never saw the row."""
    fraction: Floats
    """`[n]`, the share of raters who saw the attribute, in [0, 1]."""
    source: NDArray[np.str_]
    """`[n]`, the data set a row comes from."""
    group: NDArray[np.str_]
    """`[n]`; rows of one group never stand on both sides of a split."""

    @property
    def weights(self) -> Floats:
        """`[n]`, half of every source's weight on rows that half or more of the raters saw the attribute in."""
        return balanced_weights(self.fraction, self.source)

    def take(self, rows: NDArray[np.bool_]) -> Voted:
        """Return the marked rows, bool `[n]`."""
        return Voted(self.scores[rows], self.fraction[rows], self.source[rows], self.group[rows])


def expected_fractions(rows: Voted, *, bins: int = BINS) -> Points:
    """Return points of E[fraction | score]: isotonic regression (Barlow et al. 1972) over bins of equal weight.

    Each inner point is a block of bins at its mean score. Between blocks the line rises, so that the order of comments
    stays; below the first block it runs to (0, 0) and above the last to (1, 1), which only extrapolates.

    Raises:
        ValueError: no source has rows both of which half or more of the raters saw the attribute in, and others.
    """
    weights = rows.weights
    if not weights.any():
        raise ValueError("votes: found no source with both kinds of rows, expected at least one")
    x, y, heavy = _bins(rows.scores, rows.fraction, weights, bins)
    level = IsotonicRegression(y_min=0.0, y_max=1.0).fit(x, y, sample_weight=heavy).predict(x)
    return _points([(float(np.average(x[level == v], weights=heavy[level == v])), float(v)) for v in np.unique(level)])


def same_share(rows: Voted, *, bins: int = BINS) -> Points:
    """Return points that give scores the weighted distribution of the fractions: the reading that was dropped."""
    at = np.linspace(0.0, 1.0, bins + 1)
    from_, to = (weighted_quantiles(values, rows.weights, at) for values in (rows.scores, rows.fraction))
    return _points(list(zip(from_.tolist(), to.tolist(), strict=True)))


def unmapped(rows: Voted) -> Points:  # noqa: ARG001 - a scale like the others
    """Return the identity."""
    return ((0.0, 0.0), (1.0, 1.0))


def cross_validate(rows: Voted, *, seed: int) -> dict[str, Any]:
    """Return how each scale does on rows it was not fitted on: by group, and by source ("without_source").

    Args:
        rows: the rows that the shipped mapping is fitted on.
        seed: of the draw of folds.
    """
    names, place = np.unique(rows.group, return_inverse=True)
    fold = np.random.default_rng(seed).integers(0, FOLDS, len(names))[place].astype(str)
    sources, counts = np.unique(rows.source, return_counts=True)
    record: dict[str, Any] = {
        "n": len(rows.scores),
        "groups": len(names),
        "sources": dict(zip(sources.tolist(), counts.tolist(), strict=True)),
        "unmapped": _figures(rows, rows.scores),
        "mapped": _figures(rows, _held_out(rows, fold, expected_fractions)),
        "same_share": _figures(rows, _held_out(rows, fold, same_share)),
    }
    if len(sources) > 1:
        record["without_source"] = _figures(rows, _held_out(rows, rows.source, expected_fractions))
    return record


def apply(points: Points, scores: Floats) -> Floats:
    """Return the mapped scores `[n]`."""
    line = np.array(points)  # [points, 2]
    mapped: Floats = np.interp(scores, line[:, 0], line[:, 1])
    return mapped


def _held_out(rows: Voted, part: NDArray[np.str_], scale: Scale) -> Floats:
    """Return scores `[n]`, each mapped by what was fitted on the rows of all other parts."""
    mapped = np.zeros(len(rows.scores))
    for name in np.unique(part):
        here = part == name
        mapped[here] = apply(scale(rows.take(~here)), rows.scores[here])
    return mapped


def _figures(rows: Voted, mapped: Floats) -> ScaleFigures:
    return scale_figures(mapped, rows.fraction, rows.weights, thresholds=USUAL)


def _bins(scores: Floats, fraction: Floats, weights: Floats, bins: int) -> tuple[Floats, Floats, Floats]:
    """Return mean score, mean fraction and weight of each bin in rising order; weightless rows are in none."""
    edges = np.unique(weighted_quantiles(scores, weights, np.linspace(0.0, 1.0, bins + 1)[1:-1]))
    place = np.searchsorted(edges, scores, side="left")  # equal scores stay together
    weighing = [here for b in np.unique(place) if weights[here := place == b].any()]
    x, y = (np.array([weighted_mean(v[here], weights[here]) for here in weighing]) for v in (scores, fraction))
    return x, y, np.array([weights[here].sum() for here in weighing])


def _points(found: list[tuple[float, float]]) -> Points:
    """Return rising points from (0, 0) to (1, 1); of points whose `from` is equal once rounded the last stays."""
    inner = {round(x, DIGITS): round(y, DIGITS) for x, y in found if 0.0 < round(x, DIGITS) < 1.0}
    return ((0.0, 0.0), *inner.items(), (1.0, 1.0))
