from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from retrieval_shared.calibration import Calibration
from training.calibrate import ENOUGH, HeldOut, fit_calibration, fit_slot, fit_thresholds
from training.config import ThresholdConfig


def held(logits: np.ndarray, targets: np.ndarray, own: np.ndarray) -> HeldOut:
    """Rows that are all ads."""
    return HeldOut(
        logits=logits.astype(np.float32),
        targets=targets.astype(np.float32),
        own=own.astype(np.bool_),
        ad=np.ones(len(own), dtype=np.bool_),
    )


def noisy(n: int, *, own: int, seed: int = 0) -> HeldOut:
    """One head whose labels follow `sigmoid(2 z - 1)`."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    y = rng.random(n) < 1 / (1 + np.exp(1 - 2 * z))
    return held(z[:, None], y[:, None].astype(float), np.arange(n) < own)


def test_a_curve_is_scikit_learns_with_own_ads_and_public_rows_of_equal_weight() -> None:
    rows = noisy(900, own=100)
    calibration = fit_calibration(("scam",), rows)
    weights = np.where(rows.own, 1 / 100, 1 / 800) * 900
    reference = LogisticRegression(C=1e3).fit(rows.logits, rows.targets[:, 0], sample_weight=weights)
    assert calibration.scale[0] == pytest.approx(reference.coef_[0, 0], rel=1e-6)
    assert calibration.offset[0] == pytest.approx(reference.intercept_[0], rel=1e-6)
    np.testing.assert_allclose(
        calibration.probabilities(rows.logits)[:, 0], reference.predict_proba(rows.logits)[:, 1], atol=1e-5
    )


def test_the_curve_the_labels_follow_is_found() -> None:
    calibration = fit_calibration(("scam",), noisy(20_000, own=10_000))
    assert calibration.scale[0] == pytest.approx(2, abs=0.15)
    assert calibration.offset[0] == pytest.approx(-1, abs=0.1)


def test_unknown_labels_are_left_out() -> None:
    rows = noisy(600, own=0)
    more = held(
        np.concatenate([rows.logits, np.full((50, 1), 9.0)]),
        np.concatenate([rows.targets, np.full((50, 1), np.nan)]),
        np.zeros(650),
    )
    assert fit_calibration(("scam",), more).scale[0] == pytest.approx(
        fit_calibration(("scam",), rows).scale[0], rel=1e-4
    )


def test_too_few_labels_or_a_falling_curve_keep_the_logit() -> None:
    z = np.linspace(-1, 1, 40)
    few = np.where(np.arange(40) < 4, 1.0, 0.0)
    unknown = np.full(40, np.nan)
    rows = held(np.stack([z, z, z], 1), np.stack([few, unknown, (z < 0).astype(float)], 1), np.ones(40))
    calibration = fit_calibration(("a", "b", "c"), rows)
    assert calibration.scale.tolist() == [1, 1, 1]
    assert calibration.offset.tolist() == [0, 0, 0]


def everywhere(*heads: str) -> Calibration:
    """The curve `sigmoid(3 z + 0.5)` for every head."""
    ones = np.ones(len(heads), dtype=np.float32)
    return Calibration(heads=heads, scale=3 * ones, offset=0.5 * ones)


def of_a_region(*, positives: int, negatives: int, own: int = 0, seed: int = 0) -> HeldOut:
    """One head on public rows of a region, then on ads of our own, half of which are positive."""
    rng = np.random.default_rng(seed)
    y = np.array([1.0] * positives + [0.0] * negatives + [1.0, 0.0] * (own // 2))
    z = rng.normal(loc=y - 0.5)
    return held(z[:, None], y[:, None], np.arange(len(y)) >= positives + negatives)


@pytest.mark.parametrize(
    ("positives", "negatives", "weight"),
    # Of the rarer kind there are n: it weighs n / (n + 100).
    [(100, 300, 0.5), (300, 100, 0.5), (25, 300, 0.2), (900, 900, 0.9), (5, 95, 5 / 105)],
)
def test_a_regions_curve_is_shrunk_towards_the_heads(positives: int, negatives: int, weight: float) -> None:
    rows = of_a_region(positives=positives, negatives=negatives)
    fit = LogisticRegression(C=1e3).fit(rows.logits, rows.targets[:, 0])
    found = fit_slot(everywhere("scam"), rows)["scam"]
    assert found.scale == pytest.approx(weight * fit.coef_[0, 0] + (1 - weight) * 3, rel=1e-4)
    assert found.offset == pytest.approx(weight * fit.intercept_[0] + (1 - weight) * 0.5, rel=1e-3, abs=1e-4)


def test_ads_of_our_own_shape_a_regions_curve_but_do_not_strengthen_it() -> None:
    rows = of_a_region(positives=25, negatives=75, own=400)
    weights = np.where(rows.own, 1 / 400, 1 / 100) * 500
    fit = LogisticRegression(C=1e3).fit(rows.logits, rows.targets[:, 0], sample_weight=weights)
    assert fit_slot(everywhere("scam"), rows)["scam"].scale == pytest.approx(0.2 * fit.coef_[0, 0] + 0.8 * 3, rel=1e-4)


def test_where_a_region_has_too_few_labels_the_heads_curve_holds() -> None:
    enough = of_a_region(positives=ENOUGH, negatives=60, own=40)
    few = of_a_region(positives=ENOUGH - 1, negatives=61, own=40)
    unknown = np.full(len(few.own), np.nan)
    rows = held(
        np.concatenate([enough.logits, few.logits, few.logits], 1),
        np.stack([enough.targets[:, 0], few.targets[:, 0], unknown], 1),
        few.own,
    )
    found = fit_slot(everywhere("a", "b", "c"), rows)
    assert found.keys() == {"a"}
    calibration = dataclasses.replace(everywhere("a", "b", "c"), slots={"region:ID": found})
    at = [calibration.probabilities(rows.logits, [slot] * len(rows.own)) for slot in ("region:ID", "task:moderation")]
    np.testing.assert_array_equal(at[0][:, 1:], at[1][:, 1:])
    assert np.abs(at[0][:, 0] - at[1][:, 0]).max() > 1e-3


def test_a_region_whose_curve_would_fall_keeps_the_heads() -> None:
    rows = of_a_region(positives=60, negatives=60)
    falling = held(-rows.logits, rows.targets, rows.own)
    assert fit_slot(everywhere("scam"), falling) == {}


def ten_thousand() -> tuple[np.ndarray, HeldOut]:
    """Five positives, and 10,000 benign ads of which 100 score .65 and the others .01."""
    p = np.array([0.9, 0.8, 0.7, 0.6, 0.3] + [0.65] * 100 + [0.01] * 9_900, dtype=np.float32)[:, None]
    targets = np.zeros_like(p)
    targets[:5] = 1
    return p, held(p, targets, np.ones(len(p)))


@pytest.mark.parametrize(
    ("changes", "escalate", "act"),
    [
        # Just above .01: TPR 1, FPR .01, precision .02 / (.02 + .98 x .01) = .671; 1% of benign ads are flagged.
        # Just above .65: TPR .6, FPR 0, at most 1 - .1^(1/10000) = .00023 with confidence .9: precision .98.
        ({"benign_budget": 0.01}, 0.010001, 0.650001),
        ({"benign_budget": 0.009}, 0.650001, 0.650001),
        ({"benign_budget": 0.01, "escalate_precision": 0.7}, 0.650001, 0.650001),
        # No cut is that sure: a person decides. A cut within the budget alone lets the head speak at all.
        ({"benign_budget": 0.01, "act_precision": 0.999}, 0.010001, 1.0),
        ({"benign_budget": 0.01, "confidence": 0.9999999, "act_precision": 0.95}, 0.010001, 1.0),
        # The more frequent violations are, the more precise is the same cut.
        ({"benign_budget": 0.01, "prevalence": 0.2}, 0.010001, 0.010001),
    ],
)
def test_thresholds_by_hand(changes: dict[str, float], escalate: float, act: float) -> None:
    p, rows = ten_thousand()
    thresholds = fit_thresholds(("scam",), p, rows, ThresholdConfig(**changes))
    found = thresholds.heads["scam"]
    assert found.escalate == pytest.approx(escalate, abs=2e-6)
    assert found.act == pytest.approx(act, abs=2e-6)
    assert (found.positives, found.negatives) == (5, 10_000)
    assert thresholds.prevalence == changes.get("prevalence", 0.02)


def test_a_head_without_positives_never_fires() -> None:
    p, rows = ten_thousand()
    found = fit_thresholds(("scam",), p, held(p, np.zeros_like(p), np.ones(len(p))), ThresholdConfig()).heads["scam"]
    assert (found.escalate, found.act, found.positives) == (1.0, 1.0, 0)
    assert rows.own.all()


def test_public_rows_stand_in_where_own_ads_are_too_few() -> None:
    p, rows = ten_thousand()
    own = rows.own.copy()
    own[:2] = False  # three positives of our own
    found = fit_thresholds(("scam",), p, held(p, rows.targets, own), ThresholdConfig()).heads["scam"]
    assert found.positives == 5
    assert found.basis.startswith("all rows")


def test_without_any_benign_ad_of_our_own_the_budget_binds_nothing() -> None:
    p, rows = ten_thousand()
    public = held(p, rows.targets, np.zeros(len(p)))
    assert fit_thresholds(("scam",), p, public, ThresholdConfig()).heads["scam"].escalate < 0.1


scores = st.lists(
    st.tuples(st.integers(0, 999), st.sampled_from([0.0, 1.0, np.nan]), st.booleans()), min_size=1, max_size=60
)


@settings(max_examples=60, deadline=None)
@given(scores, st.sampled_from([0.0, 0.01, 0.1, 0.5]))
def test_the_share_of_flagged_benign_ads_stays_within_the_budget(
    drawn: list[tuple[int, float, bool]], budget: float
) -> None:
    p = np.array([[score / 1_000] for score, _, _ in drawn], dtype=np.float32)
    rows = held(p, np.array([[target] for _, target, _ in drawn]), np.array([own for _, _, own in drawn]))
    found = fit_thresholds(("scam",), p, rows, ThresholdConfig(benign_budget=budget)).heads["scam"]
    assert 0 <= found.escalate <= found.act <= 1
    benign = p[rows.own & ~(rows.targets[:, 0] == 1), 0].astype(float)
    if len(benign):
        assert (benign >= found.escalate).mean() <= budget
