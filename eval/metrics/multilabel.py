"""Ranking and decision metrics of one binary head, and their mean over heads of which some labels are unknown (NaN).

Shapes: n rows, H heads. A label is 1.0 (positive), 0.0 (negative) or NaN (unknown, which never counts as negative).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """The precision-recall curve of one head, one point per distinct score, thresholds falling."""

    precision: Floats
    """float64 [k], share of the flagged rows that are positive."""
    recall: Floats
    """float64 [k], share of the positive rows that are flagged; rises."""
    thresholds: Floats
    """float64 [k], a row is flagged when its score is at or above it."""


@dataclass(frozen=True)
class RecallAtPrecision:
    """The operating point of highest recall among those precise enough."""

    recall: float
    """In [0, 1]; 0 when no threshold is precise enough."""
    precision: float
    """Precision there, NaN when no threshold is precise enough."""
    threshold: float
    """Flag at or above; infinity when no threshold is precise enough."""
    true_positives: int
    """Positives flagged."""
    positives: int
    """Positives in all."""


@dataclass(frozen=True)
class Decisions:
    """Counts and rates of yes/no decisions against labels; a rate with an empty denominator is NaN."""

    n: int
    """Rows with a known label."""
    positives: int
    """Rows labelled 1."""
    precision: float
    """TP / (TP + FP)."""
    recall: float
    """TP / (TP + FN)."""
    f1: float
    """2 TP / (2 TP + FP + FN)."""
    false_positive_rate: float
    """FP / (FP + TN)."""
    accuracy: float
    """(TP + TN) / n."""


def precision_recall_curve(labels: ArrayLike, scores: ArrayLike, *, weights: ArrayLike | None = None) -> Curve:
    """Return the curve over the rows with a known label; rows of equal score move together.

    Raises:
        ValueError: shapes differ, a score is not finite, or a label is none of 0, 1, NaN.
    """
    y, s, w = _checked(labels, scores, weights)
    order = np.argsort(-s, kind="stable")
    y, s, w = y[order], s[order], w[order]
    last = np.append(np.flatnonzero(np.diff(s)), s.size - 1) if s.size else np.zeros(0, dtype=np.int64)
    hits, flagged = np.cumsum(y * w)[last], np.cumsum(w)[last]  # [k]
    drawn = flagged > 0  # a bootstrap weight of 0 may leave the top of the ranking empty
    hits, flagged, last = hits[drawn], flagged[drawn], last[drawn]
    total = hits[-1] if hits.size else 0.0
    recall = hits / total if total > 0 else np.zeros_like(hits)
    return Curve(precision=hits / flagged, recall=recall, thresholds=s[last])


def average_precision(labels: ArrayLike, scores: ArrayLike, *, weights: ArrayLike | None = None) -> float:
    """Return AP = sum over thresholds of (R_k - R_{k-1}) P_k, in [0, 1]; NaN without a positive or without a negative.

    The step-wise form of scikit-learn's `average_precision_score` (no interpolation; Davis and Goadrich 2006 say why).
    0 is only reached in the limit; constant scores give the prevalence; 1 means every positive outranks every negative.
    """
    y, s, w = _checked(labels, scores, weights)
    if not _both_classes(y, w):
        return float("nan")
    curve = precision_recall_curve(y, s, weights=w)
    return float(np.sum(np.diff(curve.recall, prepend=0.0) * curve.precision))


def pu_average_precision(labels: ArrayLike, scores: ArrayLike, *, stand_ins: NDArray[np.bool_]) -> float:
    """Return AP where unlabelled rows stand in for the negatives a head does not have.

    A stand-in may be a hidden positive, which can only be counted as a mistake: under selection completely at random
    (Elkan and Noto 2008) the value is a pessimistic reading of the true AP. Always mark it as such.

    Args:
        labels: [n], 1, 0 or NaN.
        scores: [n].
        stand_ins: bool [n], the unlabelled rows to count as 0; a row with a known label is left as it is.
    """
    y = np.array(labels, dtype=np.float64)
    y[np.isnan(y) & stand_ins] = 0.0
    return average_precision(y, scores)


def roc_auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the chance that a random positive outranks a random negative, ties counting half; NaN if a class is empty.

    Mann-Whitney U through mid-ranks: AUC = (sum of positive ranks - P (P + 1) / 2) / (P N) (Hanley and McNeil 1982).
    """
    y, s, _ = _checked(labels, scores, None)
    positives = int(y.sum())
    negatives = y.size - positives
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(s, return_inverse=True, return_counts=True)
    mid_rank = np.cumsum(counts) - (counts - 1) / 2.0  # 1-based mean rank of each distinct score
    rank_sum = float(mid_rank[inverse][y == 1].sum())
    return (rank_sum - positives * (positives + 1) / 2.0) / (positives * negatives)


