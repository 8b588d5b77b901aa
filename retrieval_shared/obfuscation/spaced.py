"""Letters pulled apart: V A P E S, t.o.b.a.c.c.o, b-e-t, cen.su.ra."""

from __future__ import annotations

import re
import unicodedata

from retrieval_shared.obfuscation.edit import LETTER, MARKS, Edit

_UNIT = rf"(?:{LETTER}|[0-9@$€])"
_END = rf"(?![\w{MARKS}'’])"
_START = rf"(?<![\w{MARKS}'’])(?<!\w[^\w\s])"
_SPACED = re.compile(rf"{_START}{_UNIT}(?:(?: {{1,8}}-)? {{1,8}}{_UNIT}{_END}(?![^\w\s]\w)){{2,}}")
# What separates the members of a list, or is read aloud, does not hide a word.
_SEPARATOR = rf"(?P<gap>(?P<sign>_|[^\w\s{MARKS},/\\+=&:;|<>(){{}}\[\]'’\"“”?!%°・\ufe0f])(?:(?P=sign){{0,2}}|\ufe0f))"
_DOTTED = re.compile(rf"{_START}{_UNIT}{_SEPARATOR}{_UNIT}(?:(?P=gap){_UNIT}){{1,}}{_END}")
_FRAGMENT = rf"(?:{LETTER}){{2,3}}"
_FRAGMENTED = re.compile(rf"{_START}{_FRAGMENT}(?:[.·]{_FRAGMENT}){{2,}}{_END}(?!\.\w)")
_GAP = re.compile(r"[ -]+")
_FRAGMENT_GAP = re.compile("[.·]")

_VOWELS = frozenset("aeiouyаеиоуыэюяіїєαεηιουω013@€")
_LATIN_OR_CYRILLIC = re.compile("[A-Za-z\u00c0-\u024f\u0400-\u04ff]")
_SYLLABARY = re.compile("[\u3040-\u30ff\uac00-\ud7af\u3131-\u318e]")
# Scripts where one letter with its marks is a word as often as not.
_SYLLABIC = re.compile("[\uac00-\ud7af\u0900-\u0dff\u1000-\u109f\u1780-\u17ff]")
# Short words that people do join by full stops for emphasis (oh.my.god), and the parts of host names.
_WORDS = re.compile(
    "ai|all|and|any|are|as|at|be|but|by|can|co|com|de|di|do|edu|en|for|get|go|god|gov|had|has|he|her|him|his"
    "|how|if|in|io|is|it|its|js|la|le|let|lol|me|my|net|new|no|not|now|of|off|oh|ok|omg|on|one|or|org|our|out"
    "|put|py|so|the|to|too|uk|up|us|via|was|we|who|why|win|wtf|www|yes|you"
)


def find_spaced(text: str) -> list[Edit]:
    """Return the removals of what stands between the letters of words pulled apart, in order.

    Left alone: lists (A B C D), initials (J. R. R.), acronyms (U.S.A., N.A.S.A), one letter repeated. Where some
    spaces in a row of letters are wider than the others, they part words and one space stays.
    """
    edits: list[Edit] = []
    for run in _SPACED.finditer(text):
        edits += _join_spaced(text, *run.span())
    for run in _DOTTED.finditer(text):
        if _is_dotted_word(run, text[run.end() : run.end() + 1]):
            gap = run["gap"]
            edits += _removals(text, run.span(), re.compile(re.escape(gap)))
    for run in _FRAGMENTED.finditer(text):
        parts = set(_FRAGMENT_GAP.split(run.group().lower()))
        if run.group()[1:].islower() and len(parts) > 1 and not any(map(_WORDS.fullmatch, parts)):
            edits += _removals(text, run.span(), _FRAGMENT_GAP)
    return sorted(edits)


def _removals(text: str, span: tuple[int, int], gap: re.Pattern[str]) -> list[Edit]:
    """Return the removal of every gap inside a span."""
    return [Edit(match.start(), match.end(), "", "spaced", True) for match in gap.finditer(text, *span)]


