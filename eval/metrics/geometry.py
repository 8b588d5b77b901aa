"""How vectors lie: how many directions they use, how near strangers are, whether languages live apart.

Shapes: n sentences, d embedding. Rows are read as directions: they are brought to unit length first, and a row of
zeros has cosine 0 with all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

FEWEST = 30
"""Fewest sentences and dimensions that `collapsed` judges: below, a healthy encoder uses few directions too."""

LEAST_RANK = 3.0
"""Least effective rank, however few the sentences: a rank-2 encoder has at most 2."""


@dataclass(frozen=True)
class Limits:
    """Where a language counts as collapsed.

    Set from the first bundle, which reads English only, on 500 NTREX sentences (d = 384): English has an effective rank
    of 259 and a mean cosine of .06; Bengali, its worst language, 112 and .81. Drift is .52 to .68 in the languages
    where its bitext accuracy is above a third, .69 to .89 where it is below 8%.
    """

    rank_share: float = 0.1
    """Least effective rank as a share of min(n, d), the most there can be."""
    mean_cosine: float = 0.9
    """Greatest mean cosine of two different sentences of one language."""
    drift: float = 0.7
    """Greatest distance of the centroids of a language and English."""


@dataclass(frozen=True)
class Geometry:
    """The figures of one language beside English."""

    n: int
    """Sentences."""
    dim: int
    """Width d of a vector."""
    effective_rank: float
    """See `effective_rank`."""
    mean_cosine: float
    """See `mean_cosine`."""
    uniformity: float
    """See `uniformity`."""
    drift: float
    """See `centroid_drift`; 0 for English itself."""
    alignment: float
    """See `alignment`, of translations; 0 for English itself."""


def geometry_of(vectors: ArrayLike, *, english: ArrayLike) -> Geometry:
    """Return all figures of a language's sentences `[n, d]` beside their English translations `[n, d]`.

    Raises:
        ValueError: the shapes differ, are not [n, d] with n and d from 1, or a value is not finite.
    """
    v = _checked(vectors, "vectors")
    return Geometry(
        n=v.shape[0],
        dim=v.shape[1],
        effective_rank=effective_rank(v),
        mean_cosine=mean_cosine(v),
        uniformity=uniformity(v),
        drift=centroid_drift(v, english),
        alignment=alignment(v, english),
    )


def effective_rank(vectors: ArrayLike) -> float:
    """Return how many directions the vectors use, from 1 (one direction) to min(n, d) (all alike); NaN of zeros only.

    Roy and Vetterli 2007, definition 1: exp(H(p)), p_k = s_k / sum of s, over the singular values s of the matrix as
    it is, not centred, so that one shared direction counts as one and pulls the rank down.
    """
    s = np.linalg.svd(_checked(vectors, "vectors"), compute_uv=False)  # [min(n, d)]
    if not s.any():
        return float("nan")
    p = s[s > 0] / s.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def mean_cosine(vectors: ArrayLike) -> float:
    """Return the mean cosine of two different rows, in [-1, 1]; near 0 = spread out, 1 = one point; NaN for one row.

    Exactly the mean over all n (n - 1) ordered pairs, which random pairs would only estimate:
    (|sum of v|^2 - sum of |v|^2) / (n (n - 1)).
    """
    v = _checked(vectors, "vectors")
    n, total = v.shape[0], v.sum(axis=0)
    return float((total @ total - (v * v).sum()) / (n * (n - 1))) if n > 1 else float("nan")


def centroid_drift(vectors: ArrayLike, reference: ArrayLike) -> float:
    """Return the distance of the two centroids, in [0, 2]: 0 = one place, sqrt(2) = two points at right angles.

    A distance, not a cosine: the centroids of a well spread encoder lie near 0, where their directions mean nothing.
    """
    v, r = _pair(vectors, reference)
    return float(np.linalg.norm(v.mean(axis=0) - r.mean(axis=0)))


def alignment(first: ArrayLike, second: ArrayLike) -> float:
    """Return the mean squared distance of row i to row i, in [0, 4]; 0 = translations share a point.

    Wang and Isola 2020, section 4.1.1, with alpha = 2.
    """
    x, y = _pair(first, second)
    return float(((x - y) ** 2).sum(axis=1).mean())


def uniformity(vectors: ArrayLike) -> float:
    """Return log of the mean over pairs of exp(-2 |u - v|^2), at most 0 = one point; about -4 = all over the sphere.

    Wang and Isola 2020, section 4.1.2, with t = 2, over all pairs of different rows; NaN for one row.
    """
    v = _checked(vectors, "vectors")
    n = v.shape[0]
    if n < 2:
        return float("nan")
    squares = (v * v).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2.0 * (v @ v.T)  # [n, n], squared
    return float(np.log(np.exp(-2.0 * distances[np.triu_indices(n, k=1)]).mean()))


def collapsed(languages: Mapping[str, Geometry], *, limits: Limits | None = None) -> tuple[str, ...]:
    """Return why the encoder has collapsed, one reason per language and figure; empty when it has not.

    Three ways to collapse, each with its limit: few directions (`effective_rank` below a share of min(n, d), and below
    3), strangers too near (`mean_cosine`), a language in a place of its own (`drift`). A figure that is not defined
    counts as past its limit.

    Raises:
        ValueError: no languages, or one with fewer than `FEWEST` sentences or dimensions.
    """
    limits = limits or Limits()
    if not languages:
        raise ValueError("languages: found none, expected at least one")
    reasons = []
    for name, figures in languages.items():
        most = min(figures.n, figures.dim)
        if most < FEWEST:
            raise ValueError(
                f"languages: found n = {figures.n}, d = {figures.dim} for {name}, allowed {FEWEST} and up: rank says "
                "nothing below"
            )
        rank = max(LEAST_RANK, limits.rank_share * most)
        if not figures.effective_rank >= rank:
            reasons.append(f"{name}: effective rank {figures.effective_rank:.1f}, allowed {rank:.1f} and up")
        if not figures.mean_cosine <= limits.mean_cosine:
            reasons.append(f"{name}: mean cosine {figures.mean_cosine:.2f}, allowed up to {limits.mean_cosine:g}")
        if not figures.drift <= limits.drift:
            reasons.append(f"{name}: drift {figures.drift:.2f} from English, allowed up to {limits.drift:g}")
    return tuple(reasons)


def _pair(first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
    x, y = _checked(first, "first"), _checked(second, "second")
    if x.shape != y.shape:
        raise ValueError(f"second: found shape {y.shape}, expected that of first, {x.shape}")
    return x, y


def _checked(vectors: ArrayLike, name: str) -> Floats:
    """Return the rows at unit length; a row of zeros stays."""
    found = np.asarray(vectors, dtype=np.float64)
    if found.ndim != 2 or 0 in found.shape:
        raise ValueError(f"{name}: found shape {found.shape}, expected [n, d] with n and d from 1")
    bad = ~np.isfinite(found).all(axis=1)
    if bad.any():
        raise ValueError(f"{name}: found a value that is not finite in row {int(bad.argmax())}, {int(bad.sum())} rows")
    norms = np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(found / np.where(norms > 0, norms, 1.0), dtype=np.float64)
