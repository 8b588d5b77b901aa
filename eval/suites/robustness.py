"""What disguise costs: recall lost at an equal false-positive rate when every ad, benign ones too, is obfuscated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.datasets import Suite, is_english
from eval.metrics.intervals import wilson
from eval.suites.ads import BENIGN, ad_heads

Scores = NDArray[np.float32]
Floats = NDArray[np.float64]


def margins(scores: Scores, thresholds: NDArray[np.float64]) -> Floats:
    """Return logit(p) - logit(threshold), float64 [n, H]: at or above 0 a head fires at its shipped threshold."""
    return _logit(scores.astype(np.float64)) - _logit(thresholds)


def equal_rate_shift(benign: Floats, *, flagged: int) -> float:
    """Return the smallest shift c at which at most `flagged` of the benign ads have a margin of c or more.

    Args:
        benign: float64 [b], each benign ad's largest margin.
        flagged: how many may be flagged.
    """
    if flagged >= benign.size:
        return float("-inf")
    # The next ad in line must stay out; ties with it stay out too.
    return float(np.nextafter(np.sort(benign)[::-1][flagged], np.inf))


def robustness_report(
    suite: Suite,
    plain_scores: Scores,
    transformed: Mapping[str, Sequence[Scores]],
    as_written: Mapping[str, Sequence[Scores]],
    *,
    heads: Sequence[str],
    thresholds: Mapping[str, float],
) -> dict[str, Any]:
    """Return, for all ads and for English ones, recall before and under each transform.

    Recall counts (ad, true head) pairs that fire. All thresholds are shifted together, in log-odds, until no larger
    share of the disguised benign ads fires than of the plain ones at the shipped thresholds; recall is then compared.
    `loss_both_readings` is the loss if the higher score of the undisguised and the written text counted.

    Args:
        suite: n ads.
        plain_scores: [n, H].
        transformed: transform -> one [n, H] per random draw of the disguise; figures are means over the draws.
        as_written: the same texts, scored without undoing anything.
        heads: the H heads.
        thresholds: the escalate threshold of each head.
    """
    judged = ad_heads(suite, heads)
    columns = [list(heads).index(head) for head in judged]
    cuts = np.array([thresholds[head] for head in judged], dtype=np.float64)
    truth = suite.labels(judged) == 1
    benign = np.isin(suite.column("kind"), BENIGN)
    english = np.array([is_english(row.lang) for row in suite.rows], dtype=bool)
    everything = np.ones(len(suite.rows), dtype=bool)
    before = margins(plain_scores[:, columns], cuts)

    def both_ways(scores: Scores, written: Scores) -> tuple[Floats, Floats]:
        return margins(scores[:, columns], cuts), margins(np.maximum(scores, written)[:, columns], cuts)

    disguised = {name: list(map(both_ways, draws, as_written[name])) for name, draws in transformed.items()}
    return {
        name: {
            "n": int(keep.sum()),
            "pairs": int(truth[keep].sum()),
            "benign": int((benign & keep).sum()),
            "transforms": [
                {"transform": transform, **_mean([
                    _compare(before[keep], after[keep], both[keep], truth[keep], benign[keep]) for after, both in draws
                ], pairs=int(truth[keep].sum()))}
                for transform, draws in disguised.items()
            ],
        }
        for name, keep in (("all", everything), ("english", english))
    }  # fmt: skip


def _mean(draws: Sequence[Mapping[str, float]], *, pairs: int) -> dict[str, Any]:
    found: dict[str, Any] = {key: float(np.mean([draw[key] for draw in draws])) for key in draws[0]}
    # The draws share their ads, so the interval counts every pair once.
    found["interval"] = wilson(round(found["recall_equal_rate"] * pairs) if pairs else 0, pairs)
    return {**found, "draws": len(draws)}


def _compare(
    before: Floats, after: Floats, both: Floats, truth: NDArray[np.bool_], benign: NDArray[np.bool_]
) -> dict[str, float]:
    flagged = int((before[benign].max(1) >= 0).sum()) if benign.any() else 0
    pairs = int(truth.sum())
    shifts = [equal_rate_shift(m[benign].max(1), flagged=flagged) if benign.any() else 0.0 for m in (after, both)]
    cuts = ((before, 0.0), (after, shifts[0]), (after, 0.0), (both, shifts[1]))
    recall = [int((m[truth] >= cut).sum()) / pairs if pairs else float("nan") for m, cut in cuts]
    return {
        "false_positive_rate": flagged / int(benign.sum()) if benign.any() else float("nan"),
        "recall_plain": recall[0],
        "recall_equal_rate": recall[1],
        "loss": recall[0] - recall[1],
        "recall_shipped": recall[2],
        "loss_both_readings": recall[0] - recall[3],
        "false_positive_rate_shipped": float((after[benign].max(1) >= 0).mean()) if benign.any() else float("nan"),
    }


def _logit(p: Floats) -> Floats:
    inside = np.clip(p, 1e-9, 1.0 - 1e-9)
    return np.log(inside) - np.log1p(-inside)
