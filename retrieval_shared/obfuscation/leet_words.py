"""Leet that the vocabulary can read: 4nd, 0f, 7h3, |n, in a text that is written in leet."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from retrieval_shared.obfuscation.edit import Edit
from retrieval_shared.obfuscation.vocabulary import is_word, vocabulary

# Every sign stands for one class of letters: 1 ! | are i or l. Words are looked up by their classes, so that a token
# costs one look-up however many readings it has.
_CLASSES = {"a": "4@", "b": "8", "e": "3€", "g": "69", "il": "1!|£", "o": "0", "s": "5$", "t": "7+", "y": "¥", "z": "2"}
_TO_CLASS = str.maketrans({char: letters[0] for letters, signs in _CLASSES.items() for char in letters + signs})
_TOKEN = re.compile(r"(?<![\w@#.&\\])[0-9@$€£¥!|+A-Za-z]+(?!\w)")
_LONGEST = 24  # characters: longer than any word of the vocabulary
_NUMBER = re.compile(r"(?!\+0$)[+@]?[$€£¥]*\d[\d|!+]*[$€£¥]*|[$€£¥+!]+|@")
_STROKES = "!|+"
_NO_MEASURE = re.compile("[013-9]nd|8y")  # ordinals end so after a 2 only
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
    stem = token.rstrip(_STROKES)  # a mark at the end ends a sentence, unless the word wants it
    if _NUMBER.fullmatch(token) or is_word(stem) or (stays(stem) and not _NO_MEASURE.fullmatch(stem)):
        return None
    return (known_word(stem) if stem != token else None) or known_word(token)


def _is_clitic(text: str, match: re.Match[str]) -> bool:
    """Return whether a token is the end of a word after its apostrophe: don'7, it'5, we'11."""
    before = text[max(0, match.start() - 2) : match.start()]
    return _CLITIC.fullmatch(match.group()) is not None and _AFTER_APOSTROPHE.fullmatch(before) is not None
