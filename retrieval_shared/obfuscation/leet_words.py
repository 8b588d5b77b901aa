"""Leet that the vocabulary can read: 4nd, 0f, 7h3, |n, in a text that is written in leet."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import product

from retrieval_shared.obfuscation.edit import Edit
from retrieval_shared.obfuscation.vocabulary import is_word, likeliest, plausibility, vocabulary

# Every sign stands for one class of letters: 1 ! | are i or l. Words are looked up by their classes, so that a token
# costs one look-up however many readings it has.
_CLASSES = {"a": "4@", "b": "8", "e": "3€", "g": "69", "il": "1!|£", "o": "0", "s": "5$", "t": "7+", "y": "¥", "z": "2"}
_TO_CLASS = str.maketrans({char: letters[0] for letters, signs in _CLASSES.items() for char in letters + signs})
_TOKEN = re.compile(r"(?<![\w@#.&\\])[0-9@$€£¥!|+A-Za-z]+(?!\w)")
_LONGEST = 24  # characters: longer than any word of the vocabulary
_NUMBER = re.compile(r"(?!\+0$)[+@]?[$€£¥]*\d[\d|!+]*[$€£¥]*|[$€£¥+!]+|@")
_READ_AS = {sign: letters[0] for letters, signs in _CLASSES.items() for sign in signs}
_STROKES = "1!|"
_TRIED_STROKES = 4  # strokes of a word that are tried as i and as l; the rules read further ones
_SIGNS = "".join(_READ_AS)
_SHORT_CODE = re.compile("[iI][57]|[wW]3|[uU]5")  # words of two letters that are codes elsewhere
_BEFORE_CHIP = re.compile(r"(?:core|intel|or|and)[ -]$", re.IGNORECASE)
_AFTER_CHIP = re.compile("[ -](?:[0-9]|(?:or|and) [a-z][0-9]|core|cpu|chip|gen|laptop|processor)", re.IGNORECASE)
_SIGN_WORDS = re.compile(r"[@!|]\+|[!|]\$")  # at, it, is
_RATING = re.compile(r"[A-Z]\+")
_CODED = re.compile(r"[A-Z]{2,}\d{2}|\d{3}|[^\W\d]\d\d$|^\w\|\w$")
_SHORTEST_GUESS = 3
_EDGE_COST = 2.0
"""By how much a letter at the edge of a word may be less likely, as a log probability, than the word without it."""
_MUCH_LIKELIER = 2.0
"""By how much the spelling of an English word must be likelier, as a log probability, to overrule the rules."""
_LEAST_LIKELY = -3.5
"""The mean log probability of a letter below which nothing is guessed; one known word in a hundred is below -2.9."""
_NO_MEASURE = re.compile(r"[013-9]nd|8y|0\d+[a-z]+|0n")  # ordinals end so after a 2; 0 begins no number
_CLITIC = re.compile("[7+]|[5$]|[r][3€]|v[3€]|[l1!|]{2}")
_AFTER_APOSTROPHE = re.compile(r"[\w$@€|!+]['’]")
_LONE = re.compile(r"(?<!\S)[4@](?= (\S{1,32}))")
# A number makes sense before what is counted, and after what is numbered.
_COUNTED = re.compile(
    "an?|and|am|as|at|bed|bedroom|by|children|day|door|feet|for|free|from|hour|hr|in|is|left|men|million|minute|month"
    "|more|new|of|off|on|or|out|people|per|piece|pm|point|star|to|week|women|x|year"
)
_NUMBERED = re.compile(
    "about|age|all|article|bay|block|bus|chapter|class|day|episode|floor|gate|grade|group|for|just|last|least|level"
    "|lot|more|next|no|number|only|over|page|part|past|phase|pier|platform|room|route|season|section|size|stage|step"
    "|than|the|top|type|under|unit|until|version|week|year"
)


def known_word(token: str) -> str | None:
    """Return the word of the vocabulary that a token with signs spells, None if there is none.

    The word has the token's length; its letters are the token's own, and capital where a sign stands among capitals.
    """
    words = [word for word in _by_class().get(token.lower().translate(_TO_CLASS), ()) if _fits(token.lower(), word)]
    if not words:
        return None
    upper = sum(char.isupper() for char in token) > 1
    return "".join(
        char if char.isalpha() else letter.upper() if upper else letter
        for char, letter in zip(token, words[0], strict=True)
    )


def find_known(text: str, spans: Iterable[tuple[int, int]], *, stays: Callable[[str], bool]) -> list[Edit]:
    """Return the edits of the tokens in `text[start:end]` of each span that spell a word, in order.

    Numbers and prices stay, and so does what `stays` tells to be a code or a measure.
    """
    edits: list[Edit] = []
    for start, end in spans:
        for token in _TOKEN.finditer(text, start, end):
            word = None if token.group().isalpha() else _read(text, token, stays)
            edits += [
                Edit(at, at + 1, letter, "leet", True)
                for at, letter in enumerate(word or "", start=token.start())
                if letter != text[at]
            ]
    return edits


def find_guessed(text: str, spans: Iterable[tuple[int, int]], *, stays: Callable[[str], bool]) -> list[Edit]:
    """Return the edits of the tokens in `text[start:end]` of each span that are spelt like English words, in order.

    Meant for a text that is full of leet: the words need not be of the vocabulary. What `stays` tells stays.
    """
    edits: list[Edit] = []
    for start, end in spans:
        for token in _TOKEN.finditer(text, start, end):
            word = None if stays(token.group()) else _guess(token.group())
            edits += [
                Edit(at, at + 1, letter, "leet", True)
                for at, letter in enumerate(word or "", start=token.start())
                if letter != text[at]
            ]
    return edits


def read_strokes(token: str, word: str) -> str:
    """Return a word, the reading of a token, with i or l wherever the token has one of the strokes 1 ! |.

    It is the word of the vocabulary, or a spelling much likelier in English, or else by rules that hold for most
    languages.
    """
    strokes = [at for at, char in enumerate(token) if char in _STROKES]
    if not strokes:
        return word
    letters = list(word)
    for at in strokes:
        letters[at] = _one(token[:at].lower(), token[at + 1 :].lower())
    ruled = "".join(letters)
    readings = []
    for chosen in product("il", repeat=len(strokes[:_TRIED_STROKES])):
        for at, letter in zip(strokes, chosen, strict=False):
            letters[at] = letter
        readings.append("".join(letters))
    best = likeliest(readings)
    return best if is_word(best) or plausibility(best) > plausibility(ruled) + _MUCH_LIKELIER else ruled


def _one(before: str, after: str) -> str:
    """Return what a stroke (1 ! |) between `before` and `after` stands for: i, or l where i reads badly."""
    vowels = "aeiou034@y"
    if not before:
        return "l" if after[:1] in vowels else "i"
    if before[-1] not in vowels:
        if after[:1] == "y" or (before[-1] in "bfgkp" and len(before) > 1 and after[:1] in {"e", "3"}):
            return "l"  # apply, table
        opens = len(before) == 1 and before in "bcfgkps" and after[:1] in vowels
        return "l" if opens and after else "i"
    if not after or after[0] in vowels:
        return "l"
    if len(before) == 1:
        return "l"
    return "i" if after[0] in "nl" or (before[-1] in "a4@" and after[0] in "rd") else "l"


def is_one_case(letters: list[str]) -> bool:
    """Return whether letters are all small, all capital, or small after a capital."""
    spelt = "".join(letters)
    return spelt.islower() or spelt.isupper() or spelt.istitle()


def find_articles(text: str) -> list[Edit]:
    """Return the edits of each `4` or `@` that stands alone for the article a: not before or after what is counted.

    Meant for a text whose other words have been read: what follows must be a word of the vocabulary.
    """
    edits: list[Edit] = []
    for sign in _LONE.finditer(text):
        after = sign[1].strip(".,;:!?()\"'").lower()
        if not is_word(after) or _COUNTED.fullmatch(after):
            continue
        plural = after.endswith("s") and not after.endswith(("ss", "us", "is"))
        before = text[max(0, sign.start() - 32) : sign.start()].lower().split()[-1:]
        if not plural and not any(map(_NUMBERED.fullmatch, before)):
            edits.append(Edit(sign.start(), sign.end(), "a", "leet", True))
    return edits


@lru_cache(maxsize=1)
def _by_class() -> dict[str, list[str]]:
    """Return the words of the vocabulary by what they look like when all letters that have a sign are one."""
    table: dict[str, list[str]] = {}
    for word in sorted(vocabulary()):
        table.setdefault(word.translate(_TO_CLASS), []).append(word)
    return table


def _fits(token: str, word: str) -> bool:
    """Return whether a word has the letters of a token where that has letters."""
    return all(char == letter or not char.isalpha() for char, letter in zip(token, word, strict=True))


def _read(text: str, match: re.Match[str], stays: Callable[[str], bool]) -> str | None:
    """Return the word, or the end of one after an apostrophe, that a token spells; None if it stays."""
    token = match.group()
    is_count = token.isdigit() and text[match.start() - 1 : match.start()] not in {"'", "’"}
    if is_count or len(token) > _LONGEST:
        return None
    if _is_clitic(text, match):
        return "".join("t" if char in "7+" else "s" if char in "5$" else "e" if char in "3€" else
                       "l" if char in "1!|" else char for char in token)  # fmt: skip
    stem = token.rstrip("!")  # a mark at the end ends a sentence, unless the word wants it
    if _SIGN_WORDS.fullmatch(token) or _is_short_word(text, match):
        return known_word(token)
    if _NUMBER.fullmatch(token) or is_word(stem) or (stays(stem) and not _NO_MEASURE.fullmatch(stem)):
        return None
    if _RATING.fullmatch(stem):
        return None
    return (known_word(stem) if stem != token else None) or known_word(token)


def _is_short_word(text: str, match: re.Match[str]) -> bool:
    """Return whether a letter and a digit are a word of two letters, not a chip: i5, w3."""
    if _SHORT_CODE.fullmatch(match.group()) is None or _AFTER_CHIP.match(text, match.end()):
        return False
    return _BEFORE_CHIP.search(text[max(0, match.start() - 8) : match.start()]) is None


def _guess(token: str) -> str | None:
    """Return what a token with signs spells if that could well be an English word, None otherwise."""
    stem = token.rstrip("!")
    letters = [char for char in stem if char.isalpha()]
    if len(stem) > _LONGEST or len(stem) < _SHORTEST_GUESS or not letters or stem.isalpha() or stem[0] == "@":
        return None
    if stem.isalnum() and len(letters) * 3 < len(stem) or _CODED.search(stem) or not is_one_case(letters):
        return None
    word = read_strokes(stem, "".join(_READ_AS.get(char, char) for char in stem))
    plain = stem.strip(_SIGNS)
    if plain.isalpha() and (is_word(plain) or plausibility(word) < plausibility(plain) - _EDGE_COST):
        return None  # a number or a mark beside a word
    if not word.isalpha() or plausibility(word) < _LEAST_LIKELY * (len(word) + 1):
        return None
    upper = sum(map(str.isupper, letters)) > 1
    return "".join(
        char if char.isalpha() else letter.upper() if upper else letter for char, letter in zip(stem, word, strict=True)
    )


def _is_clitic(text: str, match: re.Match[str]) -> bool:
    """Return whether a token is the end of a word after its apostrophe: don'7, it'5, we'11."""
    before = text[max(0, match.start() - 2) : match.start()]
    return _CLITIC.fullmatch(match.group()) is not None and _AFTER_APOSTROPHE.fullmatch(before) is not None
