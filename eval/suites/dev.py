"""Public rows held out by group: ranking, precision and calibration per head, beside the n-gram baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.datasets import Suite, is_english
from eval.metrics.bootstrap import bootstrap_interval
from eval.metrics.calibration import brier, expected_calibration_error, reliability_bins
from eval.metrics.intervals import wilson
from eval.metrics.multilabel import (
    average_precision,
    macro,
    per_head,
    precision_recall_curve,
    recall_at_precision,
    roc_auc,
)
from eval.slices import KEYS, enough_of_both, slice_table

PRECISION = 0.9
CURVE_POINTS = 60

Floats = NDArray[np.float64]
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class StandIns:
    """Labels in which heads without any negative got some."""

    labels: Floats
    """float64 [n, H]."""
    heads: tuple[str, ...]
    """Heads whose negatives are unlabelled rows; every figure of theirs must be marked."""


def with_stand_ins(suite: Suite, heads: Sequence[str]) -> StandIns:
    """Return labels where a head with positives only takes the rows of sources that never speak of it as negatives."""
    labels, source = suite.labels(heads), suite.column("source")
    marked = []
    for h, head in enumerate(heads):
        known = ~np.isnan(labels[:, h])
        if not known.any() or (labels[known, h] == 0).any():
            continue
        silent = ~np.isin(source, np.unique(source[known]))
        labels[silent, h] = 0.0
        marked.append(head)
    return StandIns(labels, tuple(marked))


def dev_report(
    suite: Suite, scores: Scores, baseline: Scores | None, *, heads: Sequence[str], seed: int, resamples: int = 200
) -> dict[str, Any]:
    """Return the tables of the development rows.

    Args:
        suite: n rows.
        scores: [n, H] of the model.
        baseline: [n, H] of the opponent, None without one.
        heads: the H heads.
        seed: of the bootstrap.
        resamples: of the bootstrap.
    """
    filled = with_stand_ins(suite, heads)
    english = np.array([is_english(row.lang) for row in suite.rows], dtype=bool)
    table = []
    for h, head in enumerate(heads):
        opponent = None if baseline is None else baseline[:, h]
        everything = head_record(filled.labels[:, h], scores[:, h], opponent)
        if not everything["positives"]:
            continue  # nobody labelled this head here
        table.append({
            "head": head,
            "unlabelled_negatives": head in filled.heads,
            **everything,
            "english": head_record(filled.labels[english, h], scores[english, h], _rows(opponent, english)),
            "curve": curve_points(filled.labels[:, h], scores[:, h]),
            "bins": reliability_bins(filled.labels[:, h], scores[:, h]),
        })  # fmt: skip
    names = [record["head"] for record in table]
    columns = [list(heads).index(name) for name in names]
    known = suite.labels(heads)
    return {
        "n": len(suite.rows),
        "n_english": int(english.sum()),
        "groups": len(set(suite.column("group"))),
        "heads": table,
        "macro": _macro(
            suite, filled.labels[:, columns], scores[:, columns], _columns(baseline, columns), names, seed, resamples
        ),
        "macro_english": _macro(
            suite.where(english), filled.labels[english][:, columns], scores[english][:, columns],
            _rows(_columns(baseline, columns), english), names, seed, resamples,
        ),
        "slices": {key: slice_table(suite, known, scores, key=key) for key in KEYS},
    }  # fmt: skip


def head_record(labels: Floats, scores: NDArray[np.floating[Any]], baseline: Scores | None) -> dict[str, Any]:
    """Return every figure of one head: labels [n] with NaN = unknown, scores [n], the baseline's scores [n] or None."""
    known = ~np.isnan(labels)
    positives = int((labels == 1).sum())
    point = recall_at_precision(labels, scores, precision=PRECISION)
    return {
        "n": int(known.sum()),
        "positives": positives,
        "ap": average_precision(labels, scores),
        "ap_baseline": None if baseline is None else average_precision(labels, baseline),
        "auc": roc_auc(labels, scores),
        "auc_baseline": None if baseline is None else roc_auc(labels, baseline),
        "recall_at_90": point.recall if positives else None,
        "recall_interval": wilson(point.true_positives, positives),
        "threshold_at_90": point.threshold,
        "ece": expected_calibration_error(labels, scores),
        "ece_width": expected_calibration_error(labels, scores, scheme="width"),
        "brier": brier(labels, scores),
    }


def curve_points(labels: Floats, scores: NDArray[np.floating[Any]]) -> dict[str, list[float]]:
    """Return about `CURVE_POINTS` points of the precision-recall curve, evenly spaced in recall."""
    if not (labels == 1).any():
        return {"recall": [], "precision": []}
    curve = precision_recall_curve(labels, scores)
    wanted = np.linspace(0.0, 1.0, CURVE_POINTS)
    at = np.unique(np.clip(np.searchsorted(curve.recall, wanted), 0, curve.recall.size - 1))
    return {
        "recall": [round(float(v), 4) for v in curve.recall[at]],
        "precision": [round(float(v), 4) for v in curve.precision[at]],
    }


def _macro(
    suite: Suite,
    labels: Floats,
    scores: Scores,
    baseline: Scores | None,
    heads: Sequence[str],
    seed: int,
    resamples: int,
) -> dict[str, Any]:
    enough = enough_of_both(labels)  # one positive more or less must not move the mean
    labels = np.where(enough, labels, np.nan)
    found: dict[str, Any] = {
        "heads": int(enough.sum()),
        "left_out": [head for head, counted in zip(heads, enough, strict=True) if not counted],
        "ap": macro(per_head(labels, scores)),
        "auc": macro(per_head(labels, scores, metric="roc_auc")),
        "ap_baseline": None,
        "auc_baseline": None,
        "difference": None,
    }
    if baseline is None or not suite.rows:
        return found
    found["ap_baseline"] = macro(per_head(labels, baseline))
    found["auc_baseline"] = macro(per_head(labels, baseline, metric="roc_auc"))

    def difference(weights: NDArray[np.int64]) -> float:
        return macro([
            average_precision(labels[:, h], scores[:, h], weights=weights)
            - average_precision(labels[:, h], baseline[:, h], weights=weights)
            for h in range(labels.shape[1])
        ])  # fmt: skip

    # Paired: model and baseline meet the same draw of groups.
    found["difference"] = bootstrap_interval(
        difference, [row.group for row in suite.rows], resamples=resamples, seed=seed
    )
    return found


def _rows(scores: Scores | None, keep: NDArray[np.bool_]) -> Scores | None:
    return None if scores is None else scores[keep]


def _columns(scores: Scores | None, columns: Sequence[int]) -> Scores | None:
    return None if scores is None else scores[:, list(columns)]
