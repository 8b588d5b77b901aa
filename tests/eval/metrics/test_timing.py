from __future__ import annotations

import math

import pytest

from eval.metrics.timing import Spread, difference, percentile, ratio, spread


def test_percentile_is_the_nearest_rank() -> None:
    values = [float(x) for x in range(100, 0, -1)]
    assert percentile(values, 0.50) == 50.0
    assert percentile(values, 0.99) == 99.0
    assert percentile(values, 1.0) == 100.0
    assert percentile(values, 0.07) == 7.0  # 0.07 * 100 is above 7 in floating point


def test_a_high_percentile_of_few_values_is_the_largest() -> None:
    assert percentile([3.0, 9.0, 1.0], 0.99) == 9.0
    assert percentile([4.0], 0.01) == 4.0


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, math.nan])
def test_percentile_refuses_a_share_outside_its_range(share: float) -> None:
    with pytest.raises(ValueError, match="share: found"):
        percentile([1.0], share)


def test_spread_keeps_every_round() -> None:
    assert spread([3.0, 1.0, 2.0, 10.0]) == Spread(median=2.5, min=1.0, max=10.0, rounds=(3.0, 1.0, 2.0, 10.0))


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_spread_refuses_what_is_no_measurement(values: list[float]) -> None:
    with pytest.raises(ValueError, match="values: found"):
        spread(values)


def test_ratio_is_taken_within_rounds() -> None:
    """The second round was twice as slow for both: the ratio does not notice."""
    assert ratio([2.0, 4.0], [1.0, 2.0]).rounds == (2.0, 2.0)


def test_difference_is_taken_within_rounds() -> None:
    assert difference([5.0, 9.0], [4.0, 6.0]) == Spread(median=2.0, min=1.0, max=3.0, rounds=(1.0, 3.0))


def test_ratio_refuses_rounds_that_do_not_pair_up_and_a_zero() -> None:
    with pytest.raises(ValueError, match="found 1 rounds, expected 2"):
        ratio([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="allowed above 0"):
        ratio([1.0], [0.0])
