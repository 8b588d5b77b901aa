"""Spearman against scipy, ties included."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from eval.metrics import correlation
from eval.metrics.correlation import ranks, spearman


@pytest.mark.parametrize("levels", [3, 10, 10_000])
def test_spearman_equals_scipy_with_and_without_ties(levels: int) -> None:
    rng = np.random.default_rng(levels)
    first = rng.integers(0, levels, 300).astype(float)
    second = first + rng.integers(0, levels, 300)
    assert spearman(first, second) == pytest.approx(spearmanr(first, second).statistic)
    assert np.array_equal(ranks(first), rankdata(first))


def test_by_hand() -> None:
    assert spearman([1, 2, 3], [1, 8, 27]) == pytest.approx(1.0)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    assert ranks(np.array([5.0, 1.0, 5.0])).tolist() == [2.5, 1.0, 2.5]


@pytest.mark.parametrize(("first", "second"), [([], []), ([1.0], [2.0]), ([1.0, 1.0], [1.0, 2.0])])
def test_undefined_is_nan(first: list[float], second: list[float]) -> None:
    assert np.isnan(spearman(first, second))


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="first: found a value that is not finite in row 1"):
        spearman([1.0, float("nan")], [1.0, 2.0])
    with pytest.raises(ValueError, match="second: found shape"):
        spearman([1.0, 2.0], [1.0])


def test_the_example_in_the_docstring() -> None:
    found = doctest.testmod(correlation)
    assert (found.attempted, found.failed) == (1, 0)
