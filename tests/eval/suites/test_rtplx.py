"""Means over the same locales for both systems, and locales that cannot be compared."""

from __future__ import annotations

import numpy as np
import pytest

from eval.datasets import Row, Suite
from eval.suites.rtplx import azure_scores, rtplx_report

HEADS = ("hate", "sexual", "violence", "toxic", "scam")


def suite() -> Suite:
    """Ten prompts each in English (no Azure), German, and Swahili (no label of hate)."""
    rows = []
    for lang in ("en", "de", "sw"):
        for i in range(20):
            labels = {head: float(i % 2) for head in HEADS[:4] if (lang, head) != ("sw", "hate")}
            acs = {"IdentityAttack": i % 2, "SexualContent": 0.5, "Violence": 1 - i % 2}
            rows.append(Row(f"{lang}{i}", "t", labels, lang=lang, meta={} if lang == "en" else {"acs": acs}))
    return Suite("s", tuple(rows))


def test_means_run_over_the_locales_both_scored() -> None:
    made = suite()
    scores = np.nan_to_num(made.labels(HEADS), nan=0.5).astype(np.float32)
    report = rtplx_report(made, scores, heads=HEADS, saw_training_rows=False)
    assert report["excluded_locales"] == ["sw"]
    found = {record["head"]: record for record in report["heads"]}
    assert set(found) == {"hate", "sexual", "violence", "toxic"}
    assert (found["hate"]["n_locales"], found["hate"]["n_compared"]) == (2, 1)
    assert [found[head]["auc_azure"] for head in ("hate", "sexual", "violence")] == [1.0, 0.5, 0.0]
    assert found["hate"]["auc"] == found["hate"]["auc_compared"] == 1.0
    assert found["toxic"]["n_compared"] == 0
    assert np.isnan(found["toxic"]["auc_azure"])
    assert [entry["lang"] for entry in found["sexual"]["locales"]] == ["de", "en", "sw"], (
        "shown, though not in the mean"
    )


def test_a_locale_with_too_few_positives_is_left_out() -> None:
    rows = tuple(Row(str(i), "t", {"hate": float(i < 4), "sexual": 0.0, "violence": 0.0}, lang="fr") for i in range(20))
    report = rtplx_report(Suite("s", rows), np.zeros((20, 5), np.float32), heads=HEADS, saw_training_rows=True)
    assert all(record["locales"] == [] for record in report["heads"])
    assert report["saw_training_rows"]


def test_azure_scores_are_unknown_where_it_has_none() -> None:
    values = azure_scores(suite(), HEADS)
    assert np.isnan(values[:20]).all()
    assert values[21, :3] == pytest.approx([1.0, 0.5, 0.0])
    assert np.isnan(values[:, 3:]).all()
