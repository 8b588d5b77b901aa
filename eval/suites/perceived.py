"""Perspective's attributes on rows that several readers voted on: what thresholds mean, which heads stand for what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.datasets import Suite
from eval.metrics.bootstrap import BootstrapInterval, bootstrap_interval
from eval.metrics.intervals import wilson
from eval.metrics.multilabel import roc_auc
from eval.metrics.perceived import HALF, at_threshold, balanced_weights, reliability, scale_figures
from eval.votes import ATTRIBUTES, MACHINE_WRITTEN, USUAL, VotedRows
from moderation.compat.perspective_scores import ScoreMapping

MEASURED = ("flagged", "precision", "recall", "fraction_near")
"""The figures of a threshold that get an interval."""
CANDIDATES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "INSULT": (("harassment", "toxic"), ("harassment",), ("toxic",)),
    "IDENTITY_ATTACK": (("hate", "toxic"), ("hate",), ("toxic",)),
}
"""Attribute -> the heads that could stand for it by their geometric mean, the served ones first."""
ORDINARY = ("ad", "headline", "listing", "sms")
"""Kinds of text that are seldom toxic."""
VERY_TOXIC = 4
"""Of RTP-LX's five steps of toxicity (1 none, 5 most), from which on a rater is taken to say "severe"."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """Voted rows with their scores."""

    rows: VotedRows
    """n rows."""
    scores: Floats
    """`[n, A]`, before the mapping."""

    def take(self, rows: NDArray[np.bool_]) -> Scored:
        """Return the marked rows."""
        return Scored(self.rows.take(rows), self.scores[rows])


def mapped(mapping: ScoreMapping, attribute: str, scores: Floats) -> Floats:
    """Return mapped scores `[n]`."""
    return np.array([mapping(attribute, float(score)) for score in scores], dtype=np.float64)


def scale_report(scored: Scored, mapping: ScoreMapping, *, seed: int, resamples: int) -> list[dict[str, Any]]:
    """Return one record per attribute with rows that can be balanced: the scale before and after the mapping."""
    records = []
    for a, attribute in enumerate(ATTRIBUTES):
        known = ~np.isnan(scored.rows.fraction[:, a])
        some = scored.take(known)
        fraction = some.rows.fraction[:, a]
        weights = balanced_weights(fraction, some.rows.source)
        if not weights.any():
            continue
        before, after = some.scores[:, a], mapped(mapping, attribute, some.scores[:, a])
        seen = (fraction >= HALF).astype(np.float64)
        records.append({
            "attribute": attribute,
            "n": len(fraction),
            "groups": len(set(some.rows.group.tolist())),
            "perceived": float(seen.mean()),
            "auc": roc_auc(seen, after),
            "unmapped": scale_figures(before, fraction, weights, thresholds=USUAL),
            "mapped": scale_figures(after, fraction, weights, thresholds=USUAL),
            "intervals": {
                f"{t:g}": _intervals(after, fraction, weights, some.rows.group, t, seed=seed, resamples=resamples)
                for t in USUAL
            },
            "bins": reliability(after, fraction, weights),
        })  # fmt: skip
    return records


def _intervals(
    scores: Floats, fraction: Floats, weights: Floats, group: NDArray[np.str_], threshold: float, *,
    seed: int, resamples: int,
) -> dict[str, BootstrapInterval]:  # fmt: skip
    def figure(name: str) -> BootstrapInterval:
        def statistic(counts: NDArray[np.int64]) -> float:
            return float(getattr(at_threshold(scores, fraction, weights * counts, threshold=threshold), name))

        return bootstrap_interval(statistic, group.tolist(), resamples=resamples, seed=seed)

    return {name: figure(name) for name in MEASURED}


def by_source(scored: Scored, mapping: ScoreMapping) -> list[dict[str, Any]]:
    """Return what the usual thresholds do in each source alone, mapped; sources with one kind of rows are left out."""
    records = []
    for a, attribute in enumerate(ATTRIBUTES):
        for name in sorted(set(scored.rows.source.tolist())):
            here = (scored.rows.source == name) & ~np.isnan(scored.rows.fraction[:, a])
            fraction = scored.rows.fraction[here, a]
            weights = balanced_weights(fraction, scored.rows.source[here])
            if not weights.any():
                continue
            after = mapped(mapping, attribute, scored.scores[here, a])
            records.append({
                "attribute": attribute, "source": name, "licence": str(scored.rows.licence[here][0]), "n": len(after),
                **vars(scale_figures(after, fraction, weights, thresholds=USUAL)),
            })  # fmt: skip
    return records


