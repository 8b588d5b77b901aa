"""The bench's texts: our own English ads, joined and cut to a fixed, seeded set of lengths."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ADS = Path(__file__).resolve().parent.parent.parent / "training" / "data" / "ads.jsonl"
FIELDS = ("title", "body", "cta", "landing_text")
MEDIAN_TOKENS, MEAN_TOKENS = 45, 61
"""Of the log-normal lengths, as ads have them: many short, a long tail."""
SHORTEST, LONGEST = 4, 254
"""Tokens without the special ones; with two of those the longest still fits one pass of every stack."""
SINGLE_TOKENS = 62
"""Of the ads sent one by one; with the two special tokens, 64."""
SINGLE_ADS = 64
"""Different ads sent one by one: one text over and over would measure the caches."""

Ends = Callable[[str], Sequence[int]]
"""Where each token of a text ends, in code points."""


@dataclass(frozen=True)
class BenchTexts:
    """What every stack reads."""

    ads: tuple[str, ...]
    """`SINGLE_ADS` texts of `SINGLE_TOKENS` tokens, sent one by one."""
    batch: tuple[str, ...]
    """n texts of log-normal lengths, read as one batch."""

    @property
    def digest(self) -> str:
        """Return the sha256 over all texts: two runs with one digest read the same."""
        return hashlib.sha256(json.dumps([self.ads, self.batch]).encode()).hexdigest()


def read_ads(path: Path = ADS) -> tuple[str, ...]:
    """Return the texts of the English ads in `path`.

    Raises:
        ValueError: the file is missing or has no English ad.
    """
    if not path.is_file():
        raise ValueError(f"ads: found no file {path.name!r}, expected the training ads that the repository holds")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    found = tuple("\n".join(row[name] for name in FIELDS if row.get(name)) for row in rows if row.get("lang") == "en")
    if not found:
        raise ValueError(f"ads: found no English ad among {len(rows)} rows of {path.name!r}")
    return found


def make_texts(ads: Sequence[str], *, n: int, seed: int, ends: Ends) -> BenchTexts:
    """Return the same texts for the same ads, n, seed and tokenizer.

    Raises:
        ValueError: `ads` has no token, or n is below 1.
    """
    if n < 1:
        raise ValueError(f"n: found {n}, allowed 1 and up")
    if not any(ends(ad) for ad in ads):
        raise ValueError("ads: found no token in them")
    source = random.Random(seed)
    order = list(ads)
    source.shuffle(order)
    sizes = [SINGLE_TOKENS] * SINGLE_ADS + log_normal_lengths(n, source)
    made = [_cut(order, first=i, tokens=size, ends=ends) for i, size in enumerate(sizes)]
    return BenchTexts(ads=tuple(made[:SINGLE_ADS]), batch=tuple(made[SINGLE_ADS:]))


def log_normal_lengths(n: int, source: random.Random) -> list[int]:
    """Return n lengths in tokens, within [SHORTEST, LONGEST], of a log-normal with the median and mean above.

    Of a log-normal the median is exp(mu) and the mean exp(mu + sigma^2 / 2).
    """
    mu, sigma = math.log(MEDIAN_TOKENS), math.sqrt(2 * math.log(MEAN_TOKENS / MEDIAN_TOKENS))
    return [min(LONGEST, max(SHORTEST, round(source.lognormvariate(mu, sigma)))) for _ in range(n)]


def _cut(ads: Sequence[str], *, first: int, tokens: int, ends: Ends) -> str:
    """Return ad number `first` and the ads after it, round and round, cut to `tokens` tokens."""
    text, at = ads[first % len(ads)], first
    while len(stops := ends(text)) < tokens:
        at += 1
        text = f"{text} {ads[at % len(ads)]}"
    return text[: stops[tokens - 1]]
