"""Letters of another script that look alike: Cyrillic ones in a Latin word, Latin ones in a Cyrillic word."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from functools import lru_cache
from itertools import product

from retrieval_shared.obfuscation.edit import WORD, Edit, character_class
from retrieval_shared.obfuscation.vocabulary import is_word, likeliest

# Alphabets that lend their letters to a disguise. Ideographs, kana, Hangul, Arabic and the Indic scripts stand beside
# Latin letters in honest words and are never taken for them.
_LENDERS = {
    "CYRILLIC": (0x0400, 0x0530), "GREEK": (0x0370, 0x0400), "ARMENIAN": (0x0530, 0x0590),
    "CHEROKEE": (0x13A0, 0x1400), "COPTIC": (0x2C80, 0x2D00), "LISU": (0xA4D0, 0xA500),
    "CANADIAN_ABORIGINAL": (0x1400, 0x1680), "IPA": (0x0250, 0x02B0),
    "PHONETIC": (0x1D00, 0x1D2C), "SMALL": (0xA730, 0xA732), "TONE": (0x0184, 0x0186),
    "SCRIPT_A": (0x2C6D, 0x2C6E), "SCRIPT_G": (0xA7AC, 0xA7AD),
}  # fmt: skip
_LENT = re.compile(f"[{character_class([point for span in _LENDERS.values() for point in range(*span)])}]")
_LATIN = re.compile("[A-Za-z\u00aa\u00ba\u00c0-\u0183\u0186-\u024f\u1e00-\u1eff]")
_LETTER = re.compile("[A-Za-z]")
_CYRILLIC = re.compile("[\u0400-\u052f]")
_IN_USE = re.compile("[\u0400-\u045f\u0490-\u04ff]")  # without the historic letters and those of Komi and Kurdish
_WORD = re.compile(WORD)
_APOSTROPHE = re.compile(r"\w['’]")
# Reversed, only the letters of today's Slavic alphabets are wanted; the library would also offer Komi and Kurdish ones.
_SLAVIC = "АВЕКМНОРСТУХІЈаеорсухіј"
_NEVER_SYMBOLS = frozenset("οιυΑΒΕΖΗΙΚΜΝΟΡΤΥΧƄƅ\u2c6d\ua7ac")  # those that in a formula would pass for Latin ones
_SMALL_CAPITAL = re.compile("LATIN LETTER SMALL CAPITAL ([A-Z])")
# Enough to read on in a text that borrows letters, not to tell a disguise. Σ was a capital lunate sigma.
_ROUGHLY = {"п": "n", "π": "n", "η": "n", "ь": "b", "β": "b", "ε": "e", "є": "e", "ω": "w", "ш": "w", "Σ": "C"}
# Capitals that the vocabulary may read as what their small letter looks like. A palochka looks like both letters.
_SECOND = {"Ӏ": "L", "Ν": "V", "Υ": "U", "Η": "N"}
_AMBIGUOUS = 3  # letters of a word that are tried in both readings; the rest are read in the first
_MIXED_WORDS = 2
"""A mostly Latin text with so many mixed words, short ones among them, borrows letters; so does one with a long one."""
_FORMULA = re.compile("(?:sin|cos|tan|cot|log|exp)[\u03b1-\u03c9]")
_INFLECTED = re.compile("[A-Za-z]{2,}[\u0400-\u04ff]+")


def find_homoglyphs(text: str) -> list[Edit]:
    """Return the edits that write each word that mixes look-alike scripts in the one script it is made of, in order.

    A word is rewritten only if every foreign letter in it has a look-alike. A word of a single script stays, whatever
    it looks like, unless the same text shows that it borrows that script's letters and has no honest word in it. In
    a mostly Latin text that borrows letters, what reads as a word of the vocabulary is that word, and a mixed word is
    read by a rough likeness, too.
    """
    if text.isascii() or not _LENT.search(text):
        return []
    words = [match.span() for match in _WORD.finditer(text) if _LENT.search(match.group())]
    known = _read_known(text, words)
    has_cyrillic = _has_honest_cyrillic(text, [span for span in words if span not in known])
    edits = {span: _rewrite(text, *span, among_cyrillic=has_cyrillic) for span in words}
    borrowed = {span for span, found in edits.items() if any(edit.replacement.isascii() for edit in found)}
    mixed = borrowed | {span for span in known if span[1] - span[0] > 2 and _is_mixed(text[slice(*span)])}
    if borrowed or len(mixed) >= _MIXED_WORDS:
        edits |= known
    if borrowed and not has_cyrillic:
        edits |= {span: _rewrite_pure(text, span) for span in words if not edits[span]}
    roughly = _rewrite_roughly(text, words, known)
    edits |= {span: found for span, found in roughly.items() if not (has_cyrillic and edits[span])}
    return sorted(edit for found in edits.values() for edit in found)


@lru_cache(maxsize=1)
def _twins() -> dict[str, str]:
    """Return each letter of the lending alphabets with the one ASCII letter it looks like, in its own case.

    Imported on first use: the table is large and most texts never need it.
    """
    from confusable_homoglyphs.confusables import confusables_data

    table = {}
    for char in _lendable():
        looks = [entry["c"] for entry in confusables_data.get(char, [])]
        letters = [look for look in looks if len(look) == 1 and look.isascii() and look.isalpha()]
        if letters:
            table[char] = "I" if letters[0] == "l" and char.isupper() else letters[0]
    # The library takes the palochka for an i without its dot; the lunate sigma has been folded to a final one.
    return table | {"ӏ": "l", "ς": "c", "Ƅ": "b", "ƅ": "b", "\u2c6d": "A", "\ua7ac": "G"}


@lru_cache(maxsize=1)
def _lookalikes() -> dict[str, str]:
    """Return `_twins` and the letters that look like a small capital: в к м н т are ʙ ᴋ ᴍ ʜ ᴛ, too."""
    from confusable_homoglyphs.confusables import confusables_data

    capitals = {}
    for char in _lendable():
        if name := _SMALL_CAPITAL.fullmatch(unicodedata.name(char, "")):
            capitals[char] = name[1].lower()
            capitals |= {entry["c"]: name[1].lower() for entry in confusables_data.get(char, [])}
    table = {char: letter for char, letter in capitals.items() if _LENT.fullmatch(char)}
    for char in _lendable():
        looks = [capitals[entry["c"]] for entry in confusables_data.get(char, []) if entry["c"] in capitals]
        if looks:
            table[char] = looks[0]
    return table | _twins()


@lru_cache(maxsize=1)
def _rough_twins() -> dict[str, str]:
    """Return `_lookalikes` and `_ROUGHLY`, and capitals that look like nothing but whose small letter does."""
    table = _lookalikes() | _ROUGHLY
    capitals = {char.upper(): letter.upper() for char, letter in table.items() if len(char.upper()) == 1}
    return capitals | table


@lru_cache(maxsize=1)
def _to_cyrillic() -> dict[str, str]:
    """Return each ASCII letter with the letter of the Slavic alphabets that it looks like."""
    return {latin: char for char, latin in _twins().items() if char in _SLAVIC}


def _read_known(text: str, words: list[tuple[int, int]]) -> dict[tuple[int, int], list[Edit]]:
    """Return the edits of each word that reads as one of the vocabulary, by its span; none in a text not mostly Latin.

    Beside a word in purely Cyrillic letters that reads as nothing, only mixed words are read.
    """
    if not _is_mostly_latin(text):
        return {}
    table = _rough_twins()
    known = {}
    for start, end in words:
        edits = _edits(text, (start, end), table)
        if is_word(_written(text, (start, end), edits)):
            known[start, end] = edits
    if _has_honest_cyrillic(text, [span for span in words if span not in known]):
        return {span: found for span, found in known.items() if _is_mixed(text[slice(*span)])}
    return known


def _is_mostly_latin(text: str) -> bool:
    """Return whether a text has as many letters of ASCII as of the lending alphabets."""
    return len(_LENT.findall(text)) <= len(_LETTER.findall(text))


def _written(text: str, span: tuple[int, int], edits: list[Edit]) -> str:
    """Return a word with its edits applied."""
    letters = list(text[slice(*span)])
    for edit in edits:
        letters[edit.start - span[0]] = edit.replacement
    return "".join(letters)


def _is_mixed(word: str) -> bool:
    """Return whether a word has letters of more than one alphabet."""
    return len({_lender(char) if _LENT.match(char) else "" for char in word}) > 1


def _is_honestly_mixed(word: str) -> bool:
    """Return whether letters of one foreign alphabet stand beside Latin ones, or digits, as people write them."""
    lenders = {_lender(char) for char in word if _LENT.match(char)}
    return len(lenders) == 1 and _is_honest(word, among_cyrillic=True)


def _is_long(text: str, span: tuple[int, int]) -> bool:
    """Return whether a word has two letters or digits, or is the one letter after an apostrophe."""
    start, end = span
    return end - start > 1 or _APOSTROPHE.match(text, max(0, start - 2)) is not None


def _lendable() -> list[str]:
    """Return the letters of the lending alphabets."""
    return [chr(point) for low, high in _LENDERS.values() for point in range(low, high)]


def _has_honest_cyrillic(text: str, words: list[tuple[int, int]]) -> bool:
    """Return whether some word in purely Cyrillic letters could not be read as a Latin one."""
    table = _twins()
    for start, end in words:
        letters = [char for char in text[start:end] if char.isalpha()]
        if all(_IN_USE.match(char) for char in letters) and not all(char in table for char in letters):
            return True
    return False


def _rewrite(text: str, start: int, end: int, *, among_cyrillic: bool) -> list[Edit]:
    """Return the edits that bring a mixed word to one script; none for a word that is not mixed or honestly so."""
    lent = [at for at in range(start, end) if _LENT.match(text[at])]
    latin = [at for at in range(start, end) if _LATIN.match(text[at])]
    lenders = {_lender(text[at]) for at in lent}
    if len(lenders) == 1 and (not latin or _is_honest(text[start:end], among_cyrillic=among_cyrillic)):
        return []
    table = _twins() if among_cyrillic else _lookalikes()
    cyrillic = lenders == {"CYRILLIC"}
    if all(text[at] in table for at in lent) and (len(latin) >= len(lent) or not cyrillic):
        return _edits(text, (start, end), table)
    if cyrillic and all(text[at] in _to_cyrillic() for at in latin):
        return _edits(text, (start, end), _to_cyrillic())
    return _edits(text, (start, end), table) if cyrillic and all(text[at] in table for at in lent) else []


def _lender(char: str) -> str:
    """Return the alphabet of a lent letter."""
    return next(name for name, (low, high) in _LENDERS.items() if low <= ord(char) < high)


def _rewrite_pure(text: str, span: tuple[int, int]) -> list[Edit]:
    """Return the edits of a word that has look-alikes of ASCII letters only."""
    return _edits(text, span, _twins()) if _is_readable(text[slice(*span)], _twins()) else []


def _is_readable(word: str, table: dict[str, str]) -> bool:
    """Return whether every letter of a word is in the table or of ASCII."""
    return all(char in table or not char.isalpha() or char.isascii() for char in word)


def _rewrite_roughly(
    text: str, words: list[tuple[int, int]], known: Collection[tuple[int, int]]
) -> dict[tuple[int, int], list[Edit]]:
    """Return the edits of the words that a rough likeness reads, by their span; none among too many honest words.

    Mixed words are read if they are two, and as many as the words that can only be honest. Words of one foreign
    alphabet are read, too, if they are half as many at most.
    """
    if not _is_mostly_latin(text):
        return {}
    table = _rough_twins()
    readable = [span for span in words if _is_readable(text[slice(*span)], table)]
    mixed = [span for span in readable if _is_mixed(text[slice(*span)]) and not _is_honestly_mixed(text[slice(*span)])]
    if len(mixed) < _MIXED_WORDS or len(words) - len(readable) > len(mixed):
        return {}
    pure = [span for span in readable if not _is_mixed(text[slice(*span)]) and _is_long(text, span)]
    unknown = [span for span in pure if span not in known]
    borrowed = mixed + unknown if len(readable) == len(words) and 2 * len(unknown) <= len(mixed) else mixed
    return {span: _edits(text, span, table) for span in borrowed}


def _edits(text: str, span: tuple[int, int], table: dict[str, str]) -> list[Edit]:
    """Return the replacement of a word's letters that are in the table; of two readings the likelier one."""
    start, end = span
    places = [at for at in range(start, end) if text[at] in table]
    letters = [table.get(char, char) for char in text[start:end]]
    unsure = [at for at in places if text[at] in _SECOND and table[text[at]].isascii()][:_AMBIGUOUS]
    readings = []
    for chosen in product(*((table[text[at]], _SECOND[text[at]]) for at in unsure)):
        for at, letter in zip(unsure, chosen, strict=True):
            letters[at - start] = letter
        readings.append("".join(letters))
    is_open = "Ӏ" in text[start:end] or not is_word(readings[0]) and any(map(is_word, readings))
    written = likeliest(readings) if is_open else readings[0]
    return [Edit(at, at + 1, written[at - start], "homoglyph", True) for at in places]


def _is_honest(word: str, *, among_cyrillic: bool) -> bool:
    """Return whether a mixed word is one that people write: PDFа, IFNγ, Cα, cosα, a transcription."""
    lent = [char for char in word if _LENT.match(char)]
    latin = "".join(char for char in word if _LATIN.match(char))
    if all(_CYRILLIC.match(char) for char in lent):  # a Russian ending on a Latin name
        return _INFLECTED.fullmatch(word) is not None and (among_cyrillic or latin.isupper() and lent[0].islower())
    if not set(lent) - _NEVER_SYMBOLS:
        return len(latin) < 2
    # Any other Greek or phonetic letter is a symbol in a short word, and beside letters of the other case.
    return (
        len(word) < 4
        or _FORMULA.fullmatch(word) is not None
        or len(latin) < 3
        or not latin.isascii()
        or all(char.islower() != latin[-1].islower() for char in lent)
    )
