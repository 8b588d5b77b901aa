from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_shared.batching import pad, token_budget_batches


def test_hand_example() -> None:
    batches = token_budget_batches([3, 1, 5, 2], budget=6)
    # Sorted: rows 1 (1 token), 3 (2), 0 (3), 2 (5). Rows 1 and 3 cost 2 x 2; a third would cost 3 x 3 > 6.
    assert [batch.tolist() for batch in batches] == [[1, 3], [0], [2]]


def test_rows_of_equal_length_keep_their_order() -> None:
    assert [batch.tolist() for batch in token_budget_batches([4, 4, 4], budget=8)] == [[0, 1], [2]]


def test_no_rows_no_batches() -> None:
    assert token_budget_batches([], budget=8) == []


def test_budget_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="budget: found 0, allowed 1 or more"):
        token_budget_batches([1], budget=0)


@given(st.lists(st.integers(1, 400), max_size=80), st.integers(1, 600))
def test_every_row_once_and_within_budget_unless_alone(lengths: list[int], budget: int) -> None:
    batches = token_budget_batches(lengths, budget=budget)
    assert sorted(row for batch in batches for row in batch.tolist()) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= budget for batch in batches)
    longest = [max(lengths[row] for row in batch) for batch in batches]
    assert longest == sorted(longest)


def test_pad_by_hand() -> None:
    ids, mask = pad([[7, 8, 9], [5], []], value=1)
    np.testing.assert_array_equal(ids, [[7, 8, 9], [5, 1, 1], [1, 1, 1]])
    np.testing.assert_array_equal(mask, [[1, 1, 1], [1, 0, 0], [0, 0, 0]])
    assert ids.dtype == mask.dtype == np.int64
