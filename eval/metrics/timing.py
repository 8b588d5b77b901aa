"""Figures of repeated measurements: percentiles of one round, and the spread of a figure over rounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Spread:
    """One figure measured once per round."""

    median: float
    """Of the rounds."""
    min: float
    """Smallest round."""
    max: float
    """Largest round."""
    rounds: tuple[float, ...]
    """Every round, in order."""


def spread(values: Sequence[float]) -> Spread:
    """Return median, least and greatest of a figure over rounds.

    Raises:
        ValueError: there is no value, or one is not finite.
    """
    _check(values)
    return Spread(median=median(values), min=min(values), max=max(values), rounds=tuple(values))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of the values do not exceed (nearest rank, no interpolation).

    With few values a high percentile is simply the largest of them, never a figure nobody measured.

    Raises:
        ValueError: there is no value, one is not finite, or `share` is outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"share: found {share!r}, allowed above 0 and up to 1")
    _check(values)
    # Rounded first: 0.07 * 100 is a little above 7 in floating point, and its rank is 7, not 8.
    return sorted(values)[math.ceil(round(share * len(values), 9)) - 1]


def paired(ours: Sequence[float], theirs: Sequence[float], combine: Callable[[float, float], float]) -> Spread:
    """Return the spread of `combine(ours, theirs)`, taken round by round: what slows a whole round cancels.

    Raises:
        ValueError: the rounds do not pair up.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"theirs: found {len(theirs)} rounds, expected {len(ours)}")
    return spread([combine(a, b) for a, b in zip(ours, theirs, strict=True)])


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Return the spread of ours / theirs, round by round.

    Raises:
        ValueError: the rounds do not pair up or one of theirs is not above 0.
    """
    if any(value <= 0 for value in theirs):
        raise ValueError(f"theirs: found {min(theirs)!r}, allowed above 0")
    return paired(ours, theirs, lambda a, b: a / b)


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Return the spread of ours - theirs, round by round."""
    return paired(ours, theirs, lambda a, b: a - b)


def _check(values: Sequence[float]) -> None:
    if not values:
        raise ValueError("values: found none, expected at least one")
    if not all(math.isfinite(value) for value in values):
        raise ValueError("values: found one that is not finite")
