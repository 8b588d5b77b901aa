"""The rule signal: terms of a lexicon found in a text. Extra evidence and a weak label, never the only evidence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from moderation.terms import TermFinder, longest

LEXICON = Path(__file__).with_name("lexicon.tsv")

RuleEffect = Literal["evidence", "escalate", "reject"]
"""What a match is good for: it is shown, a person decides at least, or the ad is rejected."""
RuleMode = Literal["active", "shadow"]
"""A shadow rule is only logged and changes nothing."""


@dataclass(frozen=True)
class RuleMatch:
    """A term or a pattern in a text."""

    head: str
    term: str
    """As its list spells it; of a rule with a pattern, the pattern."""
    start: int
    """First code point, counted in the text that was searched."""
    end: int
    """One past the last code point."""
    rule: str = "lexicon"
    """`id@version/name` of the rule, `lexicon` for the shipped terms."""
    effect: RuleEffect = "evidence"
    mode: RuleMode = "active"


@dataclass(frozen=True)
class Term:
    """One line of the lexicon."""

    text: str
    head: str


class RuleSignal:
    """The compiled lexicon; `TermFinder` says what counts as a word."""

    def __init__(self, terms: Iterable[Term]) -> None:
        """Compile the terms.

        Raises:
            ValueError: a term has no letter and no digit.
        """
        self._terms = tuple(terms)
        self._finder = TermFinder([term.text for term in self._terms])
        self.heads = tuple(sorted({term.head for term in self._terms}))
        """The heads that have terms, sorted."""

    @classmethod
    def load(cls, path: str | Path = LEXICON) -> RuleSignal:
        """Return the signal of a lexicon file: tab-separated head, term, languages; lines with # are comments.

        The languages tell readers of the list where a term is from; it is looked for in every text.

        Raises:
            ValueError: a line is not of that form, or a term is listed twice; the message names the line.
        """
        return cls(_read(Path(path)))

    @classmethod
    def of(cls, terms: Mapping[str, str]) -> RuleSignal:
        """Return the signal of a mapping from term to head; raise `ValueError` for a term without a word."""
        return cls(Term(text, head) for text, head in terms.items())

    def find(self, text: str) -> tuple[RuleMatch, ...]:
        """Return the terms in a text, left to right; where they overlap, the first and then the longest alone.

        Args:
            text: one that `normalise` made canonical; offsets count its code points.
        """
        return tuple(
            RuleMatch(self._terms[term].head, self._terms[term].text, start, end)
            for start, end, term in longest(self._finder.find(text))
        )


def _read(path: Path) -> list[Term]:
    """Return the terms of a lexicon file."""
    terms: dict[str, Term] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        cells = line.split("\t")
        if len(cells) != 3 or not cells[0] or not re.search(r"\w", cells[1]):
            raise ValueError(f"{path.name} line {number}: found {line!r}, allowed head, term, languages between tabs")
        head, term, _ = cells
        if term in terms:
            raise ValueError(f"{path.name} line {number}: term {term!r} is listed twice")
        terms[term] = Term(term, head)
    return list(terms.values())
