"""The profanity list: how sure it is that a text uses swear words, judged by the words alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from moderation.rules import RuleSignal

PROFANITY = Path(__file__).with_name("profanity.tsv")
EVERY_LANGUAGE = "mul"
"""ISO 639-2's code for several languages: terms that are looked for in all of them."""
WEIGHTS: Mapping[str, float] = {"strong": 0.8, "mild": 0.4}
"""Score of a text with one term of that strength. Not measured: they order texts, they are no probabilities."""


@dataclass(frozen=True)
class Profanity:
    """The compiled list, apart for each language, because one language's swear word is another's `with` or `end`."""

    signals: Mapping[str, RuleSignal]
    """ISO 639 code -> the terms of that language and of every language."""

    @classmethod
    def load(cls, path: str | Path = PROFANITY) -> Profanity:
        """Return the list in a file: tab-separated strength, term, languages; lines with # are comments.

        Raises:
            ValueError: a line is not of that form, a term is listed twice or a strength is not known.
        """
        if unknown := sorted(set(RuleSignal.load(path).heads) - set(WEIGHTS)):
            raise ValueError(f"{Path(path).name}: found strength {unknown}, allowed {', '.join(WEIGHTS)}")
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        return cls.of(line.split("\t") for line in lines if line and not line.startswith("#"))

    @classmethod
    def of(cls, rows: Iterable[Sequence[str]]) -> Profanity:
        """Return the list of rows (strength, term, languages between commas)."""
        terms: dict[str, dict[str, str]] = {EVERY_LANGUAGE: {}}
        for strength, term, languages in rows:
            for language in languages.split(","):
                terms.setdefault(language, {})[term] = strength
        everywhere = terms.pop(EVERY_LANGUAGE)
        return cls({language: RuleSignal.of({**everywhere, **own}) for language, own in terms.items()})

    @property
    def languages(self) -> frozenset[str]:
        """The languages that have terms of their own."""
        return frozenset(self.signals)

    def score(self, text: str, languages: Sequence[str]) -> float:
        """Return how sure it is that a text swears: 0 without a term, above 0.8 with a strong one, never quite 1.

        One less the product of (1 - weight) over the different terms found in the likeliest of the languages. Words are
        compared whole.

        >>> Profanity.of([("strong", "merde", "fr"), ("mild", "con", "fr")]).score("Merde, con, con!", ["fr"])
        0.88

        Args:
            text: canonical, as `normalise` makes it, so that disguises are undone.
            languages: ISO 639 codes of the text's languages; one without a list counts for nothing.
        """
        return max((self._score(text, self.signals[code]) for code in languages if code in self.signals), default=0.0)

    def _score(self, text: str, signal: RuleSignal) -> float:
        found = {match.term: WEIGHTS[match.head] for match in signal.find(text)}
        return 1.0 - prod(1 - weight for weight in found.values())
