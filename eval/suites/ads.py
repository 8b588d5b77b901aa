"""Hand-written ads, the target domain: ranking over 15 heads, false alarms at shipped thresholds, actions by region."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.datasets import Suite, is_english
from eval.metrics.bootstrap import bootstrap_interval
from eval.metrics.intervals import wilson
from eval.metrics.multilabel import average_precision, decisions, macro, per_head, roc_auc
from eval.suites.dev import curve_points
from eval.suites.functional import any_head, share

BENIGN = ("clean", "hard_negative")
"""Kinds of ads on which nothing may fire."""

ACTIONS = ("approve", "limit", "escalate", "reject")

Scores = NDArray[np.float32]
Decide = Callable[[Mapping[str, float], str], str]
"""Probabilities per head and a region -> the action taken there."""

Served = Sequence[Mapping[str, str]]
"""Per ad: region -> the action the service took."""


def ad_heads(suite: Suite, heads: Sequence[str]) -> list[str]:
    """Return the heads the ads are labelled with, in the model's order; `toxic` is not one of them."""
    named = {name for row in suite.rows for name in row.labels}
    return [head for head in heads if head in named]


def ads_report(
    suite: Suite,
    scores: Scores,
    baseline: Scores | None,
    *,
    heads: Sequence[str],
    thresholds: Mapping[str, float],
    decide: Decide,
    served: Served | None,
    seed: int,
) -> dict[str, Any]:
    """Return the tables of the ads.

    Args:
        suite: n ads with all 15 labels, a kind, a language and regions.
        scores: [n, H].
        baseline: [n, H] of the opponent, None without one.
        heads: the H heads.
        thresholds: the escalate threshold of each head.
        decide: what the shipped policy does about probabilities, whatever the language.
        served: the actions the whole service took, per ad and region; it escalates languages it was not measured in.
        seed: of the bootstrap.
    """
    judged = ad_heads(suite, heads)
    columns = [list(heads).index(head) for head in judged]
    labels, own = suite.labels(judged), scores[:, columns]
    fires = own >= np.array([thresholds[head] for head in judged], dtype=np.float32)  # [n, 15]
    english = np.array([is_english(row.lang) for row in suite.rows], dtype=bool)
    opponent = None if baseline is None else baseline[:, columns]
    opponents = [None if opponent is None else opponent[:, h] for h in range(len(judged))]
    return {
        "n": len(suite.rows),
        "n_english": int(english.sum()),
        "heads": [
            _head_record(head, labels[:, h], own[:, h], fires[:, h], english, baseline)
            for h, (head, baseline) in enumerate(zip(judged, opponents, strict=True))
        ],
        "macro": _macro(labels, own, opponent, suite, seed),
        "macro_english": _macro(labels[english], own[english], None if opponent is None else opponent[english],
                                suite.where(english), seed),
        "false_positives": {
            "all": _false_positives(suite, fires, np.ones(len(suite.rows), dtype=bool)),
            "english": _false_positives(suite, fires, english),
        },
        "languages": _languages(suite, labels, own, fires),
        "regions": region_table(suite, scores, heads=heads, decide=decide, served=served),
        "confusion": confusion(suite, labels, fires, judged),
    }  # fmt: skip


def region_table(
    suite: Suite, scores: Scores, *, heads: Sequence[str], decide: Decide, served: Served | None
) -> list[dict[str, Any]]:
    """Return, per region the ads name, how often each action was taken on violating and on benign ads; largest first.

    `violating` and `benign` hold the policy's actions on the scores alone, `served_*` those of the whole service.
    """
    counts: dict[str, dict[str, dict[str, int]]] = {}
    sides = ("violating", "benign", "served_violating", "served_benign")
    for i, (row, values) in enumerate(zip(suite.rows, scores, strict=True)):
        kind = "benign" if row.kind in BENIGN else "violating"
        probabilities = dict(zip(heads, values.tolist(), strict=True))
        for region in row.regions:
            of_region = counts.setdefault(region, {side: dict.fromkeys(ACTIONS, 0) for side in sides})
            of_region[kind][decide(probabilities, region)] += 1
            if served is not None:
                of_region[f"served_{kind}"][served[i][region]] += 1
    table = [
        {
            "region": region,
            "n": sum(of_region["violating"].values()) + sum(of_region["benign"].values()),
            **of_region,
            "caught": _not_approved(of_region["violating"]),
            "false_alarms": _not_approved(of_region["benign"]),
            "served_caught": _not_approved(of_region["served_violating"]),
            "served_false_alarms": _not_approved(of_region["served_benign"]),
        }
        for region, of_region in counts.items()
    ]
    return sorted(table, key=lambda record: (-record["n"], record["region"]))


