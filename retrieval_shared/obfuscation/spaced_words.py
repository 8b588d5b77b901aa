"""Which letters of a run belong to one word, where the spaces alone do not tell: told by the vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

from retrieval_shared.obfuscation.vocabulary import is_word

_LONGEST = 20  # letters: bounds the work per letter


def split_run(letters: Sequence[str], gaps: Sequence[int]) -> list[int]:
    """Return where words begin in a run of single letters, `gaps[i]` spaces standing between letters i and i + 1.

    Inside a word all gaps are alike. Words of the vocabulary are preferred, then long words, then few of them.

    >>> split_run("forhave", [1, 1, 2, 2, 2, 2])
    [0, 3]
    """
    best: list[tuple[float, int]] = [(0.0, 0)]  # the cost of the letters up to here, where their last word begins
    for end in range(1, len(letters) + 1):
        options = []
        for start in range(end - 1, max(-1, end - 1 - _LONGEST), -1):
            if end - start > 2 and gaps[start] != gaps[start + 1]:
                break
            options.append((best[start][0] + _cost("".join(letters[start:end])), start))
        best.append(min(options))
    begins, at = [], len(letters)
    while at:
        at = best[at][1]
        begins.append(at)
    return begins[::-1]


def _cost(word: str) -> float:
    """Return how little a word is to be believed."""
    if is_word(word):
        return 0.5 if len(word) == 1 else 0.1
    return 1.0 if len(word) > 3 else 2.0
