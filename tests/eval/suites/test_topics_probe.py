"""A probe that learns from English alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from eval.sentences import TopicRows, Topics
from eval.suites.topics_probe import asked_texts, english_rows, fit_probe, topics_report

LABELS = ("sports", "travel", "health")


def rows(language: str, start: int, n: int) -> TopicRows:
    ids = tuple(str(i) for i in range(start, start + n))
    labels = tuple(LABELS[i % 3] for i in range(start, start + n))
    return TopicRows(language, ids, labels, tuple(f"{language}|{a}|{b}" for a, b in zip(labels, ids, strict=True)))


TOPICS = Topics(
    train=(rows("deu_Latn", 0, 30), rows("eng_Latn", 0, 30)),
    dev=tuple(rows(language, 30, 9) for language in ("deu_Latn", "eng_Latn", "tha_Thai")),
)


class ReadsTwo:
    """English and German point to their topic; Thai always to sports. Remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: Sequence[str], *, what: str = "") -> np.ndarray:  # noqa: ARG002
        self.asked += texts
        parts = [text.split("|") for text in texts]
        return np.eye(3, dtype=np.float32)[[0 if p[0] == "tha_Thai" else LABELS.index(p[1]) for p in parts]]


def test_accuracy_per_language_and_the_mean_without_english() -> None:
    embed = ReadsTwo()
    found = topics_report(TOPICS, embed, resamples=40, seed=1)
    assert {record["language"]: record["accuracy"] for record in found["languages"]} == pytest.approx(
        {"deu_Latn": 1.0, "eng_Latn": 1.0, "tha_Thai": 1 / 3}
    )
    assert (found["english"], found["n_languages"], found["n"], found["n_train"]) == (1.0, 2, 27, 30)
    assert found["mean"] == pytest.approx(2 / 3)
    assert found["worst"]["language"] == "tha_Thai"
    assert found["most_frequent"] == pytest.approx(1 / 3)
    assert found["interval"].groups == 9, "a sentence and its translations are drawn together"
    assert set(embed.asked) == set(asked_texts(TOPICS))
    assert not any(text.startswith("deu_Latn") and int(text.split("|")[2]) < 30 for text in embed.asked)


def test_the_probe_is_scikit_learns_default() -> None:
    rng = np.random.default_rng(2)
    vectors = rng.standard_normal((60, 5)).astype(np.float32)
    labels = [LABELS[i] for i in rng.integers(0, 3, 60)]
    asked = rng.standard_normal((40, 5))
    reference = LogisticRegression(max_iter=1000).fit(vectors.astype(np.float64), labels)
    assert np.array_equal(fit_probe(vectors, labels).predict(asked), reference.predict(asked))


def test_without_english_rows_nothing_can_be_learnt() -> None:
    with pytest.raises(ValueError, match="lang: found deu_Latn, expected English too"):
        english_rows(TOPICS.train[:1])
