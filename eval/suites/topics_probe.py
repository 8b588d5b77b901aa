"""Topics across languages (SIB-200): a linear probe that learns from English alone and is asked in other languages."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from eval.datasets import is_english
from eval.language_means import over_languages
from eval.metrics.intervals import wilson
from eval.sentences import TopicRows, Topics
from eval.vectors import Embed

INVERSE_PENALTY = 1.0
"""scikit-learn's C, its default: from .3 to 10 the mean over languages of the first bundle moved by 1.6 points."""

ITERATIONS = 1_000


def asked_texts(topics: Topics) -> list[str]:
    """Return what the probe reads: the English training sentences, and every development sentence."""
    return [*english_rows(topics.train).texts, *(text for rows in topics.dev for text in rows.texts)]


def english_rows(split: Sequence[TopicRows]) -> TopicRows:
    """Return the English rows of a split.

    Raises:
        ValueError: it has none.
    """
    found = [rows for rows in split if is_english(rows.language)]
    if not found:
        raise ValueError(f"lang: found {', '.join(rows.language for rows in split) or 'nothing'}, expected English too")
    return found[0]


def topics_report(topics: Topics, embed: Embed, *, resamples: int, seed: int) -> dict[str, Any]:
    """Return the probe's accuracy per language, of English, and the mean of the other languages.

    The probe is an L2-regularised multinomial logistic regression on the vectors as they are; it is deterministic.
    The splits are taken as given, so that no development sentence was trained on in another language.

    Args:
        topics: both splits.
        embed: the encoder.
        resamples: bootstrap resamples of the mean.
        seed: of the bootstrap.
    """
    english = english_rows(topics.train)
    probe = fit_probe(embed(english.texts), english.labels)
    table: list[dict[str, Any]] = []
    values: list[float] = []
    languages: list[str] = []
    groups: list[str] = []
    for rows in topics.dev:
        right = probe.predict(embed(rows.texts)) == np.array(rows.labels)
        table.append({
            "language": rows.language,
            "n": len(rows.ids),
            "accuracy": float(right.mean()),
            "interval": wilson(int(right.sum()), len(rows.ids)),
        })  # fmt: skip
        if not is_english(rows.language):
            values += right.astype(np.float64).tolist()
            languages += [rows.language] * len(rows.ids)
            groups += rows.ids
    return {
        "n": sum(record["n"] for record in table),
        "n_train": len(english.ids),
        "labels": sorted(set(english.labels)),
        "most_frequent": _most_frequent(english, english_rows(topics.dev)),
        "english": next(record["accuracy"] for record in table if is_english(record["language"])),
        **over_languages(values, languages, groups, resamples=resamples, seed=seed),
        "languages": table,
    }


def fit_probe(vectors: NDArray[np.float32], labels: Sequence[str]) -> LogisticRegression:
    """Return the probe fitted to vectors [n, d] and their n labels."""
    probe = LogisticRegression(C=INVERSE_PENALTY, max_iter=ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a collapsed encoder's vectors may never converge
        return probe.fit(vectors.astype(np.float64), np.array(labels))


def _most_frequent(train: TopicRows, dev: TopicRows) -> float:
    """Return the accuracy of always naming the most frequent topic of the training rows."""
    names, counts = np.unique(np.array(train.labels), return_counts=True)
    return float((np.array(dev.labels) == names[counts.argmax()]).mean())
