"""Bitext retrieval: does a sentence find its own translation among others, by cosine?

Shapes: n sentence pairs, d embedding. Row i of one side translates row i of the other; the pool is the n rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

TIE = 1e-6
"""Cosines no further apart are equal: float32 vectors of one text differ by about 1e-7 between runs."""


@dataclass(frozen=True)
class BitextCredits:
    """What each sentence earned, both ways."""

    forward: Floats
    """float64 [n] in [0, 1]: the first side searches among the second."""
    backward: Floats
    """float64 [n] in [0, 1]: the second side searches among the first."""

    @property
    def both(self) -> Floats:
        """Return float64 [n], the mean of the two directions; its mean over n is the bitext accuracy."""
        return (self.forward + self.backward) / 2.0


def bitext_credits(first: ArrayLike, second: ArrayLike) -> BitextCredits:
    """Return what each sentence earns for finding its translation: 1 if it is nearest, else 0; 1/k if k tie there.

    The nearest neighbour rule of Artetxe and Schwenk 2019 (Tatoeba, section 4.3), both ways. Departure: they take
    the first of equals, which pays by position; 1/k is what taking one of them at random earns on average, so that
    an encoder with one vector for all texts earns 1/n. A pool of one pair earns 1.

    Args:
        first: float [n, d]; a row need not have unit length, a row of zeros has cosine 0 with all.
        second: float [n, d].

    Raises:
        ValueError: the shapes differ, are not [n, d] with n and d from 1, or a value is not finite.

    Example:
        >>> bitext_credits([[1.0, 0.0], [0.0, 1.0]], [[0.9, 0.1], [0.8, 0.2]]).both.tolist()
        [1.0, 0.5]
    """
    x, y = _checked(first, "first"), _checked(second, "second")
    if x.shape != y.shape:
        raise ValueError(f"second: found shape {y.shape}, expected that of first, {x.shape}")
    cosine = _unit(x) @ _unit(y).T  # [n, n]
    return BitextCredits(forward=_credits(cosine), backward=_credits(cosine.T))


def _credits(cosine: Floats) -> Floats:
    """Return [n]: row i's share of its own column i among the greatest of cosine [n, n]."""
    at_top = cosine >= cosine.max(axis=1, keepdims=True) - TIE  # [n, n]
    return np.where(np.diagonal(at_top), 1.0 / at_top.sum(axis=1), 0.0)


def _unit(vectors: Floats) -> Floats:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1.0), dtype=np.float64)


def _checked(vectors: ArrayLike, name: str) -> Floats:
    found = np.asarray(vectors, dtype=np.float64)
    if found.ndim != 2 or 0 in found.shape:
        raise ValueError(f"{name}: found shape {found.shape}, expected [n, d] with n and d from 1")
    bad = ~np.isfinite(found).all(axis=1)
    if bad.any():
        raise ValueError(f"{name}: found a value that is not finite in row {int(bad.argmax())}, {int(bad.sum())} rows")
    return found
