"""Means over languages, not over rows, and intervals over sentences."""

from __future__ import annotations

import numpy as np
import pytest

from eval.datasets import is_english
from eval.language_means import over_languages


def test_a_small_language_counts_as_much_as_a_large_one() -> None:
    found = over_languages([1, 1, 1, 0], ["de"] * 3 + ["th"], ["a", "b", "c", "d"], resamples=50, seed=1)
    assert (found["n_languages"], found["mean"]) == (2, 0.5)
    assert found["worst"] == {"language": "th", "value": 0.0}


def test_the_same_sentence_in_many_languages_is_one_draw() -> None:
    rng = np.random.default_rng(2)
    right = rng.random(100) < 0.5
    languages = [f"l{i}" for i in range(30) for _ in range(100)]
    values = np.tile(right, 30).astype(float)
    parallel = over_languages(values, languages, [str(i) for i in range(100)] * 30, resamples=200, seed=3)["interval"]
    as_if_apart = over_languages(values, languages, [str(i) for i in range(3000)], resamples=200, seed=3)["interval"]
    assert parallel.groups == 100
    assert parallel.high - parallel.low == pytest.approx(2 * 1.96 * 0.05, rel=0.25)  # sqrt(.25 / 100)
    assert as_if_apart.high - as_if_apart.low < 0.5 * (parallel.high - parallel.low)


def test_a_language_with_one_row_may_miss_a_draw() -> None:
    found = over_languages([1.0, 1.0, 1.0], ["a", "b", "b"], ["x", "y", "z"], resamples=50, seed=1)
    assert (found["interval"].low, found["interval"].high, found["interval"].resamples) == (1.0, 1.0, 50)


def test_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="groups: found none"):
        over_languages([], [], [], resamples=5, seed=1)


@pytest.mark.parametrize(
    ("language", "expected"),
    [("en", True), ("eng_Latn", True), ("EN-gb", True), ("eng", True), ("enm", False), ("deu_Latn", False)],
)
def test_english(language: str, expected: bool) -> None:
    assert is_english(language) is expected
