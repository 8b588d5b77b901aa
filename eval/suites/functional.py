"""Functional tests: HateCheck and its kin (is hate seen where it should be?), XSTest (is safe text left alone?)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.datasets import Suite
from eval.metrics.intervals import wilson
from eval.metrics.multilabel import average_precision, decisions, roc_auc

TOXIC_HEADS = ("hate", "harassment", "violence", "self_harm", "sexual", "toxic")
"""Heads about harm to people; the rest are about what may be advertised."""

Scores = NDArray[np.float32]


def hate_report(suite: Suite, hate: Scores, *, threshold: float) -> dict[str, Any]:
    """Return the hate head's figures on a functional suite.

    Args:
        suite: n rows, each with `labels.hate` and `meta.func`.
        hate: [n] probabilities of the hate head.
        threshold: its escalate threshold as shipped.
    """
    labels = suite.labels(["hate"])[:, 0]
    flagged = hate >= threshold
    return {
        "n": len(suite.rows),
        "threshold": threshold,
        "auc": roc_auc(labels, hate),
        "ap": average_precision(labels, hate),
        "shipped": _decided(labels, flagged),
        "at_half": _decided(labels, hate >= 0.5),
        "functions": _functions(suite, labels, hate, flagged),
        "languages": _languages(suite, labels, hate, flagged),
    }


def safe_report(
    suite: Suite, scores: Scores, *, heads: Sequence[str], thresholds: Mapping[str, float]
) -> dict[str, Any]:
    """Return how often anything fires on safe prompts (`labels.unsafe` 0), by head and by type of prompt.

    Args:
        suite: n rows with `labels.unsafe` and `meta.type`.
        scores: [n, H].
        heads: the H heads.
        thresholds: the escalate threshold of each head.
    """
    unsafe = suite.labels(["unsafe"])[:, 0]
    fires = scores >= np.array([thresholds[head] for head in heads], dtype=np.float32)  # [n, H]
    toxic = np.array([head in TOXIC_HEADS for head in heads])
    safe = unsafe == 0
    kinds = np.array([str(row.meta.get("type", "")) for row in suite.rows])
    by_type = [{"type": str(kind), **share(any_head(fires)[safe & (kinds == kind)])} for kind in np.unique(kinds[safe])]
    return {
        "n_safe": int(safe.sum()),
        "n_unsafe": int((unsafe == 1).sum()),
        "safe_any": share(any_head(fires[safe])),
        "safe_toxic": share(any_head(fires[safe][:, toxic])),
        "unsafe_any": share(any_head(fires[unsafe == 1])),
        "toxic_heads": [head for head in heads if head in TOXIC_HEADS],
        "heads": [{"head": head, **share(fires[safe, h])} for h, head in enumerate(heads)],
        "types": by_type,
    }


def any_head(fires: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return bool [n], whether any column of fires [n, H] is true."""
    return np.asarray(fires.any(axis=1), dtype=np.bool_)


def share(flags: NDArray[np.bool_]) -> dict[str, Any]:
    """Return k, n, their ratio (NaN of nothing) and its 95% Wilson interval."""
    k, n = int(flags.sum()), int(flags.size)
    return {"k": k, "n": n, "rate": k / n if n else float("nan"), "interval": wilson(k, n)}


def _decided(labels: NDArray[np.float64], flagged: NDArray[np.bool_]) -> dict[str, Any]:
    hateful = decisions(labels, flagged)
    other = decisions(1.0 - labels, ~flagged)
    right = round(hateful.accuracy * hateful.n) if hateful.n else 0
    return {
        "accuracy": hateful.accuracy,
        "accuracy_interval": wilson(right, hateful.n),
        "recall": hateful.recall,
        "false_positive_rate": hateful.false_positive_rate,
        # Undefined F1 (nothing flagged, nothing to flag) counts 0, as the published tables do.
        "macro_f1": float(np.nan_to_num([hateful.f1, other.f1]).mean()),
    }


def _functions(
    suite: Suite, labels: NDArray[np.float64], hate: Scores, flagged: NDArray[np.bool_]
) -> list[dict[str, Any]]:
    names = np.array([str(row.meta.get("func", "")) for row in suite.rows])
    table = []
    for name in sorted(set(names)):
        for label in (1.0, 0.0):  # a few functions hold both, as minimal pairs
            here = (names == name) & (labels == label)
            if here.any():
                right = flagged[here] if label else ~flagged[here]
                record = {"function": str(name), "hateful": bool(label), **share(right)}
                table.append({**record, "mean_probability": float(hate[here].mean())})
    return table


def _languages(
    suite: Suite, labels: NDArray[np.float64], hate: Scores, flagged: NDArray[np.bool_]
) -> list[dict[str, Any]]:
    lang = suite.column("lang")
    table = []
    for name in sorted(set(lang)):
        here = lang == name
        part = suite.where(here)
        table.append({
            "lang": str(name),
            "n": int(here.sum()),
            "auc": roc_auc(labels[here], hate[here]),
            "ap": average_precision(labels[here], hate[here]),
            **_decided(labels[here], flagged[here]),
            "functions": {
                f"{entry['function']}{'' if entry['hateful'] else ' (not hateful)'}": entry["rate"]
                for entry in _functions(part, labels[here], hate[here], flagged[here])
            },
        })  # fmt: skip
    return table