def confusion(
    suite: Suite, labels: NDArray[np.float64], fires: NDArray[np.bool_], heads: Sequence[str]
) -> dict[str, Any]:
    """Return, per true head (and for ads with none), on what share of its ads each head fires, and n."""
    rows = [(head, labels[:, h] == 1) for h, head in enumerate(heads)]
    rows += [(kind, suite.column("kind") == kind) for kind in BENIGN]
    return {
        "heads": list(heads),
        "rows": [
            {
                "truth": name,
                "n": int(here.sum()),
                "fires": fires[here].mean(0) if here.any() else [float("nan")] * len(heads),
                "also_true": (labels[here] == 1).mean(0) if here.any() else [float("nan")] * len(heads),
            }
            for name, here in rows
        ],
    }


def _head_record(
    head: str,
    labels: NDArray[np.float64],
    scores: Scores,
    fires: NDArray[np.bool_],
    english: NDArray[np.bool_],
    baseline: Scores | None,
) -> dict[str, Any]:
    shipped = decisions(labels, fires)
    caught = int((fires & (labels == 1)).sum())
    return {
        "head": head,
        "n": shipped.n,
        "positives": shipped.positives,
        "ap": average_precision(labels, scores),
        "ap_baseline": None if baseline is None else average_precision(labels, baseline),
        "ap_english": average_precision(labels[english], scores[english]),
        "positives_english": int((labels[english] == 1).sum()),
        "auc": roc_auc(labels, scores),
        "precision": shipped.precision,
        "recall": shipped.recall,
        "recall_interval": wilson(caught, shipped.positives),
        "f1": shipped.f1,
        "curve": curve_points(labels, scores),
    }


def _macro(
    labels: NDArray[np.float64], scores: Scores, baseline: Scores | None, suite: Suite, seed: int
) -> dict[str, Any]:
    def value(weights: NDArray[np.int64]) -> float:
        return macro([average_precision(labels[:, h], scores[:, h], weights=weights) for h in range(labels.shape[1])])

    ap = per_head(labels, scores)
    return {
        "heads": int((~np.isnan(ap)).sum()),
        "ap": macro(ap),
        "interval": bootstrap_interval(value, [row.group for row in suite.rows], seed=seed) if suite.rows else None,
        "ap_baseline": None if baseline is None else macro(per_head(labels, baseline)),
        "auc": macro(per_head(labels, scores, metric="roc_auc")),
    }


def _false_positives(suite: Suite, fires: NDArray[np.bool_], keep: NDArray[np.bool_]) -> dict[str, Any]:
    kind = suite.column("kind")
    fired = any_head(fires)
    return {
        "benign": share(fired[keep & np.isin(kind, BENIGN)]),
        **{name: share(fired[keep & (kind == name)]) for name in BENIGN},
        "violating_caught": share(fired[keep & ~np.isin(kind, BENIGN)]),
    }


def _languages(
    suite: Suite, labels: NDArray[np.float64], scores: Scores, fires: NDArray[np.bool_]
) -> list[dict[str, Any]]:
    lang, kind = suite.column("lang"), suite.column("kind")
    names, counts = np.unique(lang, return_counts=True)
    table = []
    for i in np.argsort(-counts, kind="stable"):
        here = lang == names[i]
        table.append({
            "lang": str(names[i]),
            "n": int(counts[i]),
            # So few ads per head and language: all (ad, head) pairs in one ranking say more than a mean over heads.
            "ap_pooled": average_precision(labels[here].ravel(), scores[here].ravel()),
            "auc_pooled": roc_auc(labels[here].ravel(), scores[here].ravel()),
            "ap_macro": macro(per_head(labels[here], scores[here])),
            "heads": int(((labels[here] == 1).any(0) & (labels[here] == 0).any(0)).sum()),
            "caught": share(any_head(fires)[here & ~np.isin(kind, BENIGN)]),
            "false_alarms": share(any_head(fires)[here & np.isin(kind, BENIGN)]),
        })  # fmt: skip
    return table


def _not_approved(actions: Mapping[str, int]) -> dict[str, Any]:
    k, n = sum(actions.values()) - actions["approve"], sum(actions.values())
    return {"k": k, "n": n, "rate": k / n if n else float("nan"), "interval": wilson(k, n)}
