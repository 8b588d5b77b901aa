"""The two shapes of a batch that every peer is measured in: texts as they come, and sorted by length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

ARRIVAL, SORTED = "arrival", "sorted"
ORDERS = (ARRIVAL, SORTED)

Encode = Callable[[Sequence[str]], Any]
"""Gives float32 vectors `[n, d]` of n texts, in their order."""


def in_batches(encode: Encode, *, size: int | None, order: str) -> Encode:
    """Return what reads any number of texts by calling `encode` with at most `size` of them at a time.

    The rows it gives stand in the order of the texts, whatever the order in which they were read.

    Args:
        encode: reads one batch.
        size: texts of a batch; None hands all of them over in one call.
        order: `arrival`, or `sorted` for the longest first, by characters.

    Raises:
        ValueError: there is no such order, or `size` is below 1.
    """
    if order not in ORDERS:
        raise ValueError(f"order: found {order!r}, allowed {', '.join(ORDERS)}")
    if size is not None and size < 1:
        raise ValueError(f"size: found {size}, allowed 1 and up")

    def read(texts: Sequence[str]) -> Any:  # noqa: ANN401 - float32 [n, d]
        places = list(range(len(texts)))
        if order == SORTED:
            places.sort(key=lambda place: -len(texts[place]))
        step = size or len(texts)
        parts = [encode([texts[place] for place in places[i : i + step]]) for i in range(0, len(texts), step)]
        rows = np.concatenate(parts)  # [n, d], in the order of `places`
        found = np.empty_like(rows)
        found[places] = rows
        return found

    return read
