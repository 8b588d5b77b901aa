"""How fast encoders are beside each other: the same texts, in rounds that take turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from eval.metrics.timing import ratio, spread
from eval.scores import Progress
from eval.sentences import Pool
from eval.suites.fertility import count
from eval.vectors import SentenceEncoder

Clock = Callable[[], float]
"""Returns seconds since some moment."""

THREADS = 1
"""Threads of every encoder that is timed."""
SENTENCES = 300
"""Texts per line of the table."""
ROUNDS = 5
"""Rounds after the one that warms up."""


@dataclass(frozen=True)
class Timed:
    """An encoder as it is timed."""

    encoder: SentenceEncoder
    """On `THREADS` threads."""
    tokenizer: Tokenizer
    """Its tokenizer, to count what it reads."""


@dataclass(frozen=True)
class Line:
    """The texts of one line of the table."""

    name: str
    """What they are."""
    texts: tuple[str, ...]
    """n texts."""


def lines(pools: Sequence[Pool], *, n: int = SENTENCES) -> tuple[Line, Line]:
    """Return n translations, the languages taking turns, and the English sentences they translate.

    The sentences stand evenly over the whole file; each is taken once where the pools have n of them.
    """
    turns = [pools[i % len(pools)] for i in range(n)]
    places = [i * len(pool.english) // n for i, pool in enumerate(turns)]
    translations = tuple(pool.translations[at] for pool, at in zip(turns, places, strict=True))
    originals = tuple(pool.english[at] for pool, at in zip(turns, places, strict=True))
    return Line(f"{len({pool.language for pool in turns})} varieties", translations), Line("English", originals)


def speed_report(
    pools: Sequence[Pool],
    timed: Mapping[str, Timed],
    *,
    clock: Clock,
    rounds: int = ROUNDS,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return texts and tokens per second of every encoder, and the ratio of its texts per second to the first one's.

    One round encodes the texts of every line with every encoder, the other way round in every second round, after one
    round that is not counted. The ratio is taken round by round: what slows the machine for a whole round cancels.

    Args:
        pools: where the texts come from.
        timed: name -> encoder; ratios are to the first.
        clock: told before and after every pass.
        rounds: counted rounds, at least 1.
        progress: called after every round.

    Raises:
        ValueError: there is no encoder, no pool or no round.
    """
    if not timed or not pools or rounds < 1:
        raise ValueError(f"speed: found {len(timed)} encoders, {len(pools)} pools, {rounds} rounds, allowed 1 and more")
    asked = lines(pools)
    seconds: dict[tuple[Line, str], list[float]] = {(line, name): [] for line in asked for name in timed}
    for number in range(rounds + 1):
        order = list(timed) if number % 2 else list(timed)[::-1]
        for line in asked:
            for name in order:
                start = clock()
                timed[name].encoder.encode(line.texts)
                seconds[line, name].append(clock() - start)
        if progress:
            progress("speed: rounds", number + 1, rounds + 1)
    counted = {key: spent[1:] for key, spent in seconds.items()}
    return {
        "threads": THREADS,
        "rounds": rounds,
        "lines": [
            {
                "line": line.name,
                "n": len(line.texts),
                "encoders": [_record(line, name, timed, counted) for name in timed],
            }
            for line in asked
        ],
    }


def _record(
    line: Line, name: str, timed: Mapping[str, Timed], seconds: Mapping[tuple[Line, str], Sequence[float]]
) -> dict[str, Any]:
    spent, first = seconds[line, name], seconds[line, next(iter(timed))]
    tokens = count(line.texts, timed[name].tokenizer, special=True).tokens
    return {
        "name": name,
        "tokens": tokens,
        "texts_per_s": spread([len(line.texts) / each for each in spent]),
        "tokens_per_s": spread([tokens / each for each in spent]),
        "ratio": ratio(first, spent),  # of equal texts, so seconds turned upside down
    }
