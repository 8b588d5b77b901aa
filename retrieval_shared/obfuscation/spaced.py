"""Letters pulled apart: V A P E S, t.o.b.a.c.c.o, b-e-t, cen.su.ra."""

from __future__ import annotations

import re
import unicodedata

from retrieval_shared.obfuscation.edit import LETTER, MARKS, Edit
from retrieval_shared.obfuscation.spaced_words import split_run
from retrieval_shared.obfuscation.vocabulary import is_word

_UNIT = rf"(?:{LETTER}|[0-9@$€])"
_END = rf"(?![\w{MARKS}]|['’]\w)"
_START = rf"(?<![\w{MARKS}'’])(?<!\w[^\w\s])"
_SPACED = re.compile(rf"{_START}{_UNIT}(?:(?: {{1,8}}-)? {{1,8}}{_UNIT}{_END}(?![^\w\s]\w)){{2,}}")
# What separates the members of a list, or is read aloud, does not hide a word.
_SEPARATOR = rf"(?P<gap>(?P<sign>_|[^\w\s{MARKS},/\\+=&:;|<>(){{}}\[\]'’\"“”?!%°・\ufe0f])(?:(?P=sign){{0,2}}|\ufe0f))"
_DOTTED = re.compile(rf"{_START}{_UNIT}{_SEPARATOR}{_UNIT}(?:(?P=gap){_UNIT}){{1,}}{_END}")
_PAIR = re.compile(rf"{_START}{LETTER}(?P<gap>[-_~*·]){LETTER}{_END}(?![^\w\s]\w)")
_FRAGMENT = rf"(?:{LETTER}){{2,3}}"
_FRAGMENTED = re.compile(rf"{_START}{_FRAGMENT}(?:[.·]{_FRAGMENT}){{2,}}{_END}(?!\.\w)")
_GAP = re.compile(r"[ -]+")
_STRANDED = re.compile(r" (?=[.,;:!?](?:\s|$))")
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
    spaces in a row of letters are wider than the others, they part words and one space stays. Beside a word that is
    undoubtedly pulled apart, short ones of the vocabulary (t-h-e, o u t) are closed up, too.
    """
    edits: list[Edit] = []
    doubtful: list[Edit] = []
    for run in _SPACED.finditer(text):
        found, certain = _join_spaced(text, *run.span())
        (edits if certain else doubtful).extend(found)
    for run in _DOTTED.finditer(text):
        certain = _is_dotted_word(run, text[run.end() : run.end() + 1])
        if certain or _is_known(run.group(), run["gap"]):
            (edits if certain else doubtful).extend(_removals(text, run.span(), re.compile(re.escape(run["gap"]))))
    for run in _FRAGMENTED.finditer(text):
        parts = set(_FRAGMENT_GAP.split(run.group().lower()))
        if run.group()[1:].islower() and len(parts) > 1 and not any(map(_WORDS.fullmatch, parts)):
            edits += _removals(text, run.span(), _FRAGMENT_GAP)
    if not edits:
        return []
    for run in _PAIR.finditer(text):
        if _is_known(run.group(), run["gap"]):
            doubtful += _removals(text, run.span(), re.compile(re.escape(run["gap"])))
    return sorted(edits + doubtful)


def _removals(text: str, span: tuple[int, int], gap: re.Pattern[str]) -> list[Edit]:
    """Return the removal of every gap inside a span."""
    return [Edit(match.start(), match.end(), "", "spaced", True) for match in gap.finditer(text, *span)]


def _join_spaced(text: str, start: int, end: int) -> tuple[list[Edit], bool]:
    """Return the edits that close up the letters of `text[start:end]`, which stand apart by spaces, and if surely."""
    letters = [char for char in text[start:end] if char.isalnum() or char in "@$€"]
    if len(letters) > 1 and letters[0].lower() != letters[0].upper() and _is_article(letters):
        start += 1 + len(_GAP.match(text, start + 1)[0])  # type: ignore[index]  # a gap follows every letter but the last
        letters = letters[1:]
    gaps = list(_GAP.finditer(text, start, end))
    breaks = _word_breaks(text[start:end], letters, gaps)
    words = _parts(letters, breaks)
    known = all(map(is_word, words)) and any(len(word) > 2 for word in words)
    certain = _spells(letters, at_least=4) and (_is_one_case("".join(letters)) or known and len(words) > 1)
    if not (certain or known) or _SYLLABIC.search("".join(letters)) or not all(map(_is_one_case, words)):
        return [], False
    edits: list[Edit] = []
    for at, gap in enumerate(gaps):
        if "-" in gap.group():
            edits += _removals(text, gap.span(), re.compile(" +"))
        elif at not in breaks:
            edits.append(Edit(gap.start(), gap.end(), "", "spaced", True))
        elif gap.end() - gap.start() > 1:
            edits.append(Edit(gap.start(), gap.end(), " "))
    if stranded := _STRANDED.match(text, end):  # the room left around the word
        edits.append(Edit(*stranded.span(), ""))
    return edits, certain


def _word_breaks(run: str, letters: list[str], gaps: list[re.Match[str]]) -> set[int]:
    """Return which gaps of a run part words: the wide ones, unless that leaves letters that are no words."""
    widths = [len(gap.group()) for gap in gaps]
    narrow = min((gap.group().count(" ") for gap in gaps if "-" not in gap.group()), default=0)
    wide = {at for at, width in enumerate(widths) if width > narrow and "-" not in gaps[at].group()}
    if not wide or "-" in run or not run.isascii() or len(letters) != len(gaps) + 1:
        return wide
    if all(len(word) > 1 or is_word(word) for word in _parts(letters, wide)):
        return wide
    return {begin - 1 for begin in split_run(letters, widths) if begin}


def _parts(letters: list[str], breaks: set[int]) -> list[str]:
    """Return the words of a run of letters; one ends at each letter with a break after it."""
    begins = [0, *(at + 1 for at in sorted(breaks))]
    return ["".join(letters[begin:end]) for begin, end in zip(begins, [*begins[1:], len(letters)], strict=True)]


def _is_known(run: str, gap: str) -> bool:
    """Return whether letters joined by a sign are a word of the vocabulary; capitals with full stops are initials."""
    word = run.replace(gap, "")
    return is_word(word) and _is_one_case(word) and (gap[0] != "." or word.islower())


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