def _join_spaced(text: str, start: int, end: int) -> list[Edit]:
    """Return the edits that close up the letters of `text[start:end]`, which stand apart by spaces."""
    letters = [char for char in text[start:end] if char.isalnum() or char in "@$€"]
    if len(letters) > 1 and letters[0].lower() != letters[0].upper() and _is_article(letters):
        start += 1 + len(_GAP.match(text, start + 1)[0])  # type: ignore[index]  # a gap follows every letter but the last
        letters = letters[1:]
    word = "".join(letters)
    if not _spells(letters, at_least=4) or not _is_one_case(word) or _SYLLABIC.search(word):
        return []
    gaps = list(_GAP.finditer(text, start, end))
    narrow = min(gap.group().count(" ") for gap in gaps if "-" not in gap.group())
    edits: list[Edit] = []
    for gap in gaps:
        if "-" in gap.group():
            edits += _removals(text, gap.span(), re.compile(" +"))
        elif gap.end() - gap.start() > narrow:
            edits.append(Edit(gap.start(), gap.end(), " "))
        else:
            edits.append(Edit(gap.start(), gap.end(), "", "spaced", True))
    return edits


def _is_one_case(word: str) -> bool:
    """Return whether a word is all small, all capital, or small after a capital; signs and digits have no case."""
    return word in {word.lower(), word.upper()} or word[1:] == word[1:].lower()


def _is_article(letters: list[str]) -> bool:
    """Return whether the first letter is a word of its own before capitals: a V A P E."""
    return letters[0].islower() and all(not letter.islower() for letter in letters[1:])


def _is_dotted_word(run: re.Match[str], following: str) -> bool:
    """Return whether letters joined by one repeated sign spell a word, not an abbreviation or a list."""
    sign = run["sign"]
    letters = [char for char in run.group() if char.isalnum() or (char in "$€" and char != sign)]
    if sign == ".":
        stopped = following == "."
        if all(letter.isupper() for letter in letters if letter.isalpha()):
            return _spells(letters, at_least=7 if stopped else 5)
        return _spells(letters, at_least=6 if stopped else 3)
    return _spells(letters, at_least=3, loosely=sign in "_~·")  # nobody writes initials or sums with these


def _spells(letters: list[str], *, at_least: int, loosely: bool = False) -> bool:
    """Return whether single letters read as one word of at least so many letters.

    Three letters are a word only as consonant, vowel, consonant, unless read `loosely`, or in a syllabary.
    """
    alphabetic = [letter.lower()[0] for letter in letters if letter.isalpha()]  # İ in lower case is two characters
    word = "".join(letters).lower()
    if len(set(alphabetic)) < 2 or _is_sequence(alphabetic):
        return False
    if _SYLLABARY.match(alphabetic[0]):
        return len(alphabetic) >= min(at_least, 3)
    if not _LATIN_OR_CYRILLIC.search(word):
        return len(alphabetic) >= max(at_least, 4)
    vowels = [_is_vowel(char) for char in word]
    if len(word) == 3:
        return (
            at_least <= 3
            and len(alphabetic) == 3
            and (any(vowels) and not all(vowels) if loosely else vowels == [False, True, False])
        )
    return len(word) >= at_least and len(alphabetic) * 2 >= len(word) and len(alphabetic) >= 3 and any(vowels)


def _is_vowel(char: str) -> bool:
    """Return whether a letter, without its accent, is a vowel, or a digit or sign one that stands in for a vowel."""
    return unicodedata.normalize("NFD", char)[0] in _VOWELS


def _is_sequence(letters: list[str]) -> bool:
    """Return whether letters are labels: neighbours in the alphabet, or from A on in order with small steps."""
    steps = [ord(right) - ord(left) for left, right in zip(letters, letters[1:], strict=False)]
    return all(step == 1 for step in steps) or (letters[0] in "aаα" and all(0 < step <= 6 for step in steps))
