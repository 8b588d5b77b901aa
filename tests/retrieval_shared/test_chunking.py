from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_shared.chunking import chunk_spans


@pytest.mark.parametrize(
    ("n", "size", "overlap", "spans"),
    [
        (0, 4, 1, ()),
        (1, 4, 1, ((0, 1),)),
        (4, 4, 1, ((0, 4),)),
        (5, 4, 1, ((0, 4), (1, 5))),
        (10, 4, 1, ((0, 4), (3, 7), (6, 10))),
        (9, 4, 0, ((0, 4), (4, 8), (5, 9))),
        (3, 1, 0, ((0, 1), (1, 2), (2, 3))),
    ],
)
def test_spans_by_hand(n: int, size: int, overlap: int, spans: tuple[tuple[int, int], ...]) -> None:
    assert chunk_spans(n, size=size, overlap=overlap) == spans


@given(st.integers(0, 2000), st.integers(1, 300), st.data())
def test_spans_are_full_overlap_and_cover_every_token(n: int, size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    spans = chunk_spans(n, size=size, overlap=overlap)
    assert {at for start, end in spans for at in range(start, end)} == set(range(n))
    assert all(end - start == min(size, n) for start, end in spans)
    assert all(left[1] - right[0] >= overlap for left, right in zip(spans, spans[1:], strict=False))
    assert len(set(spans)) == len(spans)


@pytest.mark.parametrize(
    ("n", "size", "overlap", "message"),
    [(-1, 4, 1, "n must"), (5, 0, 0, "size must"), (5, 4, 4, "overlap must be from 0 to"), (5, 4, -1, "overlap must")],
)
def test_impossible_chunks_are_refused(n: int, size: int, overlap: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        chunk_spans(n, size=size, overlap=overlap)
