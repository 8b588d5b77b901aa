"""Groups move together; seeds repeat; the interval of a mean is the normal one."""

from __future__ import annotations

import numpy as np
import pytest

from eval.metrics.bootstrap import bootstrap_interval, group_weights


def test_rows_of_a_group_are_drawn_together_and_as_many_groups_as_there_are() -> None:
    groups = ["a", "b", "a", "c", "b", "a"]
    for seed in range(20):
        weights = group_weights(groups, rng=np.random.default_rng(seed))
        assert weights[0] == weights[2] == weights[5]
        assert weights[1] == weights[4]
        assert weights[0] + weights[1] + weights[3] == 3


def test_equal_seeds_give_equal_intervals() -> None:
    values = np.arange(30.0)
    names = [str(i // 2) for i in range(30)]
    first = bootstrap_interval(lambda w: float(np.average(values, weights=w)), names, seed=4)
    assert first == bootstrap_interval(lambda w: float(np.average(values, weights=w)), names, seed=4)
    assert first.groups == 15
    assert first.low < values.mean() < first.high


def test_the_interval_of_a_mean_is_near_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(size=400)
    found = bootstrap_interval(
        lambda w: float(np.average(values, weights=w)), [str(i) for i in range(400)], resamples=800
    )
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)


def test_repeated_rows_widen_the_interval() -> None:
    values = np.repeat(np.random.default_rng(0).normal(size=50), 8)
    rows = bootstrap_interval(lambda w: float(np.average(values, weights=w)), [str(i) for i in range(400)])
    groups = bootstrap_interval(lambda w: float(np.average(values, weights=w)), [str(i // 8) for i in range(400)])
    assert groups.high - groups.low > 2 * (rows.high - rows.low)


def test_undefined_draws_are_left_out() -> None:
    found = bootstrap_interval(lambda _: float("nan"), ["a"], resamples=3)
    assert found.resamples == 0
    assert np.isnan(found.low)


@pytest.mark.parametrize(("groups", "options"), [([], {}), (["a"], {"resamples": 0}), (["a"], {"confidence": 1.0})])
def test_bad_arguments_are_refused(groups: list[str], options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="found"):
        bootstrap_interval(lambda w: float(w.sum()), groups, **options)  # type: ignore[arg-type]
