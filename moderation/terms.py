"""Terms found in a text as whole words, all of them in one pass, however many there are."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ahocorasick_rs import AhoCorasick

from retrieval_shared.obfuscation.edit import MARKS
from retrieval_shared.text import normalise

_HANGUL = "\uac00-\ud7af"
_UNSPACED = (
    # Thai and Lao, Burmese, Khmer without their signs; kana and the marks of iteration; Han
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e50-\u0e59\u0e80-\u0eff\u1000-\u1049\u1050-\u109f\u1780-\u17d3\u17d7\u17dc-\u17ff"
    "\u3005-\u3007\u3040-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003fffd"
)
"""The inside of a class of the scripts that put no spaces between words."""
_RUN = re.compile(f"([{_UNSPACED}]+)|([{_HANGUL}]+)|((?:[^\\W{_UNSPACED}{_HANGUL}]+|(?:(?![{_UNSPACED}])[{MARKS}])+)+)")
r"""Letters, digits and marks of one kind of script; `\w` alone would cut Hindi or pointed Arabic at each vowel sign."""
_HANGUL_EDGE, _WORD_EDGE = "\x01", "\x02"
_EDGES = (("", ""), (_HANGUL_EDGE, ""), (_WORD_EDGE, _WORD_EDGE))
"""What stands before and after a run of each kind: where a term of that kind may begin and end."""
_GAP, _BREAK = " ", "\n"


class Occurrence(NamedTuple):
    """A term in a text."""

    start: int
    """First code point, counted in the text that was searched."""
    end: int
    """One past the last code point."""
    term: int
    """Its place among the terms that are looked for."""


class TermFinder:
    """Finds terms by the automaton of Aho and Corasick (1975), in time linear in the text and what is found in it.

    Terms and texts are compared as canonical text (`normalise`) in lower case; no stemming, so `casinos` and a Turkish
    case ending are not found. Terms of spaced scripts match whole words, marks included; a letter of an unspaced script
    beside them is no part of the word. Thai, Lao, Burmese, Khmer, Chinese and Japanese terms are found anywhere, Korean
    ones at the start of a word, since particles are glued to its end. Between the words of a term may stand spaces and
    at most one sign, but no line (that is, field) break; nothing where the script changes (`AV女優`, `AV 女優`). Signs
    of a term itself are not compared.

    Example:
        >>> finder = TermFinder(["slot machine", "賭場"])
        >>> finder.find("Slot-machine, slots; 新竹賭場")
        [Occurrence(start=0, end=12, term=0), Occurrence(start=23, end=25, term=1)]
    """

    def __init__(self, terms: Sequence[str]) -> None:
        """Compile the terms; 10,000 take about 0.2 s and 5 MB.

        Raises:
            ValueError: a term has no letter and no digit.
        """
        owners: dict[str, list[int]] = {}
        for number, term in enumerate(terms):
            for key in _keys_of_term(term):
                owners.setdefault(key, []).append(number)
        self._owners = tuple(map(tuple, owners.values()))
        self._trims = tuple((_is_edge(key[0]), _is_edge(key[-1])) for key in owners)
        self._automaton = AhoCorasick(owners)

    def find(self, text: str) -> list[Occurrence]:
        """Return every place of every term, overlapping ones too, by start, then end, then term.

        Args:
            text: one that `normalise` made canonical.
        """
        key = _key(_fold(text))
        return sorted(
            Occurrence(key.place(start + self._trims[found][0]), key.place(end - self._trims[found][1] - 1) + 1, term)
            for found, start, end in self._automaton.find_matches_as_indexes(key.text, overlapping=True)
            for term in self._owners[found]
        )  # fmt: skip


def check_term(term: str) -> None:
    """Return quietly for a term that can be found; raise `ValueError` for one that has no letter and no digit."""
    _keys_of_term(term)


def longest(occurrences: Iterable[Occurrence]) -> list[Occurrence]:
    """Return those that do not overlap, left to right: the first, of those that begin together the longest, and on."""
    kept: list[Occurrence] = []
    for each in sorted(occurrences, key=lambda each: (each.start, -each.end, each.term)):
        if not kept or kept[-1].end <= each.start:
            kept.append(each)
    return kept


@dataclass(frozen=True)
class _Key:
    """A text as it is compared: its runs with their edges, and one character for whatever stands between them."""

    text: str
    starts: list[int]
    """Where each run begins in the key, its edge not counted."""
    origins: list[int]
    """Where each run begins in the text."""

    def place(self, at: int) -> int:
        """Return where a character of a run stands in the text."""
        run = bisect_right(self.starts, at) - 1
        return self.origins[run] + at - self.starts[run]


def _key(folded: str) -> _Key:
    """Return the key of a folded text."""
    pieces: list[str] = []
    starts: list[int] = []
    origins: list[int] = []
    at = after = 0
    for run in _RUN.finditer(folded):
        start, end = run.span()
        if start:
            pieces.append(_between(folded[after:start]))
            at += 1
        before, behind = _EDGES[(run.lastindex or 1) - 1]
        pieces += (before, run.group(), behind)
        at += len(before)
        starts.append(at)
        origins.append(start)
        at += end - start + len(behind)
        after = end
    return _Key("".join(pieces), starts, origins)


def _between(gap: str) -> str:
    """Return what stands for the signs and spaces between two runs: whether one term may go on across them."""
    return _GAP if gap == " " or (len(gap.strip()) <= 1 and "\n" not in gap) else _BREAK


def _keys_of_term(term: str) -> set[str]:
    """Return the keys under which a term is found: as it is written, and as `normalise` reads it standing alone.

    What counts as a disguise depends on the words around it, so a text may hold either.
    """
    keys = set()
    for form in (unicodedata.normalize("NFKC", term), normalise(term).canonical):
        runs = _key(_fold(form)).text.replace(_BREAK, _GAP)
        # a sign before the first run leaves its gap
        keys.add(runs.lstrip(_GAP))
    if "" in keys:
        raise ValueError(f"term: found {term!r}, allowed text with a letter or a digit")
    return keys


def _is_edge(character: str) -> bool:
    return character in (_HANGUL_EDGE, _WORD_EDGE)


def _fold(text: str) -> str:
    """Return the text in lower case with its length kept, so that offsets hold.

    `İ` is the only letter whose lower case is longer than itself; the lower case of `Σ` depends on what follows.
    """
    return text.replace("İ", "i").lower().replace("ς", "σ")
