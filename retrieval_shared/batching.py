"""Token-budget batches: texts of like length together, each batch under a budget of padded tokens.

Padding texts to the longest of their arrival order costs several times the work of not batching at all on a CPU;
sorting by length under a small budget keeps the padding to a few percent. Training and serving batch this way.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def token_budget_batches(lengths: Sequence[int] | NDArray[np.int64], *, budget: int) -> list[NDArray[np.intp]]:
    """Return batches of row numbers, shortest rows first, so that rows x longest row of a batch is at most `budget`.

    Every row is in exactly one batch; a row longer than the budget stands alone.

    Args:
        lengths: tokens of each row.
        budget: padded tokens of one batch, at least 1.

    Raises:
        ValueError: the budget is below 1.
    """
    if budget < 1:
        raise ValueError(f"budget: found {budget}, allowed 1 or more")
    order = np.argsort(np.asarray(lengths, dtype=np.int64), kind="stable")
    batches: list[NDArray[np.intp]] = []
    start = 0
    for end, row in enumerate(order):
        # Sorted by length, so the row at `end` would be the longest of its batch.
        if end > start and (end - start + 1) * lengths[row] > budget:
            batches.append(order[start:end])
            start = end
    if start < len(order):
        batches.append(order[start:])
    return batches


def pad(rows: Sequence[Sequence[int]], *, value: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return `(ids, mask)`, both int64 `[b, t]`: rows filled with `value` up to the longest, mask 1 on real tokens."""
    width = max(len(row) for row in rows)
    ids = np.full((len(rows), width), value, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return ids, mask
