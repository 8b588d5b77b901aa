"""Calibration and thresholds, fitted on rows that neither the adapter nor the fitted heads have seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta
from sklearn.linear_model import LogisticRegression

from moderation.thresholds import HeadThreshold, Thresholds
from retrieval_shared.calibration import Calibration, Curve
from training.config import ThresholdConfig

ENOUGH = 5
"""Labels of a kind below which our own ads, or a curve, say too little."""
SHRINKAGE = 100
"""Labels of the rarer kind at which a region's own curve weighs half."""


@dataclass(frozen=True)
class HeldOut:
    """Logits and labels of m held-out rows in the languages the model reads."""

    logits: NDArray[np.float32]
    """`[m, H]`, through the served graph: the highest of all chunks."""
    targets: NDArray[np.float32]
    """`[m, H]`, NaN = unknown."""
    own: NDArray[np.bool_]
    """`[m]`, true for our own ads, in which every head but the auxiliary one is known."""
    ad: NDArray[np.bool_]
    """`[m]`, true for ads, our own and public ones: what decisions are about."""


def fit_calibration(heads: tuple[str, ...], rows: HeldOut) -> Calibration:
    """Return one logistic curve per head (Platt 1999), own ads and public rows with equal total weight.

    A head with fewer than five labels of either kind, or whose curve would fall, keeps the raw logit.
    """
    scale, offset = np.ones(len(heads), dtype=np.float32), np.zeros(len(heads), dtype=np.float32)
    for h in range(len(heads)):
        if curve := _fit_curve(rows, h):
            scale[h], offset[h] = curve.scale, curve.offset
    return Calibration(heads=heads, scale=scale, offset=offset)


def _fit_curve(rows: HeldOut, h: int) -> Curve | None:
    """Return the curve of one head; None where it has too few labels of either kind, or would fall."""
    known = ~np.isnan(rows.targets[:, h])
    y, z, own = rows.targets[known, h], rows.logits[known, h], rows.own[known]
    if min((y == 1).sum(), (y == 0).sum()) < ENOUGH:
        return None
    weights = np.where(own, 1.0 / max(own.sum(), 1), 1.0 / max((~own).sum(), 1))
    fit = LogisticRegression(C=1e3).fit(z[:, None], y, sample_weight=weights * len(y))
    scale, offset = float(fit.coef_[0, 0]), float(fit.intercept_[0])
    return Curve(scale=scale, offset=offset) if scale > 0 else None


def fit_slot(calibration: Calibration, rows: HeldOut) -> dict[str, Curve]:
    """Return the curves of a region's slot, of the heads that enough of the region's rows are labelled for.

    A curve is shrunk towards the head's own: with n public labels of its rarer kind it weighs `n / (n + SHRINKAGE)`.
    A head whose curve would fall keeps its own here, too.

    Args:
        calibration: the curves that hold everywhere.
        rows: held-out rows, read under the slot.
    """
    found: dict[str, Curve] = {}
    for h, head in enumerate(calibration.heads):
        labels = rows.targets[~rows.own, h]
        n = int(min((labels == value).sum() for value in (0, 1)))
        own = _fit_curve(rows, h) if n >= ENOUGH else None
        if own is None:
            continue
        weight = n / (n + SHRINKAGE)
        found[head] = Curve(
            scale=weight * own.scale + (1 - weight) * float(calibration.scale[h]),
            offset=weight * own.offset + (1 - weight) * float(calibration.offset[h]),
        )
    return found