def heads_report(
    rows: VotedRows, probabilities: Mapping[str, Floats], *, seed: int, resamples: int
) -> list[dict[str, Any]]:
    """Return how candidates rank the rows that half or more of the raters saw an attribute in: mean AUC over sources.

    `gain` is the interval of a candidate's AUC less that of the served heads, paired, over groups.

    Args:
        rows: n rows.
        probabilities: head -> `[n]`.
        seed: of the bootstrap.
        resamples: of the bootstrap.
    """
    return [
        record
        for attribute in CANDIDATES
        for record in _compared(attribute, rows, probabilities, seed=seed, resamples=resamples)
    ]


def _compared(
    attribute: str, rows: VotedRows, probabilities: Mapping[str, Floats], *, seed: int, resamples: int
) -> list[dict[str, Any]]:
    fraction = rows.fraction[:, ATTRIBUTES.index(attribute)]
    voted = ~np.isnan(fraction)
    known = np.flatnonzero(voted)[balanced_weights(fraction[voted], rows.source[voted]) > 0]
    if not len(known):
        return []
    labels, source = (fraction[known] >= HALF).astype(np.float64), rows.source[known]
    # The geometric mean's root would not change the order.
    scores = [np.prod([probabilities[head][known] for head in heads], axis=0) for heads in CANDIDATES[attribute]]

    def auc(score: Floats, counts: NDArray[np.int64]) -> float:
        return _mean_auc(labels, score, source, np.repeat(np.arange(len(known)), counts))

    def gain(score: Floats) -> BootstrapInterval:
        return bootstrap_interval(
            lambda counts: auc(score, counts) - auc(scores[0], counts),
            rows.group[known].tolist(), resamples=resamples, seed=seed,
        )  # fmt: skip

    once = np.ones(len(known), dtype=np.int64)
    return [
        {"attribute": attribute, "heads": list(heads), "n": len(known), "auc": auc(score, once),
         "gain": gain(score) if i else None}
        for i, (heads, score) in enumerate(zip(CANDIDATES[attribute], scores, strict=True))
    ]  # fmt: skip


def _mean_auc(labels: Floats, scores: Floats, source: NDArray[np.str_], drawn: NDArray[np.intp]) -> float:
    """Return the mean of AUC over the sources of the drawn rows; NaN where one of them has rows of one kind only."""
    places = [drawn[source[drawn] == name] for name in np.unique(source)]
    return float(np.mean([roc_auc(labels[here], scores[here]) for here in places]))


def severe_report(suite: Suite, scores: Floats, mapping: ScoreMapping) -> dict[str, Any]:
    """Return SEVERE_TOXICITY against the fraction of raters who call a prompt very toxic, before and after the mapping.

    Args:
        suite: n prompts of RTP-LX, `meta.raw.Toxicity` the raters' steps where known.
        scores: `[n]` of the attribute, before the mapping.
        mapping: what is measured.
    """
    steps = [(row.meta.get("raw") or {}).get("Toxicity") for row in suite.rows]
    known = np.array([bool(given) for given in steps])
    fraction = np.array([np.mean(np.array(given) >= VERY_TOXIC) for given in steps if given])
    weights = balanced_weights(fraction, suite.column("source")[known])
    after = mapped(mapping, "SEVERE_TOXICITY", scores[known])
    return {
        "n": int(known.sum()),
        "auc": roc_auc((fraction >= HALF).astype(np.float64), after),
        "unmapped": scale_figures(scores[known], fraction, weights, thresholds=USUAL),
        "mapped": scale_figures(after, fraction, weights, thresholds=USUAL),
    }


def benign_report(suite: Suite, scores: Floats, mapping: ScoreMapping) -> dict[str, Any]:
    """Return the share flagged for TOXICITY of the rows labelled not toxic, and of ordinary text nobody labelled.

    Args:
        suite: n rows; those labelled toxic are left out, and so are machine-written ones.
        scores: `[n]`, before the mapping.
        mapping: what is measured.
    """
    label = np.array([row.labels.get("toxic", np.nan) for row in suite.rows], dtype=np.float64)
    source, after = suite.column("source"), mapped(mapping, "TOXICITY", scores)
    ordinary = np.isnan(label) & np.isin(suite.column("kind"), ORDINARY)
    parts = {
        "labelled not toxic": (label == 0) & ~np.isin(source, MACHINE_WRITTEN),
        "ads, headlines, listings, SMS": ordinary,
    }
    tables = {
        title: [_share(name, after[here & (source == name)]) for name in sorted(set(source[here].tolist()))]
        for title, here in parts.items()
    }
    return {"parts": tables, "all": [_share(title, after[here]) for title, here in parts.items()]}


def _share(name: str, scores: Floats) -> dict[str, Any]:
    flagged = {f"{t:g}": int((scores >= t).sum()) for t in USUAL}
    return {
        "name": name,
        "n": len(scores),
        "thresholds": {
            t: {"rate": k / len(scores) if len(scores) else None, "k": k, "n": len(scores),
                "interval": wilson(k, len(scores))}
            for t, k in flagged.items()
        },
    }  # fmt: skip
