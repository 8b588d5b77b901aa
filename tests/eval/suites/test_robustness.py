"""The shift that equals the false-positive rates, and the recall it costs."""

from __future__ import annotations

import numpy as np
import pytest

from eval.datasets import Row, Suite
from eval.suites.robustness import equal_rate_shift, margins, robustness_report


@pytest.mark.parametrize(("flagged", "allowed"), [(0, 0), (1, 1), (2, 1), (3, 3), (4, 4), (9, 4)])
def test_at_most_so_many_benign_ads_stay_flagged(flagged: int, allowed: int) -> None:
    benign = np.array([3.0, 1.0, 1.0, -2.0])
    assert int((benign >= equal_rate_shift(benign, flagged=flagged)).sum()) == allowed


def test_a_margin_is_0_at_the_threshold() -> None:
    found = margins(np.array([[0.2, 0.5, 0.0, 1.0]], dtype=np.float32), np.array([0.2, 0.9, 0.5, 0.5]))
    assert found[0, 0] == pytest.approx(0.0, abs=1e-6)
    assert found[0, 1] < 0 < found[0, 3]
    assert np.isfinite(found).all()


def suite() -> Suite:
    """Four scams and four clean ads, half of either English."""
    return Suite("ads", tuple(
        Row(str(i), "t", {"scam": float(i < 4)}, lang="en" if i % 2 else "de", kind="positive" if i < 4 else "clean")
        for i in range(8)
    ))  # fmt: skip


def test_recall_is_compared_at_an_equal_rate_of_false_positives() -> None:
    plain = np.array([[0.9], [0.9], [0.9], [0.6], [0.8], [0.1], [0.1], [0.1]], dtype=np.float32)
    # Disguise lifts two benign ads over the threshold and sinks one scam below them.
    hidden = np.array([[0.9], [0.9], [0.9], [0.6], [0.8], [0.7], [0.1], [0.1]], dtype=np.float32)
    # The written text lifts two more benign ads above every scam but one.
    written = np.array([[0.95], [0.2], [0.2], [0.2], [0.2], [0.92], [0.92], [0.1]], dtype=np.float32)
    report = robustness_report(
        suite(),
        plain,
        {"leet": [hidden], "none": [plain], "both": [hidden, plain]},
        {"leet": [hidden], "none": [written], "both": [hidden, plain]},
        heads=["scam", "toxic"][:1],
        thresholds={"scam": 0.5},
    )
    leet, none, both = report["all"]["transforms"]
    assert (leet["recall_plain"], leet["recall_equal_rate"], leet["loss"]) == (1.0, 0.75, 0.25)
    assert (leet["recall_shipped"], leet["false_positive_rate_shipped"]) == (1.0, 0.5)
    assert leet["false_positive_rate"] == 0.25
    # The same scores lose only what lies between the threshold and the next benign ad: nothing here.
    assert none["loss"] == 0.0
    assert (leet["loss_both_readings"], none["loss_both_readings"]) == (0.25, 0.75)
    assert (both["loss"], both["recall_equal_rate"], both["draws"]) == (0.125, 0.875, 2)
    assert report["english"]["n"] == 4


def test_no_benign_ads_and_no_positives_do_not_fail() -> None:
    rows = tuple(Row(str(i), "t", {"scam": 1.0}, kind="positive") for i in range(2))
    scores = np.full((2, 1), 0.9, dtype=np.float32)
    same = {"leet": [scores]}
    report = robustness_report(Suite("s", rows), scores, same, same, heads=["scam"], thresholds={"scam": 0.5})
    assert report["all"]["transforms"][0]["loss"] == 0.0
    assert np.isnan(report["english"]["transforms"][0]["recall_plain"])
