"""Digits and signs in the place of letters: v1agra, c@sino, Ha$ch, б0ту."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from retrieval_shared.obfuscation.edit import Edit
from retrieval_shared.obfuscation.leet_words import (
    find_articles,
    find_guessed,
    find_known,
    is_one_case,
    known_word,
    read_strokes,
)

_SIGNS = "0-9@$€£₹¥"
_FURTHER_SIGNS = "!|+"
_MIXED = re.compile(rf"[^\W\d_][{_SIGNS}!]|[{_SIGNS}][^\W\d_]")
_CHUNK = re.compile(r"\S+")
_LINK = re.compile(
    r"://|[?&]\w+=|[\w-]\.[a-z]{2,3}/|\bwww\.|[\w.+-]@[\w-]+\.\w|[\w-]\.(?:com|net|org|info|io|co|me|ru|de|uk|id|ai|app|dev|gov|edu|tv|xyz|ly|gl)\b",
    re.IGNORECASE,
)
_HEX = re.compile(r"(?=[a-f]*\d)[0-9a-f]{6,}|0[xb][0-9a-f]+", re.IGNORECASE)
_POSTCODE = re.compile(r"[A-Z]{1,2}\d[A-Z\d]?\d[BDFGHJLNPQRSTWXYZ]{2}")
# Names and terms with a digit inside, which would pass for words: codecs, viruses, chips, consoles, classifieds.
_TERM = re.compile(
    r"(?:mp[34]|ps[345]|html5|css3|web[23]|ipv[46]|md5|sha1|utf8|h\dn\d|co2|buy\d|b1g1|top\d|windows\d|win\d\d?"
    r"|ios\d|hba1c|w3schools|4chan|ak47|ar15|covid\d|a\$ap|c3po|r2d2).*"
    r"|[a-z][1-9]|(?:w3c|s3d|y2k|h1b|t1d|a1c|cs50|p53|n95|k12|c4d|l4d2?|d3js)s?|[mwft]4[mwft]+",
    re.IGNORECASE,
)
# What follows a number that counts or measures: 4th, 5kg, 3bhk, 7days.
_MEASURE = re.compile(
    r"\d+(?:st|nd|rd|th|s|x|k|m|g|h|d|w|y|p|v|l|t|b|er|kg|mg|ml|cl|cm|mm|km|hrs?|am|pm|min|mins|secs?|yo|yrs?|in|ft|lbs?"
    r"|oz|gb|mb|tb|hz|ghz|pcs|pc|ct|pk|jt|rb|tl|kr|ème|[dw]?days?|weeks?|months?|years?|stars?|bhk|some|ever|way|pack"
    r"|chan|door|seater|in\d|on\d|for\d)",
    re.IGNORECASE,
)
_DIMENSION = re.compile(r"[A-Z]{2,}[2-5]D")  # TOTO4D: a game of four digits
_KNOWN = (_HEX, _POSTCODE, _TERM, _DIMENSION)
_NUMBER = re.compile(r"\d{3}|(\d)(?!\1)\d|[^\w\s]{4}")  # the only number that is a sound is a digit written twice
_GLUED = re.compile(
    r"(?:1st|2nd|3rd|[04-9]th|\d(?:mins?|hrs?|days?|weeks?|kg|mg|ml|km|am|pm|gbp|usd))\b", re.IGNORECASE
)
_AT_WORDS = re.compile("me|us|we|i|he|am|go|im|is|be|it|at|in|on|or|hi|up|my|so|if|no|an")
_HEAD = re.compile(r"^(?:\d{2,}(?!\d*[^\W\d_]*\d)|[$€£₹¥]+(?=\d)|[@!|+]+)+")
_TAIL = re.compile(r"(?:[!|+]+|\d{2,}|[2689]|[$€£₹¥]{3,}|[€£₹¥$]?\d+[€£₹¥$]|[€£₹¥$]\d+)+$")
_BANG = re.compile("(?i:[b-df-hj-np-tv-xz]{1,3})![a-z]{2,}")  # v!agra, sh!t; not wow!this
_LONGEST = 48  # characters: longer than any word, and reading letter by letter takes quadratic time
_STRONG_TOKENS = 2
"""A text with so many undoubted leet words is taken to be written in leet: doubtful ones are read so, too."""
_LIKELY_TOKENS = 3
"""So is a text with so many words that are undoubtedly leet or that the vocabulary reads."""


@dataclass(frozen=True)
class _Alphabet:
    """How one script is written in leet."""

    token: re.Pattern[str]
    vowels: frozenset[str]
    sounds: Mapping[str, str]
    """Sign -> letter, for the signs that alone make a word doubtful."""
    further: Mapping[str, str]
    """Sign -> letter, for signs that are read as letters only beside one of `sounds`, or in a text full of leet."""


_LATIN = _Alphabet(
    token=re.compile(rf"(?<![\w@#.&\\])[{_SIGNS}{_FURTHER_SIGNS}A-Za-z\u00c0-\u024f\u1e00-\u1eff]+"),
    vowels=frozenset("aeiouy"),
    sounds={"0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t", "@": "a", "$": "s"}
    | {"€": "e", "£": "l", "₹": "r", "¥": "y"},
    further={"8": "b", "9": "g", "6": "g", "!": "i", "|": "l", "+": "t"},
)
_CYRILLIC = _Alphabet(
    token=re.compile(r"(?<![\w@#.&\\])[0-9@\u0400-\u04ff]+"),
    vowels=frozenset("аеиоуыэюяіє"),
    sounds={"0": "о", "1": "и", "3": "з", "4": "ч", "6": "б", "@": "а"},
    further={},
)
_RUPEE = re.compile("(?<=[\u0900-\u097f])₹(?=[\u0900-\u097f])")


def find_leet(text: str) -> list[Edit]:
    """Return the edits that write leet words in letters, in order; links, codes, measures and names stay.

    A word is undoubtedly leet if signs stand among its letters and its reading looks like a word. Words with a sign
    at an edge (n0, 0rder), and short ones that only the vocabulary can tell (4nd, |n), are read as leet only in a
    text that has two undoubted ones, or three that are undoubted or in the vocabulary. Among three, too, what is only
    spelt like an English word is read.
    """
    if not _MIXED.search(text):
        return []
    strong: list[Edit] = []
    weak: list[Edit] = []
    words = likely = 0
    chunks = [chunk.span() for chunk in _CHUNK.finditer(text) if not _LINK.search(chunk.group())]
    for chunk in chunks:
        if not _MIXED.search(text, *chunk):
            continue
        for alphabet in (_LATIN, _CYRILLIC):
            for token in alphabet.token.finditer(text, *chunk):
                edits, certain = _read(token.group(), token.start(), alphabet)
                words += certain
                likely += not certain and _is_likely_word(token.group())
                (strong if certain else weak).extend(edits)
        strong += [Edit(sign.start(), sign.end(), "र", "leet", True) for sign in _RUPEE.finditer(text, *chunk)]
    if words < _STRONG_TOKENS and words + likely < _LIKELY_TOKENS:
        return sorted(strong)
    is_full = words + likely >= _LIKELY_TOKENS
    known = find_known(text, chunks, stays=_is_code)
    guessed = find_guessed(text, chunks, stays=_is_code) if is_full else []
    by_place = {edit.start: edit for edit in (*weak, *strong, *guessed, *known)}  # the vocabulary knows best
    if is_full:
        read = "".join(by_place[at].replacement if at in by_place else char for at, char in enumerate(text))
        by_place |= {edit.start: edit for edit in find_articles(read)}
    return sorted(by_place.values())


def _is_likely_word(token: str) -> bool:
    """Return whether a token with letters and signs is a word of the vocabulary, of three letters or more."""
    letters = [char for char in token if char.isalpha()]
    return 0 < len(letters) < len(token) and len(token) > 2 and not _is_code(token) and known_word(token) is not None


def _is_code(token: str) -> bool:
    """Return whether a token is a code, a name with a digit in it or a measure, whatever else it could spell."""
    return _MEASURE.fullmatch(token) is not None or any(known.fullmatch(token) for known in _KNOWN)


def _read(token: str, offset: int, alphabet: _Alphabet) -> tuple[list[Edit], bool]:
    """Return the edits that read a token as a leet word, and whether it undoubtedly is one; no edits if it is none."""
    if len(token) > _LONGEST or token[0] == "@":  # data, or a handle
        return [], False
    core = _core(token)
    shift = offset + token.index(core)
    letters = [char for char in core if char.isalpha()]
    signs = [at for at, char in enumerate(core) if not char.isalpha()]
    if not signs or len(letters) < 1 or not is_one_case(letters) or any(known.fullmatch(core) for known in _KNOWN):
        return [], False
    if any(core[at] not in alphabet.sounds and core[at] not in alphabet.further for at in signs):
        return [], False
    word = _spell(core, alphabet)
    if not _is_pronounceable(word, alphabet.vowels):
        return [], False
    certain = _is_certain(core, letters, alphabet)
    if not certain and not _is_likely(core, letters):
        return [], False
    return [Edit(shift + at, shift + at + 1, word[at], "leet", True) for at in signs], certain


def _core(token: str) -> str:
    """Return a token without the number, price or punctuation before or after its letters."""
    return _TAIL.sub("", _HEAD.sub("", token))


def _inside(core: str) -> list[int]:
    """Return where signs stand between letters."""
    places = [at for at, char in enumerate(core) if char.isalpha()]
    return [at for at in range(places[0], places[-1]) if not core[at].isalpha()]


def _is_certain(core: str, letters: list[str], alphabet: _Alphabet) -> bool:
    """Return whether a token cannot well be anything but a leet word."""
    inside = [at for at in _inside(core) if core[at] in alphabet.sounds]
    if not inside:
        return (
            _BANG.fullmatch(core) is not None
            or re.fullmatch(r"0[^\W\d_aeiouх]\w{3,}", core) is not None
            and core[1:].islower()
        )
    if _NUMBER.search(core) or sum(char in alphabet.further for char in core) > len(inside):
        return False
    if "@" in core and not _is_at_inside(core, alphabet):
        return False
    if "".join(letters).isupper():
        return len(letters) >= 4 or (len(inside) >= 2 and len(letters) >= 2) or not core.isalnum()
    if len(letters) == 2:
        return _is_short_word(core, alphabet) or core[-1] == "$"
    return len(inside) > 1 or _is_embedded(core, inside[0], alphabet.vowels)


def _is_at_inside(core: str, alphabet: _Alphabet) -> bool:
    """Return whether an at sign is a letter (c@sino), not a preposition (me@home) or a handle (d@user)."""
    before, _, after = core.lower().partition("@")
    if _AT_WORDS.fullmatch(before) or after[:1] in alphabet.vowels:
        return False
    return len(before) <= 2 or any(char in alphabet.sounds for char in before)


def _is_short_word(core: str, alphabet: _Alphabet) -> bool:
    """Return whether a sign between two letters makes a word of three: consonant, vowel, consonant."""
    if len(core) != 3 or core[0] in "xyzXYZ":
        return False
    first, middle, last = (alphabet.sounds.get(char, char).lower() in alphabet.vowels for char in core)
    return (first, middle, last) == (False, True, False)


def _is_embedded(core: str, at: int, vowels: frozenset[str]) -> bool:
    """Return whether a single sign among three letters or more is one of them, not a number between two words."""
    before, after = core[:at].lower(), core[at + 1 :].lower()
    has_words = all(len(part) >= 3 and not vowels.isdisjoint(part) for part in (before, after))
    if len(before) >= 3 and _GLUED.match(core, at):  # the4th, skips1min
        return False
    if core[at] in "14" and has_words:  # just4fun, kids4life
        return core[at] == "1" and before[-1] not in vowels
    if core[at] in "57":  # a consonant, which wants a vowel beside it
        return before[-1] in vowels or after[0] in vowels
    return True


def _is_likely(core: str, letters: list[str]) -> bool:
    """Return whether a token reads as a leet word in a text full of them."""
    if _MEASURE.fullmatch(core) or len(core) < 2 or len(letters) * 3 < len(core):
        return False
    if _inside(core):
        return True
    if core[0].isalpha():
        return core[-1] in "0347$€" and not core[-2:].isdigit()
    return len(letters) >= 2 and core[1].isalpha()


def _is_pronounceable(word: str, vowels: frozenset[str]) -> bool:
    """Return whether a word has a vowel, no five consonants in a row and no letter three times in a row."""
    plain = "".join(unicodedata.normalize("NFD", char)[0] for char in word.lower())
    sounds = "".join("v" if char in vowels else "c" for char in plain)
    return "v" in sounds and "ccccc" not in sounds and "vvvvv" not in sounds and not re.search(r"(.)\1\1", plain)


def _spell(core: str, alphabet: _Alphabet) -> str:
    """Return a token with every sign read as a letter, capital among capitals."""
    upper = sum(char.isupper() for char in core) > 1
    word = [alphabet.sounds.get(char) or alphabet.further.get(char) or char for char in core]
    if alphabet is _LATIN:
        word = list(read_strokes(core, "".join(word)))
    word = [letter.upper() if upper else letter for letter in word]
    return "".join(letter if char.isalpha() else spelt for char, letter, spelt in zip(core, core, word, strict=True))
