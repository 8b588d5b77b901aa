from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from eval.peers.orders import ARRIVAL, SORTED, Encode, in_batches

TEXTS = ["bb", "a", "dddd", "ccc", "a"]


def noting(calls: list[list[str]]) -> Encode:
    """Gives each text its length and its first letter, and notes what it is called with."""

    def encode(texts: Sequence[str]) -> Any:
        calls.append(list(texts))
        return np.array([[len(text), ord(text[0])] for text in texts], dtype=np.float32)

    return encode


@pytest.mark.parametrize(
    ("order", "size", "expected"),
    [
        (ARRIVAL, 2, [["bb", "a"], ["dddd", "ccc"], ["a"]]),
        (ARRIVAL, None, [TEXTS]),
        (SORTED, 2, [["dddd", "ccc"], ["bb", "a"], ["a"]]),
        (SORTED, None, [["dddd", "ccc", "bb", "a", "a"]]),
    ],
)
def test_batches_are_as_asked_for_and_rows_as_the_texts_came(
    order: str, size: int | None, expected: list[list[str]]
) -> None:
    calls: list[list[str]] = []
    found = in_batches(noting(calls), size=size, order=order)(TEXTS)
    assert calls == expected
    assert found.tolist() == [[len(text), ord(text[0])] for text in TEXTS]
    assert found.dtype == np.float32


def test_it_refuses_other_orders_and_empty_batches() -> None:
    with pytest.raises(ValueError, match="order: found 'random', allowed arrival, sorted"):
        in_batches(noting([]), size=2, order="random")
    with pytest.raises(ValueError, match="size: found 0, allowed 1 and up"):
        in_batches(noting([]), size=0, order=ARRIVAL)
