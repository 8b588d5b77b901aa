"""Long texts in overlapping pieces that an encoder can take."""

from __future__ import annotations


def chunk_spans(n: int, *, size: int, overlap: int) -> tuple[tuple[int, int], ...]:
    """Return spans (start, end) of at most `size` tokens that together cover tokens 0 to n.

    Neighbours share `overlap` tokens; the last two share more where needed, so that the last span is full, too. A text
    that fits has one span, a text without tokens none. Raises ValueError unless n >= 0 and 0 <= overlap < size.

    >>> chunk_spans(10, size=4, overlap=1)
    ((0, 4), (3, 7), (6, 10))
    >>> chunk_spans(9, size=4, overlap=1)
    ((0, 4), (3, 7), (5, 9))
    """
    if n < 0:
        raise ValueError(f"n must be 0 or more, found {n}")
    if size < 1:
        raise ValueError(f"size must be 1 or more, found {size}")
    if not 0 <= overlap < size:
        raise ValueError(f"overlap must be from 0 to size - 1 = {size - 1}, found {overlap}")
    if n <= size:
        return ((0, n),) if n else ()
    starts = range(0, n - size, size - overlap)
    return (*((start, start + size) for start in starts), (n - size, n))
