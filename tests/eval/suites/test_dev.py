"""Per-head figures, stand-ins for missing negatives, the paired bootstrap."""

from __future__ import annotations

import numpy as np
import pytest

from eval.datasets import Row, Suite
from eval.suites.dev import curve_points, dev_report, head_record, with_stand_ins


def suite() -> Suite:
    """A source with both classes of `hate`, one with positives of `drugs` only."""
    rows = [
        Row(str(i), f"t{i}", {"hate": float(i % 2)}, lang="en" if i < 6 else "de", source="posts") for i in range(24)
    ]
    rows += [Row(f"d{i}", f"d{i}", {"drugs": 1.0}, lang="en", source="shop") for i in range(12)]
    rows += [Row("u", "u", {}, lang="en", source="shop")]
    return Suite("made up", tuple(rows))


def test_only_sources_that_never_speak_of_a_head_stand_in() -> None:
    filled = with_stand_ins(suite(), ["hate", "drugs", "weapons"])
    assert filled.heads == ("drugs",)
    assert (filled.labels[:24, 1] == 0).all()
    assert np.isnan(filled.labels[36, 1]), "the shop's unlabelled row might well be positive"
    assert np.isnan(filled.labels[:, 2]).all()
    assert np.isnan(filled.labels[24:, 0]).all()


def test_the_record_of_a_head_by_hand() -> None:
    record = head_record(np.array([1, 0, 1, np.nan]), np.array([0.9, 0.8, 0.7, 1.0]), None)
    assert (record["n"], record["positives"]) == (3, 2)
    assert record["ap"] == pytest.approx(5 / 6)
    assert record["recall_at_90"] == 0.5
    assert record["recall_interval"].low < 0.5 < record["recall_interval"].high
    assert record["ap_baseline"] is None


def test_a_better_model_has_a_gain_above_0_and_equal_ones_none() -> None:
    made = suite()
    labels = made.labels(["hate", "drugs"])
    good = np.nan_to_num(labels, nan=0.1).astype(np.float32)
    bad = np.full_like(good, 0.5)
    report = dev_report(made, good, bad, heads=["hate", "drugs"], seed=1, resamples=50)
    assert [record["head"] for record in report["heads"]] == ["hate", "drugs"]
    assert report["macro"]["ap"] == 1.0
    assert report["macro"]["difference"].low > 0
    assert report["n_english"] == 19
    assert report["macro_english"]["left_out"] == ["hate", "drugs"], "three positives, six negatives: too few"
    even = dev_report(made, good, good, heads=["hate", "drugs"], seed=1, resamples=50)
    assert even["macro"]["difference"].high == 0.0


def test_curves_are_short_and_end_at_full_recall() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(5000) < 0.1).astype(float)
    points = curve_points(labels, rng.random(5000))
    assert len(points["recall"]) <= 60
    assert points["recall"][-1] == 1.0
    assert curve_points(np.array([np.nan]), np.array([0.5])) == {"recall": [], "precision": []}