def fit_thresholds(
    heads: tuple[str, ...], probabilities: NDArray[np.float32], rows: HeldOut, config: ThresholdConfig
) -> Thresholds:
    """Return both cuts per head at the stated prevalence.

    With TPR and FPR the shares of positives and negatives at or above a cut, precision at prevalence pi is
    `pi TPR / (pi TPR + (1 - pi) FPR)`. `escalate` is the lowest cut whose precision reaches `escalate_precision`
    while the share of flagged benign own ads stays within `benign_budget`; `act` the lowest, at least `escalate`,
    whose precision with an upper bound on FPR (Clopper and Pearson 1934) reaches `act_precision`. Where no cut is
    precise enough to escalate, the budget alone sets it; where none is precise enough to act, `act` is 1: a person
    decides.

    Positives are those of our own ads, where there are `ENOUGH` of them, else of all rows. `escalate` counts false
    alarms on rows known to be 0. `act` promises more and wants more negatives: it counts them on our own and public ads
    that are 0 or that nobody labelled for the head; hidden positives among them only raise the cut.

    Args:
        heads: names of the H heads.
        probabilities: `[m, H]`, calibrated.
        rows: the held-out rows.
        config: prevalence and targets.
    """
    benign = rows.own & (np.nan_to_num(rows.targets).sum(1) == 0)  # [m]
    found = {head: _head_threshold(probabilities[:, h], rows, h, benign, config) for h, head in enumerate(heads)}
    return Thresholds.of(prevalence=config.prevalence, heads=found)


def _head_threshold(
    p: NDArray[np.float32], rows: HeldOut, h: int, benign_rows: NDArray[np.bool_], config: ThresholdConfig
) -> HeadThreshold:
    positive, zero = rows.targets[:, h] == 1, rows.targets[:, h] == 0
    enough = (positive & rows.own).sum() >= ENOUGH
    positives, zeros = (np.sort(p[chosen & rows.own] if enough else p[chosen]) for chosen in (positive, zero))
    unflagged, benign = np.sort(p[rows.ad & ~positive]), np.sort(p[benign_rows])
    basis = f"{'own ads' if enough else 'all rows'}; act: {len(unflagged)} ads not known positive"
    if not len(positives) or not len(zeros):
        return HeadThreshold(escalate=1.0, act=1.0, basis=basis, positives=len(positives), negatives=len(zeros))
    above = [np.nextafter(values, np.float32(2.0)) for values in (zeros, unflagged, benign)]
    cuts = np.unique(np.concatenate([positives, *above])).astype(np.float64)
    tpr = _at_or_above(positives, cuts) / len(positives)  # [cuts]
    within = _at_or_above(benign, cuts) <= config.benign_budget * len(benign)
    precise = _precision(tpr, _at_or_above(zeros, cuts) / len(zeros), config.prevalence) >= config.escalate_precision
    alarms = _at_or_above(unflagged, cuts)
    upper = beta.ppf(config.confidence, alarms + 1, np.maximum(len(unflagged) - alarms, 1e-9))
    surely = _precision(tpr, upper, config.prevalence) >= config.act_precision
    # A head must not fall silent because it is imprecise: then the budget of benign ads alone sets the cut.
    escalate = _lowest(cuts, within & precise) if (within & precise).any() else _lowest(cuts, within)
    if not (within & precise).any():
        basis += f"; precision {config.escalate_precision} not reached, cut by the share of benign ads flagged"
    act = max(escalate, _lowest(cuts, within & surely))
    return HeadThreshold(escalate=escalate, act=act, basis=basis, positives=len(positives), negatives=len(zeros))


def _at_or_above(values: NDArray[np.float32], cuts: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return how many of the sorted values reach each cut."""
    return len(values) - np.searchsorted(values, cuts, side="left")


def _precision(tpr: NDArray[np.float64], fpr: NDArray[np.float64], prevalence: float) -> NDArray[np.float64]:
    """Return precision at a prevalence; 0 where nothing is flagged."""
    hit, miss = prevalence * tpr, (1 - prevalence) * fpr
    return np.where(tpr > 0, hit / np.maximum(hit + miss, 1e-12), 0.0)


def _lowest(cuts: NDArray[np.float64], allowed: NDArray[np.bool_]) -> float:
    """Return the lowest allowed cut, rounded up to six decimals; 1 when none is allowed."""
    return min(1.0, float(np.ceil(cuts[np.argmax(allowed)] * 1e6) / 1e6)) if allowed.any() else 1.0
