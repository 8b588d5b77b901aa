"""Published numbers and the beta quantile."""

from __future__ import annotations

import pytest
from scipy.stats import beta

from eval.metrics.intervals import clopper_pearson_lower, wilson


def test_wilson_by_hand() -> None:
    # 15 of 148, the worked example of Newcombe 1998, table I.
    interval = wilson(15, 148)
    assert interval.low == pytest.approx(0.0624, abs=5e-5)
    assert interval.high == pytest.approx(0.1605, abs=5e-5)


def test_wilson_at_the_ends() -> None:
    assert wilson(0, 20).low == 0.0
    assert wilson(0, 20).high == pytest.approx(0.1611, abs=5e-5)  # Newcombe 1998, 0 of 20
    assert wilson(20, 20).high == 1.0
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)


@pytest.mark.parametrize(("k", "n"), [(1, 1), (1, 30), (27, 30), (30, 30), (900, 1000), (4321, 20000)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_clopper_pearson_is_the_beta_quantile(k: int, n: int, confidence: float) -> None:
    assert clopper_pearson_lower(k, n, confidence=confidence) == pytest.approx(
        beta.ppf(1 - confidence, k, n - k + 1), abs=1e-9
    )


def test_clopper_pearson_of_all_successes_by_hand() -> None:
    assert clopper_pearson_lower(10, 10) == pytest.approx(0.05 ** (1 / 10))
    assert clopper_pearson_lower(0, 10) == 0.0
    assert clopper_pearson_lower(0, 0) == 0.0


@pytest.mark.parametrize(("k", "n", "confidence"), [(-1, 3, 0.9), (4, 3, 0.9), (1, 3, 1.0), (1, 3, 0.0)])
def test_bad_counts_are_refused(k: int, n: int, confidence: float) -> None:
    with pytest.raises(ValueError, match="found"):
        wilson(k, n, confidence=confidence)
    with pytest.raises(ValueError, match="found"):
        clopper_pearson_lower(k, n, confidence=confidence)
