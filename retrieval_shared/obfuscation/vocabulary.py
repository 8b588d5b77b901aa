"""The frequent English words by which a text that has shown itself disguised is read further."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

_WORDS = Path(__file__).with_name("words.txt")
_SMOOTHING = 0.1  # of a count: letters that never met in some three thousand words may still meet in another


@lru_cache(maxsize=1)
def vocabulary() -> frozenset[str]:
    """Return the words, in lower case, letters of ASCII only; read on first use, since plain texts never need them."""
    lines = _WORDS.read_text(encoding="utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


def is_word(text: str) -> bool:
    """Return whether a text is one word of the vocabulary, in whatever case."""
    return text.lower() in vocabulary()


def likeliest(readings: Iterable[str]) -> str:
    """Return the reading that is a word of the vocabulary, or else the one spelt most like its words.

    Of equals it is the first. Raises ValueError if there is no reading.
    """
    return max(readings, key=lambda reading: (is_word(reading), plausibility(reading)))


def plausibility(text: str) -> float:
    """Return the log probability of a text's letters, each after the two before it; only letters count."""
    trigrams, pairs = _letter_counts()
    spelt = _with_edges("".join(char for char in text.lower() if char.isalpha()))
    return sum(
        math.log((trigrams[spelt[at : at + 3]] + _SMOOTHING) / (pairs[spelt[at : at + 2]] + 27 * _SMOOTHING))
        for at in range(len(spelt) - 2)
    )


@lru_cache(maxsize=1)
def _letter_counts() -> tuple[Counter[str], Counter[str]]:
    """Return how often each three letters, and each two with a third behind them, stand in the vocabulary."""
    spelt = [_with_edges(word) for word in vocabulary()]
    trigrams = Counter(word[at : at + 3] for word in spelt for at in range(len(word) - 2))
    pairs = Counter(word[at : at + 2] for word in spelt for at in range(len(word) - 2))
    return trigrams, pairs


def _with_edges(word: str) -> str:
    """Return a word with the marks of its two edges: a letter is likely where it stands, too."""
    return f"^^{word}$"
