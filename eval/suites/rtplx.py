"""RTP-LX prompts: ranking per head and locale, beside the scores of Azure Content Safety on the same rows.

The authors of the set keep its text from crawlers: nothing here reads, prints or returns a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.datasets import Suite
from eval.metrics.multilabel import average_precision, macro, roc_auc

AZURE = {"hate": "IdentityAttack", "sexual": "SexualContent", "violence": "Violence", "self_harm": "SelfHarm"}
"""Our head -> the key of Azure's score in `meta.acs`."""

LABELLED = (*AZURE, "harassment", "toxic")
MINIMUM = 5
"""Fewest positives and negatives for a locale to count under a head."""

REQUIRED = ("hate", "sexual", "violence")
"""A locale without labels for all three is shown but not in the means, so that they run over the same locales."""

Scores = NDArray[np.float32]


def azure_scores(suite: Suite, heads: Sequence[str]) -> NDArray[np.float64]:
    """Return float64 [n, H], NaN where Azure gave no score for that row or has no such head."""
    values = [[(row.meta.get("acs") or {}).get(AZURE.get(head, ""), np.nan) for head in heads] for row in suite.rows]
    return np.array(values, dtype=np.float64).reshape(len(suite.rows), len(heads))


def rtplx_report(suite: Suite, scores: Scores, *, heads: Sequence[str], saw_training_rows: bool) -> dict[str, Any]:
    """Return AUC and AP per head and locale, their means over locales, and Azure's on the same rows.

    Args:
        suite: n rows.
        scores: [n, H].
        heads: the H heads.
        saw_training_rows: whether the model was trained on other prompts of this set; then it is no match for Azure.
    """
    labels, azure = suite.labels(heads), azure_scores(suite, heads)
    lang = suite.column("lang")
    table = []
    for head in (head for head in heads if head in LABELLED):
        h = list(heads).index(head)
        locales = [
            record
            for name in sorted(set(lang))
            if (record := _locale(str(name), labels[lang == name, h], scores[lang == name, h], azure[lang == name, h]))
        ]
        table.append({"head": head, "locales": locales, **_means(locales, _excluded(labels, lang, heads))})
    return {
        "n": len(suite.rows),
        "saw_training_rows": saw_training_rows,
        "excluded_locales": sorted(_excluded(labels, lang, heads)),
        "heads": table,
    }


def _excluded(labels: NDArray[np.float64], lang: NDArray[np.str_], heads: Sequence[str]) -> set[str]:
    columns = [list(heads).index(head) for head in REQUIRED if head in heads]
    return {str(name) for name in set(lang) if np.isnan(labels[lang == name][:, columns]).all(0).any()}


def _locale(
    name: str, labels: NDArray[np.float64], scores: Scores, azure: NDArray[np.float64]
) -> dict[str, Any] | None:
    """Return one locale's figures, None with too few labels of a class; Azure's are NaN where it gave no scores."""
    if min((labels == 1).sum(), (labels == 0).sum()) < MINIMUM:
        return None
    both = np.where(np.isnan(azure), np.nan, labels)
    filled = np.nan_to_num(azure)
    return {
        "lang": name,
        "n": int((~np.isnan(labels)).sum()),
        "positives": int((labels == 1).sum()),
        "auc": roc_auc(labels, scores),
        "ap": average_precision(labels, scores),
        "auc_azure": roc_auc(both, filled),
        "ap_azure": average_precision(both, filled),
        # The same rows as Azure's, in case it scored fewer.
        "auc_same_rows": roc_auc(both, scores),
        "ap_same_rows": average_precision(both, scores),
    }


def _means(locales: Sequence[dict[str, Any]], excluded: set[str]) -> dict[str, Any]:
    counted = [record for record in locales if record["lang"] not in excluded]
    compared = [record for record in counted if not np.isnan(record["auc_azure"])]
    return {
        "n_locales": len(counted),
        "auc": macro([record["auc"] for record in counted]),
        "ap": macro([record["ap"] for record in counted]),
        "n_compared": len(compared),
        "auc_compared": macro([record["auc_same_rows"] for record in compared]),
        "ap_compared": macro([record["ap_same_rows"] for record in compared]),
        "auc_azure": macro([record["auc_azure"] for record in compared]),
        "ap_azure": macro([record["ap_azure"] for record in compared]),
    }
