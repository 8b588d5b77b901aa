"""Geometry against loops and numpy's SVD, and encoders that have collapsed in known ways."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from eval.metrics.geometry import (
    Geometry,
    Limits,
    alignment,
    centroid_drift,
    collapsed,
    effective_rank,
    geometry_of,
    mean_cosine,
    uniformity,
)

LANGUAGES = ("eng", "deu", "tha")


def random_unit(n: int = 200, d: int = 64, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((n, d))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def figures(vectors: dict[str, np.ndarray]) -> dict[str, Geometry]:
    return {name: geometry_of(rows, english=vectors["eng"]) for name, rows in vectors.items()}


def test_effective_rank_equals_its_definition() -> None:
    v = random_unit(30, 8)
    s = np.linalg.svd(v, compute_uv=False)
    p = [value / sum(s) for value in s]
    assert effective_rank(v) == pytest.approx(math.exp(-sum(q * math.log(q) for q in p)))


def test_effective_rank_of_known_matrices() -> None:
    assert effective_rank(np.eye(5)) == pytest.approx(5.0)
    assert effective_rank(np.tile([3.0, 4.0], (9, 1))) == pytest.approx(1.0)
    assert effective_rank([[1.0, 0.0, 0.0]]) == 1.0
    assert np.isnan(effective_rank(np.zeros((3, 2))))


def test_pairwise_figures_equal_loops_over_pairs() -> None:
    v = random_unit(25, 6, seed=3)
    pairs = list(itertools.combinations(v, 2))
    assert mean_cosine(v) == pytest.approx(np.mean([a @ b for a, b in pairs]))
    assert uniformity(v) == pytest.approx(math.log(np.mean([math.exp(-2 * np.sum((a - b) ** 2)) for a, b in pairs])))


def test_alignment_and_drift_by_hand() -> None:
    first, second = [[1.0, 0.0], [0.0, 2.0]], [[1.0, 0.0], [1.0, 0.0]]
    assert alignment(first, second) == pytest.approx(1.0)  # squared distances 0 and 2
    assert centroid_drift(first, second) == pytest.approx(math.sqrt(0.5))  # (.5, .5) and (1, 0)
    assert centroid_drift([[1.0, 0.0]], [[-1.0, 0.0]]) == 2.0


def test_the_sphere_in_many_dimensions_has_the_known_values() -> None:
    v = random_unit(400, 300)
    assert uniformity(v) == pytest.approx(-4.0, abs=0.05)
    assert mean_cosine(v) == pytest.approx(0.0, abs=0.01)
    assert alignment(v, random_unit(400, 300, seed=1)) == pytest.approx(2.0, abs=0.05)


def test_one_sentence_has_no_pairs() -> None:
    found = geometry_of([[1.0, 0.0]], english=[[0.0, 1.0]])
    assert (found.n, found.dim, found.effective_rank) == (1, 2, 1.0)
    assert found.alignment == pytest.approx(2.0)
    assert np.isnan(found.mean_cosine)
    assert np.isnan(found.uniformity)


def test_a_healthy_random_encoder_passes() -> None:
    english = random_unit()
    near = {name: english + 0.1 * random_unit(seed=i) for i, name in enumerate(LANGUAGES)} | {"eng": english}
    assert collapsed(figures(near)) == ()
    strangers = {name: random_unit(seed=i) for i, name in enumerate(LANGUAGES)}
    assert collapsed(figures(strangers)) == (), "translations far apart are bad bitext, no collapse"


def test_a_constant_encoder_is_caught() -> None:
    found = collapsed(figures(dict.fromkeys(LANGUAGES, np.tile(random_unit(1), (200, 1)))))
    assert len(found) == 2 * len(LANGUAGES)
    assert found[:2] == ("eng: effective rank 1.0, allowed 6.4 and up", "eng: mean cosine 1.00, allowed up to 0.9")


@pytest.mark.parametrize("d", [30, 64, 384])
def test_a_rank_two_encoder_is_caught(d: int) -> None:
    plane = random_unit(2, d)
    vectors = np.random.default_rng(4).standard_normal((200, 2)) @ plane
    found = collapsed(figures(dict.fromkeys(LANGUAGES, vectors)))
    assert len(found) == len(LANGUAGES)
    assert all("effective rank" in reason for reason in found)


def test_an_encoder_with_a_point_per_language_is_caught() -> None:
    points = {name: random_unit(1, seed=9 + i) for i, name in enumerate(LANGUAGES)}
    exact = {name: np.tile(point, (200, 1)) for name, point in points.items()}
    assert {reason.split()[0] for reason in collapsed(figures(exact))} == {"eng:", "deu:", "tha:"}
    assert sum("drift" in reason for reason in collapsed(figures(exact))) == 2
    # Each sentence has its place beside its language's point: only drift sees that.
    spread = {name: point + random_unit(seed=3) for name, point in points.items()}
    assert [reason.split(" from")[0].split()[:2] for reason in collapsed(figures(spread))] == [
        ["deu:", "drift"],
        ["tha:", "drift"],
    ]


def test_an_encoder_without_vectors_is_caught() -> None:
    assert "effective rank nan" in collapsed(figures(dict.fromkeys(LANGUAGES, np.zeros((40, 40)))))[0]


def test_limits_can_be_set() -> None:
    vectors = dict.fromkeys(LANGUAGES, random_unit())
    assert len(collapsed(figures(vectors), limits=Limits(rank_share=0.99))) == 3


@pytest.mark.parametrize("shape", [(29, 64), (200, 29)])
def test_too_few_sentences_or_dimensions_are_not_judged(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="allowed 30 and up"):
        collapsed(figures({"eng": random_unit(*shape)}))
    with pytest.raises(ValueError, match="languages: found none"):
        collapsed({})


@pytest.mark.parametrize("figure", [effective_rank, mean_cosine, uniformity])
def test_bad_vectors_are_refused(figure: object) -> None:
    with pytest.raises(ValueError, match="not finite in row 1, 1 rows"):
        figure([[1.0, 0.0], [np.nan, 0.0]])  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"found shape \(0, 2\)"):
        figure(np.zeros((0, 2)))  # type: ignore[operator]
    with pytest.raises(ValueError, match="second: found shape"):
        alignment([[1.0]], [[1.0], [1.0]])
