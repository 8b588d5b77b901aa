"""The rule signal: terms of a lexicon found in a text. Extra evidence and a weak label, never the only evidence."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

LEXICON = Path(__file__).with_name("lexicon.tsv")

_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")
"""Thai, Lao, Burmese, Khmer, kana, Han and Hangul: no spaces between words, or particles glued to them."""
_HANGUL = re.compile("[\uac00-\ud7af]")
_GAP = re.compile(r"[^\S\n]*[^\w\s]?[^\S\n]*")
"""What may stand between the words of one term: spaces and at most one sign, but no line (that is, field) break."""


@dataclass(frozen=True)
class RuleMatch:
    """A term of the lexicon in a text."""

    head: str
    term: str
    """As the lexicon spells it."""
    start: int
    """First code point, counted in the text that was searched."""
    end: int
    """One past the last code point."""


@dataclass(frozen=True)
class _Words:
    """A spaced term: its words, as they are compared."""

    head: str
    term: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class RuleSignal:
    """The compiled lexicon: one pass over the words of a text, one over its unspaced stretches.

    Words are compared whole and in lower case; no stemming, so `casinos` and a Turkish case ending are not found. Thai,
    Chinese and Japanese terms are found anywhere, Korean ones at the start of a word.
    """

    heads: tuple[str, ...]
    """The heads that have terms, sorted."""
    spaced: Mapping[str, tuple[_Words, ...]]
    """First word -> terms, longest first."""
    unspaced: Mapping[str, str]
    """Term -> head."""
    pattern: re.Pattern[str]
    """Any of the unspaced terms, longest first."""

    @classmethod
    def load(cls, path: str | Path = LEXICON) -> RuleSignal:
        """Return the signal of a lexicon file: tab-separated head, term, languages; lines with # are comments.

        Raises:
            ValueError: a line is not of that form, or a term is listed twice; the message names the line.
        """
        return cls.of(_read(Path(path)))

    @classmethod
    def of(cls, terms: Mapping[str, str]) -> RuleSignal:
        """Return the signal of a mapping from term to head."""
        spaced: dict[str, list[_Words]] = {}
        unspaced: dict[str, str] = {}
        for term, head in terms.items():
            folded = _fold(unicodedata.normalize("NFKC", term))
            if _UNSPACED.search(folded):
                unspaced[folded] = head
            else:
                words = tuple(word.group() for word in _word_pattern().finditer(folded))
                spaced.setdefault(words[0], []).append(_Words(head, term, words))
        longest_first = sorted(unspaced, key=lambda term: (-len(term), term))
        return cls(
            heads=tuple(sorted(set(terms.values()))),
            spaced={first: tuple(sorted(own, key=_longest_first)) for first, own in spaced.items()},
            unspaced=unspaced,
            pattern=re.compile("|".join(map(re.escape, longest_first)) or r"(?!)"),
        )

    def find(self, text: str) -> tuple[RuleMatch, ...]:
        """Return the terms in a text, left to right; where two begin together, the longer one alone.

        The text is one that `normalise` made canonical; offsets count its code points.
        """
        folded = _fold(text)
        matches = [*self._find_spaced(folded), *self._find_unspaced(folded)]
        return tuple(sorted(matches, key=lambda match: (match.start, match.end)))

    def _find_spaced(self, folded: str) -> Iterable[RuleMatch]:
        """Yield the terms of spaced scripts that do not overlap."""
        words = list(_word_pattern().finditer(folded))
        after = 0
        for index, word in enumerate(words):
            if index < after:
                continue
            for term in self.spaced.get(word.group(), ()):
                following = words[index : index + len(term.words)]
                if _same_words(folded, following, term.words):
                    yield RuleMatch(term.head, term.term, word.start(), following[-1].end())
                    after = index + len(term.words)
                    break

    def _find_unspaced(self, folded: str) -> Iterable[RuleMatch]:
        """Yield the terms of unspaced scripts that do not overlap."""
        for match in self.pattern.finditer(folded):
            before = folded[max(0, match.start() - 1) : match.start()]
            if not (_HANGUL.match(match.group()) and _HANGUL.match(before)):
                yield RuleMatch(self.unspaced[match.group()], match.group(), match.start(), match.end())


def _read(path: Path) -> dict[str, str]:
    """Return term -> head of a lexicon file."""
    terms: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        cells = line.split("\t")
        if len(cells) != 3 or not cells[0] or not re.search(r"\w", cells[1]):
            raise ValueError(f"{path.name} line {number}: found {line!r}, allowed head, term, languages between tabs")
        if cells[1] in terms:
            raise ValueError(f"{path.name} line {number}: term {cells[1]!r} is listed twice")
        terms[cells[1]] = cells[0]
    return terms


def _longest_first(term: _Words) -> tuple[int, str]:
    """Return the sort key that puts terms of more words first."""
    return -len(term.words), term.term


def _same_words(folded: str, found: list[re.Match[str]], words: tuple[str, ...]) -> bool:
    """Return whether the found words are the term's, with nothing but a gap between them."""
    if tuple(word.group() for word in found) != words:
        return False
    return all(_GAP.fullmatch(folded, before.end(), after.start()) for before, after in pairwise(found))


def _fold(text: str) -> str:
    """Return the text in lower case with its length kept, so that offsets hold."""
    return text.replace("İ", "i").lower()  # the only letter whose lower case is longer than itself


@cache
def _word_pattern() -> re.Pattern[str]:
    r"""Return the pattern of one word: letters, digits and their combining marks.

    `\w` alone leaves out the marks and would cut Hindi, Tamil or pointed Arabic words at every vowel sign.
    """
    marks = [code for code in range(0x300, 0x10000) if unicodedata.category(chr(code))[0] == "M"]
    return re.compile(f"[\\w{re.escape(''.join(map(chr, marks)))}]+")
