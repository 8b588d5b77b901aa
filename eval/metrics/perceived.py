"""Does a score mean the fraction of readers who perceive something? Measured against the fraction of raters who did.

Shapes: n rows. A fraction is in [0, 1]; a row is perceived as having the attribute when half or more of its raters say
so. Weights make the figures those of another mix of rows than the one at hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HALF = 0.5
NEAR = 0.05
"""Scores this close to a threshold are those of which the threshold speaks."""
SLACK = 1e-9
"""9/10 must reach .9 whatever the rounding."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class AtThreshold:
    """What a threshold does, all shares weighted; one with an empty denominator is NaN."""

    flagged: float
    """Share of rows scored at or above the threshold."""
    raters: float
    """Share of rows of which at least that fraction of raters saw the attribute: what `flagged` should be."""
    precision: float
    """Share of the flagged that half or more of the raters saw it in."""
    precision_same: float
    """Share of the flagged that reach the threshold by the raters' fraction too."""
    recall: float
    """Share of the rows that reach it by the raters' fraction which are flagged."""
    fraction_flagged: float
    """Mean fraction of raters over the flagged."""
    fraction_near: float
    """Mean fraction of raters over the rows scored within `NEAR` of the threshold: equal to it if the scale holds."""
    n_flagged: int
    """Rows flagged, unweighted."""
    n_near: int
    """Rows scored near, unweighted."""


@dataclass(frozen=True)
class ScaleFigures:
    """How far scores mean fractions."""

    absolute_error: float
    """Weighted mean of |score - fraction|; above 0 for a perfect scale too, as raters are few."""
    scale_error: float
    """See `scale_error`."""
    thresholds: Mapping[str, AtThreshold]
    """Threshold, as text -> what it does."""


def scale_figures(scores: Floats, fraction: Floats, weights: Floats, *, thresholds: Sequence[float]) -> ScaleFigures:
    """Return the errors of scores `[n]` against fractions `[n]`, and what each threshold does; all weighted."""
    return ScaleFigures(
        absolute_error=weighted_mean(np.abs(scores - fraction), weights),
        scale_error=scale_error(scores, fraction, weights),
        thresholds={f"{t:g}": at_threshold(scores, fraction, weights, threshold=t) for t in thresholds},
    )


def balanced_weights(fraction: Floats, source: NDArray[np.str_]) -> Floats:
    """Return float64 `[n]`: within each source the perceived rows weigh as much as the others, together its row count.

    Balanced over all sources at once, a source with many perceived rows would be mistaken for a sign of them. A source
    with rows of one kind only has nothing to balance and weighs 0.

    >>> balanced_weights(np.array([1.0, 0.0, 0.0, 1.0]), np.array(["a", "a", "a", "b"]))
    array([1.5 , 0.75, 0.75, 0.  ])
    """
    weights = np.zeros(len(fraction))
    for name in np.unique(source):
        here = source == name
        kinds = [here & (fraction >= HALF), here & (fraction < HALF)]
        if all(kind.any() for kind in kinds):
            for kind in kinds:
                weights[kind] = here.sum() / (2 * kind.sum())
    return weights


def at_threshold(scores: Floats, fraction: Floats, weights: Floats, *, threshold: float) -> AtThreshold:
    """Return what a threshold in (0, 1] does to scores `[n]` of rows with these fractions and weights, both `[n]`."""
    flagged, wanted = scores >= threshold, fraction >= threshold - SLACK
    near = np.abs(scores - threshold) <= NEAR + SLACK
    return AtThreshold(
        flagged=weighted_mean(flagged, weights),
        raters=weighted_mean(wanted, weights),
        precision=weighted_mean(fraction[flagged] >= HALF, weights[flagged]),
        precision_same=weighted_mean(wanted[flagged], weights[flagged]),
        recall=weighted_mean(flagged[wanted], weights[wanted]),
        fraction_flagged=weighted_mean(fraction[flagged], weights[flagged]),
        fraction_near=weighted_mean(fraction[near], weights[near]),
        n_flagged=int(flagged.sum()),
        n_near=int(near.sum()),
    )


def scale_error(scores: Floats, fraction: Floats, weights: Floats, *, bins: int = 15) -> float:
    """Return the sum over bins of score of w_b |mean fraction_b - mean score_b|, in [0, 1]; 0: scores mean fractions.

    Expected calibration error (Naeini et al. 2015) with fractions in the place of labels; [0, 1] cut evenly.
    """
    place = np.minimum((scores * bins).astype(np.int64), bins - 1)
    difference = fraction - scores
    parts = [np.sum(weights[place == b] * difference[place == b]) for b in np.unique(place)]
    total = weights.sum()
    return float(np.sum(np.abs(parts)) / total) if total > 0 else float("nan")


def reliability(scores: Floats, fraction: Floats, weights: Floats, *, bins: int = 15) -> list[dict[str, float]]:
    """Return the bins of a reliability diagram in rising order: weighted mean score and mean fraction, and rows.

    Bins are cut at quantiles of the score, so that each holds about as many rows.
    """
    edges = np.unique(np.quantile(scores, np.linspace(0.0, 1.0, bins + 1)[1:-1]))
    place = np.searchsorted(edges, scores, side="left")  # equal scores stay together
    held = [here for b in np.unique(place) if weights[here := place == b].any()]
    return [
        {
            "probability": weighted_mean(scores[here], weights[here]),
            "share": weighted_mean(fraction[here], weights[here]),
            "n": int(here.sum()),
        }
        for here in held
    ]


def weighted_mean(values: NDArray[np.float64] | NDArray[np.bool_], weights: Floats) -> float:
    """Return the weighted mean; NaN where nothing weighs."""
    total = weights.sum()
    return float((values * weights).sum() / total) if total > 0 else float("nan")


def weighted_quantiles(values: Floats, weights: Floats, at: Floats) -> Floats:
    """Return the smallest values at or below which at least the shares `at`, in [0, 1], of the weight lie.

    >>> weighted_quantiles(np.array([3.0, 1.0, 2.0]), np.array([1.0, 2.0, 1.0]), np.array([0.5, 0.75, 1.0]))
    array([1., 2., 3.])
    """
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order])
    places = np.searchsorted(below, at * below[-1] - SLACK, side="left")
    found: Floats = values[order][np.minimum(places, len(values) - 1)]
    return found
