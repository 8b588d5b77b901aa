"""Disguises for our own ads, benign ones too, so that what is left of a disguise is no sign of a violation.

People who disguise their words mostly have something to hide, and a model that sees disguise in violating ads alone
takes it for the violation. The tables here are the training side's own; what disguise costs is measured with others.
Invisible characters and styled letters are not among them: they are always undone in full.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

import numpy as np

_WORD = re.compile(r"\w{2,}")
_DIGITS_AND_SIGNS = {
    "a": "4@", "b": "8", "c": "(", "e": "3", "g": "9", "h": "#", "i": "1!", "l": "1|", "o": "0", "s": "5$", "t": "7+",
    "u": "v", "z": "2",
}  # fmt: skip
_BETWEEN = (" ", ".", "-", "_", "*", "/", "'")
_ALPHABETS = ("CYRILLIC", "GREEK", "ARMENIAN", "LATIN SMALL LETTER SCRIPT", "LATIN LETTER SMALL CAPITAL")


def disguise(text: str, rng: np.random.Generator) -> str:
    """Return a text with some of its words, from one in ten to nearly all, disguised in one way drawn at random.

    The ways are digits and signs for letters, letters of other alphabets, and signs between letters. Equal generators
    give equal texts.
    """
    way = _WAYS[int(rng.integers(len(_WAYS)))]
    share = rng.uniform(0.1, 0.9)
    return _WORD.sub(lambda word: way(word.group(), rng) if rng.random() < share else word.group(), text)


def _digits_and_signs(word: str, rng: np.random.Generator) -> str:
    return _replace_some(word, _DIGITS_AND_SIGNS, rng)


def _other_alphabets(word: str, rng: np.random.Generator) -> str:
    return _replace_some(word, _lookalikes(), rng)


def _pulled_apart(word: str, rng: np.random.Generator) -> str:
    return str(rng.choice(_BETWEEN)).join(word)


def _replace_some(word: str, table: dict[str, str], rng: np.random.Generator) -> str:
    """Return a word in which each letter of the table is replaced with a chance drawn for the word."""
    chance = rng.uniform(0.2, 1.0)
    return "".join(
        str(rng.choice(list(table[char.lower()]))) if char.lower() in table and rng.random() < chance else char
        for char in word
    )


@lru_cache(maxsize=1)
def _lookalikes() -> dict[str, str]:
    """Return each Latin letter with the letters of other alphabets that Unicode lists as looking like it."""
    from confusable_homoglyphs.confusables import confusables_data

    table = {}
    for letter in map(chr, range(ord("a"), ord("z") + 1)):
        looks = [entry["c"] for entry in confusables_data.get(letter, [])]
        found = [look for look in looks if len(look) == 1 and unicodedata.name(look, "").startswith(_ALPHABETS)]
        if found:
            table[letter] = "".join(found)
    return table


_WAYS: tuple[Callable[[str, np.random.Generator], str], ...] = (_digits_and_signs, _other_alphabets, _pulled_apart)
