"""Right and wrong sides of a threshold, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from eval.datasets import Row, Suite
from eval.suites.functional import any_head, hate_report, safe_report, share


def test_hate_by_function_and_language() -> None:
    cases = [("derog", 1.0, "en", 0.9), ("derog", 1.0, "de", 0.2), ("quote", 0.0, "en", 0.8), ("quote", 0.0, "de", 0.1)]
    rows = tuple(Row(str(i), "t", {"hate": y}, lang=lang, meta={"func": f}) for i, (f, y, lang, _) in enumerate(cases))
    scores = np.array([case[3] for case in cases], dtype=np.float32)
    report = hate_report(Suite("s", rows), scores, threshold=0.5)
    assert report["auc"] == 0.75
    assert report["shipped"]["accuracy"] == 0.5
    assert report["shipped"]["macro_f1"] == 0.5
    derog, quote = report["functions"]
    assert (derog["function"], derog["hateful"], derog["rate"]) == ("derog", True, 0.5)
    assert (quote["rate"], quote["n"], quote["mean_probability"]) == (0.5, 2, pytest.approx(0.45))
    german, english = report["languages"]
    assert german["functions"] == {"derog": 0.0, "quote (not hateful)": 1.0}
    assert english["functions"] == {"derog": 1.0, "quote (not hateful)": 0.0}


def test_over_flagging_by_any_head_and_by_toxic_heads() -> None:
    rows = tuple(Row(str(i), "t", {"unsafe": float(i == 3)}, meta={"type": "a" if i < 2 else "b"}) for i in range(4))
    scores = np.array([[0.9, 0.1], [0.1, 0.9], [0.1, 0.1], [0.9, 0.9]], dtype=np.float32)
    report = safe_report(Suite("s", rows), scores, heads=["scam", "hate"], thresholds={"scam": 0.5, "hate": 0.5})
    assert (report["n_safe"], report["n_unsafe"]) == (3, 1)
    assert report["safe_any"]["k"] == 2
    assert report["safe_toxic"]["k"] == 1
    assert report["unsafe_any"]["rate"] == 1.0
    assert [(record["type"], record["k"], record["n"]) for record in report["types"]] == [("a", 2, 2), ("b", 0, 1)]


def test_share_of_nothing_and_any_head() -> None:
    assert np.isnan(share(np.zeros(0, dtype=bool))["rate"])
    assert any_head(np.array([[True, False], [False, False]])).tolist() == [True, False]
