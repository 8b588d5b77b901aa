"""What rules and the bank cost beside the model: terms, patterns and look-alikes of one ad, on this machine."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np

from moderation.minhash import LENGTH, SignatureIndex, signature
from moderation.rule_set import RuleSet, TextRule
from moderation.terms import TermFinder

_SYLLABLES = [consonant + vowel for consonant in "bcdfghklmnprstvw" for vowel in "aeiou"]
_PATTERNS = 50
_Input = TypeVar("_Input")


@dataclass(frozen=True)
class SignalTimes:
    """Medians over the ads, in milliseconds of one thread's own time; `compile_ms` once for all terms."""

    compile_ms: float
    terms_ms: float
    """All terms searched for in one ad."""
    patterns_ms: float
    """`_PATTERNS` patterns searched for in one ad, one after the other."""
    signature_ms: float
    alike_ms: float
    """One signature compared with all entries of the bank."""


def measure(
    *, terms: int = 10_000, words: int = 60, entries: int = 100_000, ads: int = 500, seed: int = 0
) -> SignalTimes:
    """Return what the signals of an ad of made-up words cost.

    Args:
        terms: of one to three words each.
        words: per ad, from the same vocabulary as the terms.
        entries: of the bank.
        ads: that the medians are over.
        seed: of all that is drawn.
    """
    rng = np.random.default_rng(seed)
    vocabulary = ["".join(rng.choice(_SYLLABLES, rng.integers(2, 5))) for _ in range(3 * terms)]
    listed = [" ".join(rng.choice(vocabulary, rng.integers(1, 4))) for _ in range(terms)]
    texts = [" ".join(rng.choice(vocabulary, words)) for _ in range(ads)]
    patterns = RuleSet("bench", 1, tuple(_pattern(i, vocabulary[2 * i : 2 * i + 2]) for i in range(_PATTERNS)))
    patterns.find("", None, "DE")
    bank = rng.integers(0, 2**16, (entries, LENGTH), dtype=np.uint16)
    index = SignatureIndex()
    for number, own in enumerate(bank):
        index.put(f"e{number}", own)
    started = time.thread_time()
    finder = TermFinder(listed)
    compile_ms = 1e3 * (time.thread_time() - started)
    return SignalTimes(
        compile_ms=compile_ms,
        terms_ms=_median_ms(finder.find, texts),
        patterns_ms=_median_ms(lambda text: patterns.find(text, "en", "DE"), texts),
        signature_ms=_median_ms(signature, texts),
        alike_ms=_median_ms(lambda own: index.near(own, 0.8), bank[:ads]),
    )


def _pattern(i: int, words: Sequence[str]) -> TextRule:
    return TextRule(f"rule-{i}", "scam", "evidence", "active", pattern=rf"{words[0]}\W{{0,5}}{words[1]}s?\d*")


def _median_ms(call: Callable[[_Input], object], inputs: Iterable[_Input]) -> float:
    times = []
    for each in inputs:
        started = time.thread_time()
        call(each)
        times.append(time.thread_time() - started)
    return 1e3 * float(np.median(times))


if __name__ == "__main__":
    json.dump(asdict(measure()), sys.stdout)
