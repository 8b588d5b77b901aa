"""Bitext accuracy against a loop written apart, ties, and vectors that are none."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from eval.metrics import bitext
from eval.metrics.bitext import bitext_credits


def by_loop(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """The rule of the first nearest, pair by pair."""
    hits = [0, 0]
    for way, (queries, candidates) in enumerate(((first, second), (second, first))):
        for i, query in enumerate(queries):
            best, found = -2.0, -1
            for j, candidate in enumerate(candidates):
                cosine = float(np.dot(query, candidate) / (np.linalg.norm(query) * np.linalg.norm(candidate)))
                if cosine > best:
                    best, found = cosine, j
            hits[way] += found == i
    return hits[0] / len(first), hits[1] / len(first)


@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
def test_accuracy_equals_a_brute_force_loop(noise: float) -> None:
    rng = np.random.default_rng(5)
    first = rng.standard_normal((60, 8))
    second = first + noise * rng.standard_normal((60, 8))
    found = bitext_credits(first, second)
    assert (found.forward.mean(), found.backward.mean()) == pytest.approx(by_loop(first, second))
    assert found.both.mean() == pytest.approx(sum(by_loop(first, second)) / 2)
    assert 0 < found.both.mean() < 1 or noise == 0.3


def test_the_two_directions_differ_where_one_vector_is_near_to_all() -> None:
    # Both first sentences are nearest to the second's row 0; its rows each find their own.
    found = bitext_credits([[1.0, 0.0], [0.9, 0.1]], [[1.0, 0.05], [0.5, 0.5]])
    assert found.forward.tolist() == [1.0, 0.0]
    assert found.backward.tolist() == [1.0, 1.0]
    assert found.both.tolist() == [1.0, 0.5]


@pytest.mark.parametrize("n", [2, 7])
def test_one_vector_for_all_texts_earns_what_chance_does(n: int) -> None:
    same = np.tile([0.6, 0.8], (n, 1))
    assert bitext_credits(same, same).both == pytest.approx(np.full(n, 1 / n))
    assert bitext_credits(np.zeros((n, 2)), same).both == pytest.approx(np.full(n, 1 / n))


def test_two_copies_of_a_translation_share() -> None:
    first = np.eye(3)
    second = np.array([[1.0, 0, 0], [1.0 - 1e-8, 0, 0], [0, 0, 1.0]])
    found = bitext_credits(first, second)
    assert found.forward == pytest.approx([0.5, 1 / 3, 1.0]), "row 1 is at right angles to all three: all tie"
    assert found.backward.tolist() == [1.0, 0.0, 1.0]


def test_a_pool_of_one_is_always_right() -> None:
    assert bitext_credits([[1.0, 0.0]], [[-1.0, 0.0]]).both.tolist() == [1.0]


def test_length_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.standard_normal((2, 20, 4))
    scaled = bitext_credits(first * rng.uniform(0.1, 9, (20, 1)), second)
    assert np.array_equal(scaled.both, bitext_credits(first, second).both)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([[1.0, float("nan")]], [[1.0, 0.0]], "first: found a value that is not finite in row 0"),
        ([[1.0], [1.0]], [[1.0], [float("inf")]], "second: found a value that is not finite in row 1"),
        ([[1.0]], [[1.0], [1.0]], r"second: found shape \(2, 1\)"),
        ([1.0], [1.0], r"first: found shape \(1,\)"),
        (np.zeros((0, 3)), np.zeros((0, 3)), r"first: found shape \(0, 3\)"),
    ],
)
def test_bad_vectors_are_refused(first: object, second: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bitext_credits(first, second)  # type: ignore[arg-type]


def test_the_example_in_the_docstring() -> None:
    found = doctest.testmod(bitext)
    assert (found.attempted, found.failed) == (1, 0)
