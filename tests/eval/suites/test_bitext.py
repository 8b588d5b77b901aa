"""Figures per language, with the pool each was measured in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from eval.sentences import Pool
from eval.suites.bitext import bitext_report, pool_texts

POOLS = (
    Pool("de", ("one", "two", "six"), ("de one", "de two", "de six")),
    Pool("th", ("one", "ten"), ("th one", "th ten")),
)


def first_language_only(texts: Sequence[str], *, what: str = "") -> np.ndarray:  # noqa: ARG001
    """A vector per English word; German is read, every Thai text is the vector of `one`."""
    words = ["one", "two", "six", "ten"]
    return np.eye(4, dtype=np.float32)[[0 if text.startswith("th ") else words.index(text[-3:]) for text in texts]]


def test_accuracy_pool_mean_and_worst() -> None:
    found = bitext_report(POOLS, first_language_only, resamples=20, seed=1)
    german, thai = found["languages"]
    assert german == {"language": "de", "pool": 3, "accuracy": 1.0, "from_english": 1.0, "to_english": 1.0}
    # English `one` ties over both Thai texts, `ten` is at right angles to both: 1/2 each; both Thai texts find `one`.
    assert thai["from_english"] == thai["to_english"] == 0.5
    assert (found["n"], found["pools"], found["n_languages"]) == (5, [2, 3], 2)
    assert found["mean"] == pytest.approx(0.75)
    assert found["worst"] == {"language": "th", "value": 0.5}
    assert found["interval"].groups == 4, "`one` is one sentence, though in two languages"


def test_every_sentence_is_encoded() -> None:
    assert sorted(pool_texts(POOLS)) == sorted(
        ["one", "two", "six", "de one", "de two", "de six", "one", "ten", "th one", "th ten"]
    )
