"""Confidence intervals of a share: k successes in n trials."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A closed interval."""

    low: float
    """Lower end."""
    high: float
    """Upper end."""


def wilson(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """Return the two-sided Wilson score interval of a share; [0, 1] when there are no trials.

    Wilson 1927; Brown, Cai and DasGupta 2001, eq. 4: centre (k + z^2/2) / (n + z^2),
    half width z sqrt(n) / (n + z^2) sqrt(p (1 - p) + z^2 / (4 n)).

    Raises:
        ValueError: successes are outside [0, trials] or confidence is outside (0, 1).
    """
    _check(successes, trials, confidence)
    if trials == 0:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    share = successes / trials
    centre = (successes + z * z / 2.0) / (trials + z * z)
    half = z * math.sqrt(trials) / (trials + z * z) * math.sqrt(share * (1.0 - share) + z * z / (4.0 * trials))
    # At the ends the formula gives 0 and 1 up to rounding; say so exactly.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return Interval(low, high)


def clopper_pearson_lower(successes: int, trials: int, *, confidence: float = 0.95) -> float:
    """Return the one-sided exact lower bound of a share: the p with P(X >= k | n, p) = 1 - confidence; 0 for k = 0.

    Clopper and Pearson 1934. Found by bisection of the binomial tail, to 1e-12; equals the beta quantile
    B(1 - confidence; k, n - k + 1).

    Raises:
        ValueError: successes are outside [0, trials] or confidence is outside (0, 1).
    """
    _check(successes, trials, confidence)
    if successes == 0:
        return 0.0
    counts = np.arange(1, trials + 1)
    log_choose = np.concatenate([[0.0], np.cumsum(np.log(trials - counts + 1) - np.log(counts))])[successes:]
    kept = np.arange(successes, trials + 1)

    def tail(p: float) -> float:
        return float(np.exp(log_choose + kept * math.log(p) + (trials - kept) * math.log1p(-p)).sum())

    low, high = 0.0, 1.0
    while high - low > 1e-12:
        middle = (low + high) / 2.0
        low, high = (middle, high) if tail(middle) < 1.0 - confidence else (low, middle)
    return low


def _check(successes: int, trials: int, confidence: float) -> None:
    if not 0 <= successes <= trials:
        raise ValueError(f"successes: found {successes}, allowed 0 to trials ({trials})")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence: found {confidence}, allowed above 0 and below 1")
