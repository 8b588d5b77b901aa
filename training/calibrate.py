"""Calibration and thresholds, fitted on rows that neither the adapter nor the fitted heads have seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta
from sklearn.linear_model import LogisticRegression

from moderation.thresholds import HeadThreshold, Thresholds
from retrieval_shared.calibration import Calibration
from training.config import ThresholdConfig

SMOOTHING = 1e-3
"""How far a curve's offset may be from certainty when a head has no labels of one kind."""


@dataclass(frozen=True)
class HeldOut:
    """Logits and labels of m held-out rows."""

    logits: NDArray[np.float32]
    """`[m, H]`, through the served graph: the highest of raw and canonical reading and of all chunks."""
    targets: NDArray[np.float32]
    """`[m, H]`, NaN = unknown."""
    own: NDArray[np.bool_]
    """`[m]`, true for our own ads: the domain the decisions are for."""


def fit_calibration(heads: tuple[str, ...], rows: HeldOut) -> Calibration:
    """Return one logistic curve per head (Platt 1999), own ads and public rows with equal total weight.

    A head with fewer than five labels of either kind keeps the raw logit.
    """
    scale, offset = np.ones(len(heads), dtype=np.float32), np.zeros(len(heads), dtype=np.float32)
    for h in range(len(heads)):
        known = ~np.isnan(rows.targets[:, h])
        y, z, own = rows.targets[known, h], rows.logits[known, h], rows.own[known]
        if min((y == 1).sum(), (y == 0).sum()) < 5:
            continue
        weights = np.where(own, 1.0 / max(own.sum(), 1), 1.0 / max((~own).sum(), 1))
        fit = LogisticRegression(C=1e3).fit(z[:, None], y, sample_weight=weights * len(y))
        if fit.coef_[0, 0] > 0:
            scale[h], offset[h] = fit.coef_[0, 0], fit.intercept_[0]
    return Calibration(heads=heads, scale=scale, offset=offset)


def fit_thresholds(
    heads: tuple[str, ...], probabilities: NDArray[np.float32], rows: HeldOut, config: ThresholdConfig
) -> Thresholds:
    """Return both cuts per head at the stated prevalence.

    With TPR and FPR the shares of positives and negatives at or above a cut, precision at prevalence pi is
    `pi TPR / (pi TPR + (1 - pi) FPR)`. Own ads measure both where there are enough of them, since public posts are of
    another kind. `escalate` is the lowest cut whose precision reaches `escalate_precision` and whose share of flagged
    benign own ads stays within `benign_budget`; `act` the lowest whose precision, with an upper bound on FPR
    (Clopper and Pearson 1934), reaches `act_precision`, at least `escalate`. Where no cut does, `act` is 1: a person decides.

    Args:
        heads: names of the H heads.
        probabilities: `[m, H]`, calibrated.
        rows: the held-out rows.
        config: prevalence and targets.
    """
    found = {head: _head_threshold(probabilities[:, h], rows, h, config) for h, head in enumerate(heads)}
    return Thresholds.of(prevalence=config.prevalence, heads=found)


def _head_threshold(p: NDArray[np.float32], rows: HeldOut, h: int, config: ThresholdConfig) -> HeadThreshold:
    known = ~np.isnan(rows.targets[:, h])
    own = known & rows.own
    basis = "own ads" if (rows.targets[own, h] == 1).sum() >= 5 else "public rows"
    pool = own if basis == "own ads" else known
    positives, negatives = np.sort(p[pool & (rows.targets[:, h] == 1)]), np.sort(p[pool & (rows.targets[:, h] == 0)])
    benign = np.sort(p[rows.own & (np.nan_to_num(rows.targets).sum(1) == 0)])
    if not len(positives) or not len(negatives):
        return HeadThreshold(escalate=1.0, act=1.0, basis="too few labels", positives=len(positives), negatives=len(negatives))
    cuts = np.unique(np.concatenate([positives, negatives, benign, [1.0]]))
    tpr = 1 - np.searchsorted(positives, cuts, side="left") / len(positives)  # [cuts], share at or above
    flagged = len(negatives) - np.searchsorted(negatives, cuts, side="left")  # [cuts]
    budget = (1 - np.searchsorted(benign, cuts, side="left") / max(len(benign), 1)) <= config.benign_budget
    sure = _precision(tpr, flagged / len(negatives), config.prevalence) >= config.escalate_precision
    upper = beta.ppf(config.confidence, flagged + 1, np.maximum(len(negatives) - flagged, 1e-9))
    surest = _precision(tpr, upper, config.prevalence) >= config.act_precision
    escalate = _lowest(cuts, budget & sure & (tpr > 0))
    return HeadThreshold(
        escalate=round(escalate, 6),
        act=round(max(escalate, _lowest(cuts, surest & (tpr > 0))), 6),
        basis=basis,
        positives=len(positives),
        negatives=len(negatives),
    )


def _precision(tpr: NDArray[np.float64], fpr: NDArray[np.float64], prevalence: float) -> NDArray[np.float64]:
    hit, miss = prevalence * tpr, (1 - prevalence) * fpr
    return hit / np.maximum(hit + miss, 1e-12)


def _lowest(cuts: NDArray[np.float64], allowed: NDArray[np.bool_]) -> float:
    """Return the lowest cut from which on every higher cut with positives is allowed too; 1 when there is none."""
    if not allowed.any():
        return 1.0
    last = len(allowed) - 1 - int(np.argmax(allowed[::-1]))
    refused = np.flatnonzero(~allowed[: last + 1])
    return float(cuts[refused[-1] + 1 if len(refused) else 0])
