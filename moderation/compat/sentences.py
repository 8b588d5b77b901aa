"""Sentences of a text in any script, for scores per sentence.

A small part of the sentence rules of UAX #29 (Unicode Text Segmentation), without its tables. Departures: a line break
always ends a sentence; a full stop after a title (`Dr.`) or a single capital (`J.`) does not; what holds no letter or
digit belongs to the sentence before it. Thai and Lao put no mark at a sentence's end: there, only a line break does.
"""

from __future__ import annotations

import re

MAX_SENTENCES = 64
"""Each is scored, so a text of full stops must not cost a thousand passes; above it neighbours are joined."""
_TITLES = frozenset({"dr", "mr", "mrs", "ms", "prof", "st"})
_CLOSERS = r"[\"'”’»›)\]）」』】]*+"
_MARKS = "[!?.…‼⁇⁈⁉]"
# Marks of scripts that write numbers and addresses with them end a sentence only before a space; the others always.
# A run of marks is looked at from its first alone: from each of them, it would be read as often as it is long.
_END = re.compile(rf"(?<!{_MARKS}){_MARKS}++{_CLOSERS}(?=\s|\Z)|[。！？．｡؟۔।॥։።፧။។៕]++{_CLOSERS}|[\n\r\u2028\u2029]++")
_LAST_WORD = re.compile(r"([^\W\d_]+)\.\Z")
_NEXT = re.compile(r" *+([^ ])", re.DOTALL)
_WORD_CHARACTER = re.compile(r"[^\W_]")


def split_sentences(text: str) -> tuple[tuple[int, int], ...]:
    """Return the sentences of a text as pairs (first code point, one past the last), in order.

    They do not overlap, begin and end with a visible character, leave out nothing but white space, and are at most
    `MAX_SENTENCES`; a blank text has none.

    >>> split_sentences("What kind of idiot name is foo? Sorry, I like your name.")
    ((0, 31), (32, 56))
    """
    spans: list[tuple[int, int]] = []
    start = 0
    for end in [*_ends(text), len(text)]:
        piece = text[start:end]
        if stripped := piece.strip():
            first = start + piece.index(stripped[0])
            last = first + len(stripped)
            if spans and not (_WORD_CHARACTER.search(stripped) and _WORD_CHARACTER.search(text, *spans[-1])):
                spans[-1] = (spans[-1][0], last)
            else:
                spans.append((first, last))
        start = end
    return _at_most(spans, MAX_SENTENCES)


def _ends(text: str) -> list[int]:
    """Return where sentences end, each one past the mark."""
    return [match.end() for match in _END.finditer(text) if not _goes_on(text, match)]


def _goes_on(text: str, mark: re.Match[str]) -> bool:
    """Return whether the sentence goes on after a full stop."""
    if mark.group() != ".":
        return False
    following = _NEXT.match(text, mark.end())
    if following is not None and following.group(1).islower():
        return True
    word = _LAST_WORD.search(text, max(0, mark.end() - 8), mark.end())
    if word is None:
        return False
    return word.group(1).lower() in _TITLES or (len(word.group(1)) == 1 and word.group(1).isupper())


def _at_most(spans: list[tuple[int, int]], limit: int) -> tuple[tuple[int, int], ...]:
    """Return the spans, neighbours joined evenly where there are more than `limit`."""
    size = -(-len(spans) // limit) or 1
    return tuple((spans[i][0], spans[min(i + size, len(spans)) - 1][1]) for i in range(0, len(spans), size))
