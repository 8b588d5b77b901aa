"""Five disguises of our own, to measure what a model loses when the same text is written to escape it.

Written from what people do, not from what the normaliser undoes: some of it is meant to get past it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

import numpy as np

_WORD = re.compile(r"\S+")
_LINK = re.compile(r"://|www\.|@\w+\.\w")

_LEET = {
    "a": "4@", "b": "8", "e": "3€", "g": "96", "i": "1!|", "l": "1|", "o": "0", "s": "5$", "t": "7+", "z": "2",
    "é": "3", "è": "3", "à": "4", "ó": "0", "í": "1", "ö": "0", "ä": "4",
    "о": "0", "з": "3", "ч": "4", "б": "6", "и": "1", "а": "@",
}  # fmt: skip
_LOOKALIKES = {
    "a": "аɑα", "b": "ЬƄ", "c": "сϲ", "d": "ԁ", "e": "еҽ", "g": "ɡց", "h": "һհ", "i": "іι", "j": "јϳ", "k": "κк",
    "l": "ӏⅼ", "m": "ⅿм", "n": "ոп", "o": "оοօ", "p": "рρ", "q": "ԛզ", "r": "г", "s": "ѕꜱ", "t": "тτ", "u": "սυ",
    "v": "ѵν", "w": "ԝա", "x": "хⅹ", "y": "уүγ", "z": "ᴢ",
    "A": "АΑ", "B": "ВΒ", "C": "СϹ", "E": "ЕΕ", "H": "НΗ", "I": "ІΙ", "J": "Ј", "K": "КΚ", "M": "МΜ", "N": "Ν",
    "O": "ОΟ", "P": "РΡ", "S": "Ѕ", "T": "ТΤ", "X": "ХΧ", "Y": "ҮΥ", "Z": "Ζ",
    "а": "a", "е": "e", "о": "o", "р": "p", "с": "c", "у": "y", "х": "x", "А": "A", "В": "B", "Е": "E", "К": "K",
    "М": "M", "Н": "H", "О": "O", "Р": "P", "С": "C", "Т": "T", "Х": "X",
}  # fmt: skip
_HIDDEN = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u034f\u180e\u2063\u200e\u202a\u2061"
_GAPS = (" ", ".", "-", "_", "*", "·", "~", "  ")
_FONTS = (0x1D400, 0x1D434, 0x1D468, 0x1D4D0, 0x1D5A0, 0x1D5D4, 0x1D670)  # the capital A of mathematical alphabets


def obfuscate(text: str, *, transform: str, rng: np.random.Generator, share: float = 0.5) -> str:
    """Return the text with a share of its words disguised; the words' order and the space between them stay.

    `transform` is one of `TRANSFORMS`, `share` the chance in [0, 1] of each word that has letters. Links and addresses
    are left alone, and so is a word that offers the disguise no letter. Equal generators give equal texts.
    Raises ValueError for an unknown transform or a share outside [0, 1].

    >>> obfuscate("cheap tobacco", transform="full_width", rng=np.random.default_rng(6), share=1.0)
    'ｃｈｅａｐ ｔｏｂａｃｃｏ'
    """
    if transform not in _DISGUISES:
        raise ValueError(f"transform must be one of {TRANSFORMS}, found {transform!r}")
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share must be in [0, 1], found {share}")
    disguise = _DISGUISES[transform]

    def of_word(match: re.Match[str]) -> str:
        word = match.group()
        chosen = bool(rng.random() < share)  # drawn for every word, so that the choice does not depend on the words
        return disguise(word, rng) if chosen and _LINK.search(word) is None else word

    return _WORD.sub(of_word, text)


def _substitute(word: str, table: dict[str, str], rng: np.random.Generator) -> str:
    """Return a word with at least one, on average six in ten, of the letters in `table` replaced."""
    places = [at for at, char in enumerate(word) if char in table or char.lower() in table]
    if not places:
        return word
    taken = {places[int(rng.integers(len(places)))]} | {at for at in places if rng.random() < 0.6}
    letters = list(word)
    for at in sorted(taken):
        options = table.get(letters[at]) or table[letters[at].lower()]
        letters[at] = options[int(rng.integers(len(options)))]
    return "".join(letters)


def _leet(word: str, rng: np.random.Generator) -> str:
    """Return a word with digits and signs for some of its letters: v1@gr4."""
    return _substitute(word, _LEET, rng)


def _homoglyph(word: str, rng: np.random.Generator) -> str:
    """Return a word with letters of other scripts that look alike; case is kept where the other script has it."""
    letters = _substitute(word, _LOOKALIKES, rng)
    pairs = zip(word, letters, strict=True)
    return "".join(new.upper() if old.isupper() and len(new.upper()) == 1 else new for old, new in pairs)


def _zero_width(word: str, rng: np.random.Generator) -> str:
    """Return a word with one to three invisible characters inside."""
    clusters = _clusters(word)
    if len(clusters) < 2:
        return word
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(1, len(clusters)))
        clusters[at] = _HIDDEN[int(rng.integers(len(_HIDDEN)))] + clusters[at]
    return "".join(clusters)


def _spaced(word: str, rng: np.random.Generator) -> str:
    """Return a word of three letters or more pulled apart by one sign; punctuation at its ends stays with it."""
    start, end = 0, len(word)
    while start < end and not word[start].isalnum():
        start += 1
    while end > start and not _belongs(word[end - 1]):
        end -= 1
    clusters = _clusters(word[start:end])
    if len(clusters) < 3 or not all(cluster[0].isalnum() for cluster in clusters):
        return word
    gap = _GAPS[int(rng.integers(len(_GAPS)))]
    edge = "  " if gap == " " else ""  # the reader needs to see where a word ends; one space is already there
    return word[:start] + edge[:1] + gap.join(clusters) + edge[:1] + word[end:]


def _full_width(word: str, rng: np.random.Generator) -> str:
    """Return a word in full-width letters and digits or, one in four, in one of the mathematical alphabets."""
    if rng.random() >= 0.25:
        return "".join(chr(ord(char) + 0xFEE0) if char.isascii() and char.isalnum() else char for char in word)
    font = _FONTS[int(rng.integers(len(_FONTS)))]
    return "".join(_in_font(char, font) if char.isascii() and char.isalpha() else char for char in word)


def _in_font(letter: str, font: int) -> str:
    """Return an ASCII letter in a mathematical alphabet; itself where Unicode left a hole."""
    styled = chr(font + ord(letter) - (ord("A") if letter.isupper() else ord("a") - 26))
    return styled if unicodedata.category(styled) != "Cn" else letter


def _clusters(word: str) -> list[str]:
    """Return the letters of a word, each with its marks, joiners and selectors."""
    clusters: list[str] = []
    for char in word:
        joined = clusters and (not _starts(char) or clusters[-1][-1] == "\u200d")
        if joined:
            clusters[-1] += char
        else:
            clusters.append(char)
    return clusters


def _starts(char: str) -> bool:
    """Return whether a character begins a cluster: it is neither a mark, nor invisible, nor a skin tone."""
    return unicodedata.category(char) not in {"Mn", "Mc", "Me", "Cf", "Sk"}


def _belongs(char: str) -> bool:
    """Return whether a character is a letter, a digit or a mark on one."""
    return unicodedata.category(char)[0] in "LMN"


_DISGUISES: dict[str, Callable[[str, np.random.Generator], str]] = {
    "leet": _leet,
    "homoglyph": _homoglyph,
    "zero_width": _zero_width,
    "spaced": _spaced,
    "full_width": _full_width,
}

TRANSFORMS = tuple(_DISGUISES)
"""The names of the five disguises."""
