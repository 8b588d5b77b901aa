"""The text that is scored: in canonical form, with the way back to the original, and how disguised it was."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from retrieval_shared.obfuscation.compatibility import find_compatible, find_styled
from retrieval_shared.obfuscation.edit import WORD, Edit
from retrieval_shared.obfuscation.homoglyph import find_homoglyphs
from retrieval_shared.obfuscation.invisible import find_decoration, find_invisible
from retrieval_shared.obfuscation.leet import find_leet
from retrieval_shared.obfuscation.spaced import find_spaced

TRANSFORMS = ("zero_width", "bidi", "homoglyph", "leet", "spaced", "compatibility")
"""The names of what can be undone, in the order in which they are told."""

FIELD_ORDER = ("title", "body", "cta", "landing_text", "text")
"""The known fields of an item, in the order in which they are read; any others follow by name."""

# What hides a letter goes first, so that the next finder sees it. Disguises can be stacked, so the row is run again
# until nothing changes; nobody reads a word under three layers, and the bound keeps the time linear.
_FINDERS: tuple[Callable[[str], list[Edit]], ...] = (
    find_invisible, find_styled, find_compatible, find_decoration, find_spaced, find_homoglyphs, find_leet,
)  # fmt: skip
_ROUNDS = 4
_SATURATION = 0.5  # with half of its letters in disguise a text has score 1
_WORD = re.compile(WORD)


@dataclass(frozen=True)
class Obfuscation:
    """How heavily a text was disguised.

    `score` is in [0, 1]: twice the share of the characters in words that stood in a disguised word, 1 at most. 0 is
    plain text, also where compatibility forms were folded or invisible characters removed that hid nothing.
    `transforms` names all that was undone, harmless or not, out of `TRANSFORMS`.
    """

    score: float = 0.0
    transforms: tuple[str, ...] = ()


@dataclass(frozen=True)
class NormalisedText:
    """A text in canonical form; canonical character i came from `original[starts[i]:ends[i]]` (code points).

    `starts` and `ends` never decrease. Characters that were written as one share their span.
    """

    original: str
    canonical: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    obfuscation: Obfuscation

    def original_span(self, start: int, end: int) -> tuple[int, int]:
        """Return the span of `original` that `canonical[start:end]` came from, with all that was removed inside it.

        An empty span gives an empty one. Raises ValueError unless 0 <= start <= end <= len(canonical).
        """
        length = len(self.canonical)
        if not 0 <= start <= end <= length:
            raise ValueError(f"span must satisfy 0 <= start <= end <= {length}, found start={start}, end={end}")
        if start == end:
            at = self.starts[start] if start < length else len(self.original)
            return at, at
        return self.starts[start], self.ends[end - 1]


@dataclass(frozen=True)
class FieldSpan:
    """Where a field stands in a joined text: `text[start:end]` is the field."""

    name: str
    start: int
    end: int


@dataclass(frozen=True)
class FieldText:
    """The fields of an item as one text."""

    text: str
    fields: tuple[FieldSpan, ...]

    def locate(self, start: int, end: int) -> tuple[str, int, int]:
        """Return the field that `text[start:end]` lies in, and the span relative to that field.

        A span over several fields is cut to the one that holds most of it, the first of equals.
        Raises ValueError unless 0 <= start <= end <= len(text) and there is a field.
        """
        if not self.fields or not 0 <= start <= end <= len(self.text):
            raise ValueError(
                f"span must satisfy 0 <= start <= end <= {len(self.text)} in a text with fields,"
                f" found start={start}, end={end}, fields={[field.name for field in self.fields]}"
            )
        field = max(self.fields, key=lambda field: min(end, field.end) - max(start, field.start))
        inside = [min(max(at, field.start), field.end) - field.start for at in (start, end)]
        return field.name, inside[0], inside[1]


def join_fields(fields: Mapping[str, str]) -> FieldText:
    """Return the fields joined by line breaks: the known ones in `FIELD_ORDER`, then all others by name."""
    names = [name for name in FIELD_ORDER if name in fields]
    names += sorted(fields.keys() - set(FIELD_ORDER))
    spans, at = [], 0
    for name in names:
        spans.append(FieldSpan(name, at, at + len(fields[name])))
        at += len(fields[name]) + 1
    return FieldText("\n".join(fields[name] for name in names), tuple(spans))


def normalise(text: str) -> NormalisedText:
    """Return a text in canonical form with its alignment, in time linear in its length.

    Takes any str and never raises. The canonical form of a canonical text is itself; its lone surrogates are U+FFFD.

    >>> found = normalise("v1agra, V A P E S")
    >>> found.canonical, found.original_span(8, 13), found.obfuscation.transforms
    ('viagra, VAPES', (8, 17), ('leet', 'spaced'))
    """
    canonical, starts, ends = text, list(range(len(text))), list(range(1, len(text) + 1))
    kinds: set[str] = set()
    disguised: list[tuple[int, int]] = []
    for _ in range(_ROUNDS):
        before = canonical
        for find in _FINDERS:
            edits = find(canonical)
            if not edits:
                continue
            kinds.update(edit.kind for edit in edits)
            disguised += [(starts[edit.start], ends[edit.end - 1]) for edit in edits if edit.disguise]
            canonical, starts, ends = _apply(canonical, starts, ends, edits)
        if canonical == before:
            break
    score = _score(canonical, starts, ends, sorted(disguised)) if disguised else 0.0
    transforms = tuple(kind for kind in TRANSFORMS if kind in kinds)
    return NormalisedText(text, canonical, tuple(starts), tuple(ends), Obfuscation(score, transforms))


def _apply(text: str, starts: list[int], ends: list[int], edits: Iterable[Edit]) -> tuple[str, list[int], list[int]]:
    """Return text and alignment after edits in ascending order; an edit that overlaps the one before is dropped.

    A replacement of the same length is aligned letter by letter, any other as a whole.
    """
    pieces: list[str] = []
    new_starts: list[int] = []
    new_ends: list[int] = []
    at = 0
    for start, end, replacement, _, _ in edits:
        if start < at:
            continue
        pieces += (text[at:start], replacement)
        same = len(replacement) == end - start
        new_starts += starts[at:end] if same else [*starts[at:start], *[starts[start]] * len(replacement)]
        new_ends += ends[at:end] if same else [*ends[at:start], *[ends[end - 1]] * len(replacement)]
        at = end
    pieces.append(text[at:])
    return "".join(pieces), new_starts + starts[at:], new_ends + ends[at:]


def _score(canonical: str, starts: list[int], ends: list[int], disguised: list[tuple[int, int]]) -> float:
    """Return how disguised a text is: the share of word characters in words that a disguise touched, saturating."""
    total = touched = 0
    ahead = 0  # the first disguised span that may still touch the word
    for word in _WORD.finditer(canonical):
        first, last = starts[word.start()], ends[word.end() - 1]
        total += word.end() - word.start()
        while ahead < len(disguised) and disguised[ahead][1] <= first:
            ahead += 1
        if ahead < len(disguised) and disguised[ahead][0] < last:
            touched += word.end() - word.start()
    return min(1.0, touched / total / _SATURATION) if total else 0.0
