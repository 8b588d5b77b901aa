"""Each text encoded once, in order; vectors that are none are refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from eval.scores import BATCH
from eval.vectors import Embedder


class Lengths:
    """Maps a text to the angle of its length; an empty one to zeros."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.seen += texts
        return np.array([[np.cos(len(t)), np.sin(len(t))] if t else [0, 0] for t in texts], dtype=np.float32)


class Fixed:
    """Gives what it was given."""

    def __init__(self, vectors: object) -> None:
        self._vectors = np.array(vectors, dtype=np.float32)

    def encode(self, _texts: Sequence[str]) -> np.ndarray:
        return self._vectors


def test_a_text_is_encoded_once_and_comes_in_order() -> None:
    encoder, calls = Lengths(), []
    embed = Embedder(encoder, name="e", progress=lambda *call: calls.append(call))
    found = embed(["bb", "a", "bb"], what="some")
    assert found.dtype == np.float32
    assert np.allclose(found, [[np.cos(n), np.sin(n)] for n in (2, 1, 2)])
    assert encoder.seen == ["bb", "a"], "the longest first"
    assert np.array_equal(embed(["a"]), found[1:2])
    assert calls == [("e: some", 2, 2)]
    assert (embed.dim, embed.texts, embed.zeros) == (2, 2, 0)


def test_many_texts_go_in_batches() -> None:
    calls: list[tuple[str, int, int]] = []
    embed = Embedder(Lengths(), progress=lambda *call: calls.append(call))
    assert embed([str(i) for i in range(BATCH + 1)]).shape == (BATCH + 1, 2)
    assert [done for _, done, _ in calls] == [BATCH, BATCH + 1]


def test_a_text_without_a_vector_is_counted() -> None:
    embed = Embedder(Lengths())
    embed(["", "a"])
    assert embed.zeros == 1


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([[np.nan, 0.0]], "vectors of e: found 1 of 1 that are not finite"),
        ([[np.inf, 0.0]], "not finite"),
        ([[2.0, 0.0]], "found length 2.0000, allowed 1"),
        ([[1.0, 0.0], [1.0, 0.0]], r"found shape \(2, 2\), expected \[1, 2\]"),
        ([1.0], r"found shape \(1,\), expected \[1, d\]"),
    ],
)
def test_bad_vectors_are_refused(vectors: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Embedder(Fixed(vectors), name="e")(["a"])
