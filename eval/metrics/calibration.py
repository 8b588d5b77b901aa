"""Do probabilities mean what they say? Reliability bins, expected calibration error, Brier score.

Unknown labels (NaN) are left out. Probabilities lie in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
SCHEMES = ("width", "mass")


@dataclass(frozen=True)
class Bin:
    """One bin of a reliability diagram; empty bins are not made."""

    probability: float
    """Mean predicted probability."""
    share: float
    """Share of positives."""
    n: int
    """Rows."""


def reliability_bins(
    labels: ArrayLike, probabilities: ArrayLike, *, bins: int = 15, scheme: str = "mass"
) -> tuple[Bin, ...]:
    """Return the non-empty bins in rising order of probability.

    `width` cuts [0, 1] into equal parts, right-closed, 0 in the first (Guo et al. 2017, section 2); `mass` cuts at
    quantiles (Nixon et al. 2019, adaptive calibration error); equal probabilities stay together, so that fewer bins may
    come out.

    Raises:
        ValueError: an unknown scheme, fewer than one bin, shapes differ, a probability outside [0, 1].
    """
    if scheme not in SCHEMES:
        raise ValueError(f"scheme: found {scheme!r}, allowed {', '.join(SCHEMES)}")
    if bins < 1:
        raise ValueError(f"bins: found {bins}, allowed 1 or more")
    y, p = _checked(labels, probabilities)
    if not p.size:
        return ()
    inner = np.linspace(0, 1, bins + 1)[1:-1]
    edges = inner if scheme == "width" else np.unique(np.quantile(p, inner))
    place = np.searchsorted(edges, p, side="left")  # right-closed: p == edge stays below it
    found = []
    for b in np.unique(place):
        here = place == b
        found.append(Bin(probability=float(p[here].mean()), share=float(y[here].mean()), n=int(here.sum())))
    return tuple(found)


def expected_calibration_error(
    labels: ArrayLike, probabilities: ArrayLike, *, bins: int = 15, scheme: str = "mass"
) -> float:
    """Return ECE = sum over bins of n_b / n |share_b - probability_b|, in [0, 1], 0 = calibrated; NaN without rows.

    Naeini et al. 2015, Guo et al. 2017 eq. 3, for the positive class of one head.
    """
    found = reliability_bins(labels, probabilities, bins=bins, scheme=scheme)
    total = sum(b.n for b in found)
    return sum(b.n * abs(b.share - b.probability) for b in found) / total if total else float("nan")


def brier(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the mean of (p - y)^2 (Brier 1950), in [0, 1], 0 = certain and right; NaN without rows."""
    y, p = _checked(labels, probabilities)
    return float(np.mean((p - y) ** 2)) if p.size else float("nan")


def _checked(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Floats, Floats]:
    y, p = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    if y.ndim != 1 or y.shape != p.shape:
        raise ValueError(f"probabilities: found shape {p.shape}, expected that of labels, {y.shape}, one axis")
    keep = ~np.isnan(y)
    y, p = y[keep], p[keep]
    inside = (p >= 0) & (p <= 1)  # False for NaN too
    if not inside.all():
        raise ValueError(f"probabilities: found {p[~inside][0]}, allowed 0 to 1")
    return y, p
