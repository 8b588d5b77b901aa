"""Scores against fractions of raters: every figure by hand."""

from __future__ import annotations

import numpy as np
import pytest

from eval.metrics.perceived import (
    at_threshold,
    balanced_weights,
    reliability,
    scale_error,
    scale_figures,
    weighted_mean,
    weighted_quantiles,
)

SCORES = np.array([0.95, 0.86, 0.75, 0.5, 0.1])
FRACTION = np.array([1.0, 0.5, 1.0, 0.9, 0.0])
ONES = np.ones(5)


def test_every_figure_of_a_threshold_by_hand() -> None:
    found = at_threshold(SCORES, FRACTION, ONES, threshold=0.9)
    assert (found.flagged, found.raters) == (1 / 5, 3 / 5)  # .9 of the raters reaches .9
    assert (found.precision, found.precision_same, found.fraction_flagged) == (1.0, 1.0, 1.0)
    assert found.recall == pytest.approx(1 / 3)
    assert (found.fraction_near, found.n_near, found.n_flagged) == (0.75, 2, 1)


def test_weights_are_those_of_another_mix() -> None:
    weights = np.array([1.0, 3.0, 1.0, 0.0, 5.0])
    found = at_threshold(SCORES, FRACTION, weights, threshold=0.8)
    assert found.flagged == pytest.approx(4 / 10)
    assert found.raters == pytest.approx(2 / 10)
    assert found.precision == 1.0
    assert found.precision_same == pytest.approx(1 / 4)
    assert found.recall == pytest.approx(1 / 2)
    assert found.fraction_flagged == pytest.approx((1 + 1.5) / 4)


def test_the_same_rows_repeated_are_the_same_rows_weighted() -> None:
    counts = np.array([2, 0, 1, 3, 1])
    weighted = at_threshold(SCORES, FRACTION, counts.astype(float), threshold=0.7)
    repeated = at_threshold(np.repeat(SCORES, counts), np.repeat(FRACTION, counts), np.ones(7), threshold=0.7)
    for name in ("flagged", "raters", "precision", "precision_same", "recall", "fraction_flagged", "fraction_near"):
        assert getattr(weighted, name) == pytest.approx(getattr(repeated, name)), name


def test_what_rests_on_nothing_is_unknown() -> None:
    found = at_threshold(np.array([0.1]), np.array([0.0]), np.ones(1), threshold=0.7)
    assert (found.flagged, found.n_flagged, found.n_near) == (0.0, 0, 0)
    assert all(np.isnan([found.precision, found.recall, found.fraction_near, found.fraction_flagged]))
    assert np.isnan(weighted_mean(np.array([1.0]), np.zeros(1)))


def test_each_source_is_half_and_half_and_weighs_what_it_has() -> None:
    fraction = np.array([1.0, 0.5, 0.4, 0.0, 0.0, 1.0, 1.0])
    source = np.array(["a", "a", "a", "a", "a", "b", "b"])
    weights = balanced_weights(fraction, source)
    assert weights[:5].tolist() == pytest.approx([1.25, 1.25, 5 / 6, 5 / 6, 5 / 6])
    assert weights[:5].sum() == pytest.approx(5)
    assert weights[5:].tolist() == [0.0, 0.0], "a source of one kind would be a sign of it"


def test_the_scale_error_by_hand() -> None:
    # Bins of half: below, fractions .9 and 0 against .5 and .1 (5/10 is of the upper); above, 2.5 + .9 against 3.06.
    assert scale_error(SCORES, FRACTION, ONES, bins=2) == pytest.approx((0.1 + abs(3.4 - 3.06)) / 5)
    assert scale_error(np.array([0.5, 0.5]), np.array([1.0, 0.0]), np.ones(2)) == 0.0
    assert scale_error(np.array([1.0]), np.array([0.25]), np.ones(1)) == pytest.approx(0.75)


def test_the_figures_together() -> None:
    found = scale_figures(SCORES, FRACTION, ONES, thresholds=(0.7, 0.9))
    assert found.absolute_error == pytest.approx((0.05 + 0.36 + 0.25 + 0.4 + 0.1) / 5)
    assert list(found.thresholds) == ["0.7", "0.9"]
    assert found.thresholds["0.9"] == at_threshold(SCORES, FRACTION, ONES, threshold=0.9)


def test_quantiles_of_weighted_values() -> None:
    values, at = np.array([5.0, 1.0, 3.0]), np.array([0.0, 0.25, 0.26, 0.5, 1.0])
    assert weighted_quantiles(values, np.array([2.0, 1.0, 1.0]), at).tolist() == [1.0, 1.0, 3.0, 3.0, 5.0]
    assert weighted_quantiles(values, np.array([2.0, 0.0, 1.0]), np.array([0.01])).tolist() == [3.0], "no say"


def test_bins_of_the_reliability_diagram_hold_weighted_means() -> None:
    weights = np.array([1.0, 1.0, 1.0, 1.0, 3.0])
    low, high = reliability(SCORES, FRACTION, weights, bins=2)
    assert (low["n"], high["n"]) == (3, 2)
    assert low["probability"] == pytest.approx((0.75 + 0.5 + 0.3) / 5)
    assert low["share"] == pytest.approx(1.9 / 5)
    assert high["share"] == pytest.approx(0.75)