def recall_at_precision(labels: ArrayLike, scores: ArrayLike, *, precision: float) -> RecallAtPrecision:
    """Return the highest recall among thresholds whose precision is at least `precision`.

    The threshold is read off the same rows: it describes the ranking, it is not a fitted operating point.

    Raises:
        ValueError: `precision` is outside (0, 1].
    """
    if not 0.0 < precision <= 1.0:
        raise ValueError(f"precision: found {precision}, allowed above 0 and at most 1")
    y, s, _ = _checked(labels, scores, None)
    positives = int(y.sum())
    curve = precision_recall_curve(y, s)
    # A hair of slack: 9/10 flagged right must meet .9 whatever the rounding.
    enough = np.flatnonzero((curve.precision >= precision - 1e-12) & (curve.recall > 0))
    if not enough.size:
        return RecallAtPrecision(0.0, float("nan"), float("inf"), 0, positives)
    best = int(enough[-1])  # recall rises along the curve
    recall = float(curve.recall[best])
    return RecallAtPrecision(
        recall, float(curve.precision[best]), float(curve.thresholds[best]), round(recall * positives), positives
    )


def decisions(labels: ArrayLike, flagged: NDArray[np.bool_]) -> Decisions:
    """Return counts and rates of `flagged` (bool [n]) against labels [n], unknown labels left out."""
    y = np.asarray(labels, dtype=np.float64)
    if y.shape != flagged.shape:
        raise ValueError(f"flagged: found shape {flagged.shape}, expected that of labels, {y.shape}")
    keep = ~np.isnan(y)
    positive, flag = y[keep] == 1, flagged[keep]
    tp, fp = int((positive & flag).sum()), int((~positive & flag).sum())
    fn, tn = int((positive & ~flag).sum()), int((~positive & ~flag).sum())
    return Decisions(
        n=int(keep.sum()),
        positives=tp + fn,
        precision=_ratio(tp, tp + fp),
        recall=_ratio(tp, tp + fn),
        f1=_ratio(2 * tp, 2 * tp + fp + fn),
        false_positive_rate=_ratio(fp, fp + tn),
        accuracy=_ratio(tp + tn, tp + fp + fn + tn),
    )


def per_head(labels: Floats, scores: ArrayLike, *, metric: str = "average_precision") -> Floats:
    """Return float64 [H], one value per column of labels [n, H] (NaN = unknown) and scores [n, H].

    Raises:
        ValueError: `metric` is neither `average_precision` nor `roc_auc`, or the shapes differ.
    """
    table = {"average_precision": average_precision, "roc_auc": roc_auc}
    if metric not in table:
        raise ValueError(f"metric: found {metric!r}, allowed {', '.join(sorted(table))}")
    s = np.asarray(scores, dtype=np.float64)
    if labels.shape != s.shape or labels.ndim != 2:
        raise ValueError(f"scores: found shape {s.shape}, expected that of labels, {labels.shape}, with two axes")
    return np.array([table[metric](labels[:, h], s[:, h]) for h in range(labels.shape[1])], dtype=np.float64)


def macro(values: ArrayLike) -> float:
    """Return the mean of the defined values; a NaN (no positives or no negatives) is left out, all NaN gives NaN."""
    v = np.asarray(values, dtype=np.float64)
    defined = v[~np.isnan(v)]
    return float(defined.mean()) if defined.size else float("nan")


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _both_classes(y: Floats, w: Floats) -> bool:
    return bool(w[y == 1].sum() > 0 and w[y == 0].sum() > 0)


def _checked(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    """Return labels, scores and weights as float64 [k], the k rows with a known label."""
    y = np.asarray(labels, dtype=np.float64)
    s = np.asarray(scores, dtype=np.float64)
    w = np.ones_like(y) if weights is None else np.asarray(weights, dtype=np.float64)
    if y.ndim != 1 or s.shape != y.shape or w.shape != y.shape:
        raise ValueError(
            f"scores, weights: found shapes {s.shape}, {w.shape}, expected that of labels, {y.shape}, one axis"
        )
    keep = ~np.isnan(y)
    y, s, w = y[keep], s[keep], w[keep]
    if not np.isin(y, (0.0, 1.0)).all():
        raise ValueError(f"labels: found {y[~np.isin(y, (0.0, 1.0))][0]}, allowed 0, 1 or NaN")
    if not np.isfinite(s).all():
        raise ValueError(f"scores: found {s[~np.isfinite(s)][0]}, expected finite numbers")
    return y, s, w
