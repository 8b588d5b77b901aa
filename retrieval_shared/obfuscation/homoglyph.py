"""Letters of another script that look alike: a Latin word with Cyrillic letters, a Cyrillic one with Latin letters."""

from __future__ import annotations

import re
from functools import lru_cache

from retrieval_shared.obfuscation.edit import WORD, Edit, character_class

# Alphabets that lend their letters to a disguise. Ideographs, kana, Hangul, Arabic and the Indic scripts stand beside
# Latin letters in honest words and are never taken for them.
_LENDERS = {
    "CYRILLIC": (0x0400, 0x0530), "GREEK": (0x0370, 0x0400), "ARMENIAN": (0x0530, 0x0590),
    "CHEROKEE": (0x13A0, 0x1400), "COPTIC": (0x2C80, 0x2D00), "LISU": (0xA4D0, 0xA500),
    "CANADIAN_ABORIGINAL": (0x1400, 0x1680), "IPA": (0x0250, 0x02B0),
}  # fmt: skip
_LENT = re.compile(f"[{character_class([point for span in _LENDERS.values() for point in range(*span)])}]")
_LATIN = re.compile("[A-Za-z\u00aa\u00ba\u00c0-\u024f\u1e00-\u1eff]")
_ASCII = re.compile("[A-Za-z]+")
_CYRILLIC = re.compile("[\u0400-\u052f]")
_WORD = re.compile(WORD)
# Reversed, only the letters of today's Slavic alphabets are wanted; the library would also offer Komi and Kurdish ones.
_SLAVIC = "АВЕКМНОРСТУХІЈаеорсухіј"
_INFLECTED = re.compile("[A-Za-z]{2,}[\u0400-\u04ff]+")


def find_homoglyphs(text: str) -> list[Edit]:
    """Return the edits that write each word that mixes look-alike scripts in the one script it is made of, in order.

    A word is rewritten only if every foreign letter in it has a look-alike. A word of a single script stays, whatever
    it looks like, unless the same text shows that it borrows that script's letters and has no honest word in it.
    """
    if text.isascii() or not _LENT.search(text):
        return []
    words = [match.span() for match in _WORD.finditer(text) if _LENT.search(match.group())]
    has_cyrillic = _has_honest_cyrillic(text, words)
    edits: list[Edit] = []
    borrowed = False
    for start, end in words:
        found = _rewrite(text, start, end, among_cyrillic=has_cyrillic)
        borrowed = borrowed or any(edit.replacement.isascii() for edit in found)
        edits += found
    if borrowed and not has_cyrillic:
        edits += [edit for start, end in words for edit in _rewrite_pure(text, start, end)]
    return sorted(edits)


@lru_cache(maxsize=1)
def _to_latin() -> dict[str, str]:
    """Return each letter of the lending alphabets with the one ASCII letter it looks like, in its own case.

    Imported on first use: the table is large and most texts never need it.
    """
    from confusable_homoglyphs.confusables import confusables_data

    table = {}
    for low, high in _LENDERS.values():
        for char in map(chr, range(low, high)):
            looks = [entry["c"] for entry in confusables_data.get(char, [])]
            letters = [look for look in looks if len(look) == 1 and look.isascii() and look.isalpha()]
            if letters:
                table[char] = "I" if letters[0] == "l" and char.isupper() else letters[0]
    return table


@lru_cache(maxsize=1)
def _to_cyrillic() -> dict[str, str]:
    """Return each ASCII letter with the letter of the Slavic alphabets that it looks like."""
    return {latin: char for char, latin in _to_latin().items() if char in _SLAVIC}


def _has_honest_cyrillic(text: str, words: list[tuple[int, int]]) -> bool:
    """Return whether some word in purely Cyrillic letters could not be read as a Latin one."""
    table = _to_latin()
    for start, end in words:
        letters = [char for char in text[start:end] if char.isalpha()]
        if all(_CYRILLIC.match(char) for char in letters) and not all(char in table for char in letters):
            return True
    return False


def _rewrite(text: str, start: int, end: int, *, among_cyrillic: bool) -> list[Edit]:
    """Return the edits that bring a mixed word to one script; none for a word that is not mixed or honestly so."""
    lent = [at for at in range(start, end) if _LENT.match(text[at])]
    latin = [at for at in range(start, end) if _LATIN.match(text[at])]
    if not latin or _is_honest(text[start:end], among_cyrillic=among_cyrillic):
        return []
    table = _to_latin()
    latin_first = len(latin) >= len(lent) or not all(_CYRILLIC.match(text[at]) for at in lent)
    if latin_first and all(text[at] in table for at in lent):
        return _edits(text, lent, table)
    if all(_CYRILLIC.match(text[at]) for at in lent):
        if all(text[at] in _to_cyrillic() for at in latin):
            return _edits(text, latin, _to_cyrillic())
        if all(text[at] in table for at in lent):
            return _edits(text, lent, table)
    return []


def _rewrite_pure(text: str, start: int, end: int) -> list[Edit]:
    """Return the edits of a word that has look-alikes of ASCII letters only."""
    letters = [at for at in range(start, end) if text[at].isalpha()]
    table = _to_latin()
    return _edits(text, letters, table) if all(text[at] in table for at in letters) else []


def _edits(text: str, places: list[int], table: dict[str, str]) -> list[Edit]:
    """Return the replacement of single letters by their look-alikes."""
    return [Edit(at, at + 1, table[text[at]], "homoglyph", True) for at in places]


def _is_honest(word: str, *, among_cyrillic: bool) -> bool:
    """Return whether a mixed word is one that people write: PDFа, IFNγ, Cα, a transcription."""
    lent = [char for char in word if _LENT.match(char)]
    latin = "".join(char for char in word if _LATIN.match(char))
    if all(_CYRILLIC.match(char) for char in lent):  # a Russian ending on a Latin name
        return _INFLECTED.fullmatch(word) is not None and (among_cyrillic or latin.isupper() and lent[0].islower())
    # A Greek or phonetic letter is a symbol in a short word, and beside letters of the other case.
    return len(word) < 4 or len(latin) < 3 or not latin.isascii() or lent[0].islower() != latin[-1].islower()
