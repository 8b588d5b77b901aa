"""DEDPUL: the share of positives in U, and each unlabelled row's chance of being one, from a ratio of densities.

Ivanov 2020 (arXiv 1902.06965), in our coding: higher score = more positive, prior = share of positives in U (his
1 - alpha). Scores are logits of a classifier of P (labelled positives) against U (unlabelled rows), on held-out rows.
Adding to all of them or stretching them changes nothing; bending them does, for densities are smoothed on this scale.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d, median_filter

Floats = NDArray[np.float64]

BANDWIDTH_P, BANDWIDTH_U = 0.1, 0.05
"""Bandwidths of P and U, in standard deviations of each (Ivanov 2020)."""
CEILING = 1000.0
"""Largest ratio of densities; 1 / CEILING is the smallest prior that can be found."""
POINTS_PER_BANDWIDTH, MAX_POINTS = 10, 2**17
"""Grid of the densities."""
STEP, TOLERANCE, MAX_ERROR, ITERATIONS = 0.001, 1e-5, 0.05, 1000
"""Grid of priors, end of EM, largest error of a prior at the knee, longest EM (all of the author's code)."""


@dataclass(frozen=True)
class Dedpul:
    """What DEDPUL says of the unlabelled rows, in the order they came."""

    prior: float
    """Share of positives in U, in (0, 1]."""
    posterior: Floats
    """float64 [n_u], chance that the row is positive; rises with the score."""
    ratio: Floats
    """float64 [n_u], density of P over density of U at the row, smoothed; rises with the score."""
    converged: bool
    """True where EM found the prior, False where the knee of the error did."""


def dedpul(positives: ArrayLike, unlabelled: ArrayLike) -> Dedpul:
    """Return prior and posteriors of U from the logits of P [n_p] and U [n_u].

    Raises:
        ValueError: no positive, no unlabelled row, a score that is not finite, or P or U has one distinct score.
    """
    ratio = density_ratio(positives, unlabelled)
    prior, converged = _prior(ratio)
    return Dedpul(prior=prior, posterior=np.minimum(prior * ratio, 1.0), ratio=ratio, converged=converged)


def density_ratio(positives: ArrayLike, unlabelled: ArrayLike, *, ceiling: float = CEILING) -> Floats:
    """Return float64 [n_u], the density of P over that of U at each unlabelled row, 0 to `ceiling`.

    Gaussian kernel densities; then, over the rows of U by score, a median over 11 rows, a running maximum from midway
    between the means of P and U upwards, a median over a tenth of the rows, and sorting, so that the ratio rises with
    the score. Windows shrink towards both ends.

    Departures from the author's code: densities and the midpoint are of logits throughout, with no small constants, so
    that the scale does not matter; rows of equal score get their mean ratio; his ceiling of 50 never finds a prior
    below .02, where rare violations lie, and a higher one changed no prior of .05 or more.

    Args:
        positives: [n_p], logits.
        unlabelled: [n_u], logits.
        ceiling: the largest ratio; its inverse is the smallest prior that can be found.

    Raises:
        ValueError: as `dedpul`; or `ceiling` is not above 1.
    """
    p, u = _checked(positives, unlabelled)
    if not ceiling > 1.0:
        raise ValueError(f"ceiling: found {ceiling}, allowed above 1")
    order = np.argsort(u, kind="stable")
    rising = u[order]
    ratio = _density(p, rising, BANDWIDTH_P) / _density(u, rising, BANDWIDTH_U)
    ratio = _rolling_median(np.minimum(ratio, ceiling), 5)
    above = int(np.searchsorted(rising, (p.mean() + u.mean()) / 2.0))
    ratio[above:] = np.maximum.accumulate(ratio[above:])
    ratio = np.sort(_rolling_median(ratio, u.size // 20))
    _, place, count = np.unique(rising, return_inverse=True, return_counts=True)
    found = np.empty_like(ratio)
    means = np.maximum.accumulate(np.bincount(place, weights=ratio) / count)  # rounding may make a mean fall by a hair
    found[order] = means[place]
    return found


def posterior_at(ratio: ArrayLike, prior: float) -> Floats:
    """Return float64 [n_u], the chances that the rows are positive where the prior is known: their mean is the prior.

    min(1, s ratio), with the one s that gives that mean; s = prior alone would give a lower one where rows are clipped.
    Where fewer rows than that have a ratio above 0, all of these are positive, and the mean is below the prior.

    Args:
        ratio: [n_u], density of P over that of U at each row, 0 or more.
        prior: share of positives in U.

    Raises:
        ValueError: the prior is not between 0 and 1, a ratio is negative or not finite, or there is none.
    """
    r = np.asarray(ratio, dtype=np.float64)
    if not 0.0 < prior < 1.0:
        raise ValueError(f"prior: found {prior}, allowed above 0 and below 1")
    if r.ndim != 1 or not r.size:
        raise ValueError(f"ratio: found shape {r.shape}, expected one axis and at least one row")
    if not (np.isfinite(r) & (r >= 0)).all():
        raise ValueError(f"ratio: found {r[~(np.isfinite(r) & (r >= 0))][0]}, expected finite numbers, 0 or more")
    if np.mean(r > 0) <= prior:
        return (r > 0).astype(np.float64)
    falling = np.sort(r[r > 0])[::-1]
    rest = np.cumsum(falling[::-1])[::-1]  # [k], sum of a ratio and all smaller ones
    scales = (prior * r.size - np.arange(falling.size)) / rest  # [k], the s if exactly so many rows are clipped
    clipped = int(np.argmax(scales * falling <= 1.0 + 1e-12))
    posterior: Floats = np.minimum(scales[clipped] * r, 1.0)
    return posterior


def _prior(ratio: Floats) -> tuple[float, bool]:
    """Return the prior, and whether it is where EM converged (Ivanov 2020, section 4.2; fallback as in his code).

    EM starts at 1 and moves to the mean posterior, until that is the prior or no row is clipped. The densities are
    estimates: where the ratio came out too low, the error, prior - mean posterior, never falls below 0, and EM runs
    past its knee, the prior of largest second difference of the error among small errors. Then the knee is taken.
    """
    prior = 1.0
    for _ in range(ITERATIONS):
        mean = float(_mean_posterior(ratio, np.array([prior]))[0])
        if abs(mean - prior) < TOLERANCE or prior * ratio.max() < 1.0:
            break
        prior = mean
    grid = 1.0 - np.arange(0.0, 1.0, STEP)  # [g], falls
    errors = grid - _mean_posterior(ratio, grid)
    bend = np.where(errors[1:-1] < MAX_ERROR, np.diff(errors, n=2), -np.inf)
    knee = float(grid[1:-1][np.argmax(bend)])
    if knee <= prior or ((errors < 0).sum() > 1 and prior > STEP):
        return prior, True
    return knee, False


def _mean_posterior(ratio: Floats, priors: Floats) -> Floats:
    """Return, for each of g priors above 0, the mean of min(1, prior ratio) over the rows."""
    rising = np.sort(ratio)
    below = np.append(0.0, np.cumsum(rising))  # [n_u + 1]
    kept = np.searchsorted(rising, 1.0 / priors, side="right")  # [g], rows that are not clipped
    return np.asarray((priors * below[kept] + rising.size - kept) / rising.size, dtype=np.float64)


def _density(scores: Floats, at: Floats, bandwidth: float) -> Floats:
    """Return the Gaussian kernel density of `scores` at the points `at`, from a grid.

    Scores are shared between their two neighbours on the grid (Wand 1994), smoothed, and read off linearly: time grows
    with n, not with n squared.
    """
    width = bandwidth * float(np.std(scores, ddof=1))
    low, high = min(scores.min(), at.min()), max(scores.max(), at.max())
    step = max(width / POINTS_PER_BANDWIDTH, (high - low) / MAX_POINTS)
    grid = low + step * np.arange(int((high - low) / step) + 2)
    place = (scores - low) / step
    left = place.astype(np.int64)
    part = place - left
    mass = np.bincount(left, weights=1.0 - part, minlength=grid.size)
    mass[1:] += np.bincount(left, weights=part, minlength=grid.size)[:-1]
    smooth = gaussian_filter1d(mass, width / step, mode="constant", truncate=8.0)
    return np.asarray(np.interp(at, grid, smooth / (step * scores.size)), dtype=np.float64)


def _rolling_median(values: Floats, half: int) -> Floats:
    """Return the median of the `half` values on both sides and the value itself; near an end, of as many as there are.

    Both sides stay alike: the first of all is itself, the next the median of three.
    """
    half = min(half, (values.size - 1) // 2)
    if half < 1:
        return values.copy()
    found: Floats = median_filter(values, size=2 * half + 1, mode="nearest")
    found[:half] = _expanding_median(values[: 2 * half])
    found[-half:] = _expanding_median(values[-2 * half :][::-1])[::-1]
    return found


def _expanding_median(values: Floats) -> Floats:
    """Return the medians of the first 1, 3, 5, ... of 2k values, `[k]`."""
    seen: list[float] = []
    found = np.empty(values.size // 2)
    for i, value in enumerate(values.tolist()):
        insort(seen, value)
        if i % 2 == 0:
            found[i // 2] = seen[i // 2]
    return found


def _checked(positives: ArrayLike, unlabelled: ArrayLike) -> tuple[Floats, Floats]:
    p, u = np.asarray(positives, dtype=np.float64), np.asarray(unlabelled, dtype=np.float64)
    for name, scores in (("positives", p), ("unlabelled", u)):
        if scores.ndim != 1 or not scores.size:
            raise ValueError(f"{name}: found shape {scores.shape}, expected one axis and at least one row")
        if not np.isfinite(scores).all():
            raise ValueError(f"{name}: found {scores[~np.isfinite(scores)][0]}, expected finite numbers")
        if scores.min() == scores.max():
            raise ValueError(f"{name}: found one distinct score, {scores[0]}, expected two or more")
    return p, u
