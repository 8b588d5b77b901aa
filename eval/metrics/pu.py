"""How many positives hide among the unlabelled rows of one head: the prior, and how far two estimates of it agree.

Every function takes the held-out scores of the n_p labelled positives (P) and of the n_u unlabelled rows (U), higher =
more positive. The prior is the share of positives in U, 1 - alpha in the words of Ivanov 2020. All of it rests on
selection completely at random (Elkan and Noto 2008): the labelled positives are a random sample of all positives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
PriorEstimator = Callable[[Floats, Floats], float]
"""Scores of P `[n_p]` and of U `[n_u]` -> share of positives in U."""

ESTIMATORS = ("e1", "e3")
TOO_FAR = 2.0
"""Two estimates whose ratio is larger do not describe one head."""


@dataclass(frozen=True)
class PriorEstimate:
    """The share of positives among unlabelled rows, and what it rests on."""

    prior: float
    """In [0, 1]."""
    low: float
    """Lower end of the percentile interval."""
    high: float
    """Upper end of the percentile interval."""
    resamples: int
    """Bootstrap draws."""
    groups: int
    """Distinct groups drawn from."""
    positives: int
    """Labelled positives, n_p."""
    unlabelled: int
    """Unlabelled rows, n_u."""


def bbe_prior(positives: ArrayLike, unlabelled: ArrayLike, *, delta: float = 0.1, gamma: float = 0.01) -> float:
    """Return the best-bin estimate of the share of positives in U, in [0, 1].

    Best bin estimation (Garg et al. 2021, arXiv 2111.00980, algorithm 1). With q(c) the share of scores at or above c,
    the estimate is q_U(c) / q_P(c) at the c that minimises its upper confidence bound,
    q_U / q_P + (1 + gamma) / q_P (sqrt(ln(4 / delta) / 2 n_u) + sqrt(ln(4 / delta) / 2 n_p)).
    Rows of equal score stand on the same side of every c. Only scores of P need be tried: up to the next one q_P stays
    and q_U falls. Of equal bounds the lowest c counts. Unchanged by any strictly increasing map of the scores.

    Args:
        positives: [n_p].
        unlabelled: [n_u].
        delta: in (0, 1), the chance that the bound fails.
        gamma: above 0, the slack of the bound.

    Raises:
        ValueError: no positive, no unlabelled row, a score that is not finite, or delta or gamma outside its range.
    """
    p, u = _checked(positives, unlabelled)
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta: found {delta}, allowed above 0 and below 1")
    if not gamma > 0.0:
        raise ValueError(f"gamma: found {gamma}, allowed above 0")
    p, u = np.sort(p), np.sort(u)
    cuts = np.unique(p)  # [c]
    q_p = 1.0 - np.searchsorted(p, cuts, side="left") / p.size
    q_u = 1.0 - np.searchsorted(u, cuts, side="left") / u.size
    slack = (1.0 + gamma) * sum(np.sqrt(np.log(4.0 / delta) / (2.0 * n)) for n in (u.size, p.size))
    best = int(np.argmin((q_u + slack) / q_p))
    return float(q_u[best] / q_p[best])


def elkan_noto_prior(
    positives: ArrayLike, unlabelled: ArrayLike, *, estimator: str = "e1", quantile: float = 0.95
) -> float:
    """Return the share of positives in U after Elkan and Noto 2008, section 2, in [0, 1].

    Scores are g(x), calibrated probabilities that a row of P and U together is a labelled one. c is the chance that a
    positive is labelled: the mean of g over P (`e1`), or the largest g (`e3`). Then n_p / c rows are positive, and
    n_p (1 - c) / c of them, at most n_u, are in U. For `e3` a high quantile of g over P and U stands in for the
    maximum, which one row decides, as in Ivanov 2020.

    Args:
        positives: [n_p], in [0, 1].
        unlabelled: [n_u], in [0, 1].
        estimator: `e1` or `e3`.
        quantile: in (0, 1], for `e3`; 1 is the maximum of the paper.

    Raises:
        ValueError: no positive, no unlabelled row, a probability outside [0, 1], an unknown estimator, a quantile
            outside its range, or g so low that c is 0.
    """
    p, u = _checked(positives, unlabelled)
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator: found {estimator!r}, allowed {', '.join(ESTIMATORS)}")
    if not 0.0 < quantile <= 1.0:
        raise ValueError(f"quantile: found {quantile}, allowed above 0 and at most 1")
    pooled = np.concatenate([p, u])
    outside = (pooled < 0) | (pooled > 1)
    if outside.any():
        raise ValueError(f"positives, unlabelled: found a score of {pooled[outside][0]}, allowed probabilities, 0 to 1")
    chance = float(p.mean() if estimator == "e1" else np.quantile(pooled, quantile, method="higher"))
    if chance == 0.0:
        raise ValueError("positives: found no row with a probability above 0, expected calibrated probabilities")
    return min(p.size * (1.0 - chance) / (chance * u.size), 1.0)


def estimate_prior(
    estimator: PriorEstimator,
    positives: ArrayLike,
    unlabelled: ArrayLike,
    *,
    groups: Sequence[str] | None = None,
    resamples: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
) -> PriorEstimate:
    """Return what an estimator says of P and U, with its percentile bootstrap interval (Efron and Tibshirani 1993).

    Whole groups are drawn with replacement, as many as there are of each kind: those in P only, in U only, in both. So
    n_p and n_u hardly move, and rows that belong together stay together across P and U.

    Args:
        estimator: scores of P and of U -> prior.
        positives: [n_p].
        unlabelled: [n_u].
        groups: [n_p + n_u], the group of each row, those of P first; None: each row is its own.
        resamples: how many draws.
        confidence: in (0, 1), two-sided.
        seed: of the generator; equal seeds give equal intervals.

    Raises:
        ValueError: no positive, no unlabelled row, a score that is not finite, a wrong number of groups, no resamples,
            or the confidence is outside (0, 1).
    """
    p, u = _checked(positives, unlabelled)
    names = np.arange(p.size + u.size) if groups is None else np.asarray(groups, dtype=object).astype(str)
    if names.shape != (p.size + u.size,):
        raise ValueError(f"groups: found shape {names.shape}, expected ({p.size + u.size},), one per row of P and U")
    if resamples < 1:
        raise ValueError(f"resamples: found {resamples}, allowed 1 or more")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence: found {confidence}, allowed above 0 and below 1")
    found, inverse = np.unique(names, return_inverse=True)
    in_p, in_u = (np.bincount(rows, minlength=found.size) > 0 for rows in np.split(inverse, [p.size]))
    kinds = [np.flatnonzero(kind) for kind in (in_p & ~in_u, in_u & ~in_p, in_p & in_u) if kind.any()]
    rng = np.random.default_rng(seed)
    values = np.empty(resamples)
    for i in range(resamples):
        drawn = np.concatenate([rng.choice(kind, size=kind.size) for kind in kinds])
        times_p, times_u = np.split(np.bincount(drawn, minlength=found.size)[inverse], [p.size])
        values[i] = estimator(np.repeat(p, times_p), np.repeat(u, times_u))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return PriorEstimate(estimator(p, u), float(low), float(high), resamples, int(found.size), p.size, u.size)


def agree(a: PriorEstimate, b: PriorEstimate) -> bool:
    """Return whether the larger prior is at most twice the smaller, and the smaller is above 0.

    Where two estimators with different weaknesses do not agree, the scores do not tell the prior: train that head on
    its labelled rows alone, without a positive-unlabelled loss.
    """
    low, high = sorted((a.prior, b.prior))
    return low > 0.0 and high <= TOO_FAR * low


def auc_pn(auc_pu: float, prior: float) -> float:
    """Return the ROC-AUC of positives against negatives from that of P against U: (AUC_PU - prior / 2) / (1 - prior).

    U is a mixture, and a positive outranks another one half the time: AUC_PU = prior / 2 + (1 - prior) AUC_PN (Menon
    et al. 2015, corollary 3, with clean positives). Sampling may carry the value past 1; it is not clipped, so that
    models stay ranked.

    Raises:
        ValueError: the AUC is outside [0, 1], or the prior is not between 0 and 1 (at 1 U holds no negative).
    """
    if not 0.0 <= auc_pu <= 1.0:
        raise ValueError(f"auc_pu: found {auc_pu}, allowed 0 to 1")
    if not 0.0 < prior < 1.0:
        raise ValueError(f"prior: found {prior}, allowed above 0 and below 1")
    return (auc_pu - prior / 2.0) / (1.0 - prior)


def _checked(positives: ArrayLike, unlabelled: ArrayLike) -> tuple[Floats, Floats]:
    p, u = np.asarray(positives, dtype=np.float64), np.asarray(unlabelled, dtype=np.float64)
    for name, scores in (("positives", p), ("unlabelled", u)):
        if scores.ndim != 1 or not scores.size:
            raise ValueError(f"{name}: found shape {scores.shape}, expected one axis and at least one row")
        if not np.isfinite(scores).all():
            raise ValueError(f"{name}: found {scores[~np.isfinite(scores)][0]}, expected finite numbers")
    return p, u
