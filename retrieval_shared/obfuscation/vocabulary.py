"""The frequent English words by which a text that has shown itself disguised is read further."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

_WORDS = Path(__file__).with_name("words.txt")


@lru_cache(maxsize=1)
def vocabulary() -> frozenset[str]:
    """Return the words, in lower case, letters of ASCII only; read on first use, since plain texts never need them."""
    lines = _WORDS.read_text(encoding="utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


def is_word(text: str) -> bool:
    """Return whether a text is one word of the vocabulary, in whatever case."""
    return text.lower() in vocabulary()
