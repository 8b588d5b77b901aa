"""Hand numbers, both binnings, and the reference's reliability curve."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from eval.metrics.calibration import brier, expected_calibration_error, reliability_bins

NAN = float("nan")


def test_equal_width_by_hand() -> None:
    labels, probabilities = [0, 1, 1, 1], [0.1, 0.3, 0.8, 0.6]
    first, second = reliability_bins(labels, probabilities, bins=2, scheme="width")
    assert (first.n, first.share, first.probability) == (2, 0.5, pytest.approx(0.2))
    assert (second.n, second.share, second.probability) == (2, 1.0, pytest.approx(0.7))
    assert expected_calibration_error(labels, probabilities, bins=2, scheme="width") == pytest.approx(
        0.5 * 0.3 + 0.5 * 0.3
    )


def test_equal_mass_keeps_equal_probabilities_together() -> None:
    found = reliability_bins([0, 0, 0, 1, 1], [0.1, 0.1, 0.1, 0.1, 0.9], bins=5, scheme="mass")
    assert [b.n for b in found] == [4, 1]


@pytest.mark.parametrize(("scheme", "strategy"), [("width", "uniform"), ("mass", "quantile")])
def test_bins_equal_scikit_learn(scheme: str, strategy: str) -> None:
    rng = np.random.default_rng(3)
    probabilities = rng.random(1000)
    labels = (rng.random(1000) < probabilities).astype(float)
    share, mean = calibration_curve(labels, probabilities, n_bins=10, strategy=strategy)
    found = reliability_bins(labels, probabilities, bins=10, scheme=scheme)
    assert np.allclose([b.share for b in found], share, atol=0.02)  # they close bins on the left, we on the right
    assert np.allclose([b.probability for b in found], mean, atol=0.01)
    assert brier(labels, probabilities) == pytest.approx(brier_score_loss(labels, probabilities))


def test_a_calibrated_constant_has_no_error() -> None:
    assert expected_calibration_error([1, 0, 0, 0], [0.25] * 4) == 0.0
    assert expected_calibration_error([1, 1], [0.0, 0.0]) == 1.0


def test_unknown_labels_and_no_rows() -> None:
    assert brier([1, NAN], [1.0, 0.0]) == 0.0
    assert np.isnan(brier([NAN], [0.5]))
    assert np.isnan(expected_calibration_error([], []))
    assert reliability_bins([], []) == ()


@pytest.mark.parametrize(
    ("probabilities", "options", "message"),
    [
        ([0.5, 1.5], {}, "probabilities: found 1.5"),
        ([0.5, NAN], {}, "probabilities: found nan"),
        ([0.5], {}, "shape"),
        ([0.5, 0.5], {"scheme": "log"}, "scheme: found 'log'"),
        ([0.5, 0.5], {"bins": 0}, "bins: found 0"),
    ],
)
def test_bad_input_is_refused(probabilities: list[float], options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reliability_bins([1, 0], probabilities, **options)  # type: ignore[arg-type]
