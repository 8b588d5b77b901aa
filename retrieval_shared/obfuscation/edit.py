"""One replacement in a text, and what all disguises mean by a word, a letter and a mark."""

from __future__ import annotations

import unicodedata
from typing import NamedTuple


class Edit(NamedTuple):
    """Replace `text[start:end]` by `replacement`.

    `kind` names the transform that is undone ("" for one that nobody needs to hear of, such as composing an accent).
    `disguise` is true where no honest writer would have written it so: only these count towards the score.
    """

    start: int
    end: int
    replacement: str
    kind: str = ""
    disguise: bool = False


def character_class(code_points: list[int]) -> str:
    """Return the inside of a regular expression's [...] that matches exactly these code points."""
    ranges: list[list[int]] = []
    for point in sorted(code_points):
        if ranges and point == ranges[-1][1] + 1:
            ranges[-1][1] = point
        else:
            ranges.append([point, point])
    return "".join(rf"\U{low:08x}-\U{high:08x}" for low, high in ranges)


# Combining marks live below U+1F000 and in the variation selectors of plane 14, which have no width and are left out.
_MARK_POINTS = [point for point in range(0x300, 0x1F000) if unicodedata.category(chr(point)) in {"Mn", "Mc", "Me"}]
_MARK_POINTS = [point for point in _MARK_POINTS if not 0xFE00 <= point <= 0xFE0F]

MARKS = character_class(_MARK_POINTS)
"""The inside of a class of combining marks: Python's `\\w` leaves them out, and with them every Indic vowel sign."""

STACKING = character_class([point for point in _MARK_POINTS if unicodedata.combining(chr(point))])
"""The inside of a class of marks with a combining class: those that pile up on a letter without limit."""

LETTER = rf"[^\W\d_][{MARKS}]*"
"""One letter with its marks."""

WORD = rf"(?:[^\W_][{MARKS}]*)+"
"""One word: letters and digits of any script with their marks."""


def is_wordy(char: str) -> bool:
    """Return whether a character (or "" at the text's edge) can be part of a word: a letter, a mark or a digit."""
    return char != "" and unicodedata.category(char)[0] in "LMN"
