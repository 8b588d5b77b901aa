"""Spearman per language against scipy, English apart from the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import spearmanr

from eval.sentences import ScoredPairs
from eval.suites.similarity import cosines, pair_texts, similarity_report

ANGLES = {"en": (0.1, 0.2, 0.9, 0.5), "de": (0.1, 0.9, 0.2, 0.5), "fr": (0.9, 0.5, 0.2, 0.1)}
SCORES = (5.0, 4.0, 1.0, 3.0)
PAIRS = tuple(
    ScoredPairs(language, SCORES, ("0",) * 4, tuple(f"{language} {angle}" for angle in angles))
    for language, angles in ANGLES.items()
)


def by_angle(texts: Sequence[str], *, what: str = "") -> np.ndarray:  # noqa: ARG001
    angles = np.array([float(text.split()[-1]) for text in texts])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def constant(texts: Sequence[str], *, what: str = "") -> np.ndarray:  # noqa: ARG001
    return np.tile(np.float32([0.6, 0.8]), (len(texts), 1))


def test_figures_equal_scipy() -> None:
    found = similarity_report(PAIRS, by_angle, resamples=30, seed=1)
    expected = [spearmanr(np.cos(angles), SCORES).statistic for angles in ANGLES.values()]
    assert [record["spearman"] for record in found["languages"]] == pytest.approx(expected)
    assert found["english"] == pytest.approx(1.0)
    assert found["mean_others"] == pytest.approx(np.mean(expected[1:]))
    assert (found["n"], found["n_others"]) == (12, 2)
    assert all(record["interval"].low <= record["spearman"] for record in found["languages"])


def test_one_vector_for_all_sentences_has_no_correlation() -> None:
    found = similarity_report(PAIRS, constant, resamples=3, seed=1)
    assert np.isnan(found["english"])
    assert np.isnan(found["mean_others"])


def test_without_english_or_without_others() -> None:
    assert np.isnan(similarity_report(PAIRS[1:], by_angle, resamples=3, seed=1)["english"])
    assert np.isnan(similarity_report(PAIRS[:1], by_angle, resamples=3, seed=1)["mean_others"])


def test_copies_tie() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((50, 384))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    assert set(cosines(vectors, vectors)) == {1.0}
    assert len(pair_texts(PAIRS)) == 24
