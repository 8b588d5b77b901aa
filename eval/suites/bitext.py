"""Bitext retrieval (NTREX, Tatoeba): how often a sentence's translation is its nearest neighbour in the pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eval.language_means import over_languages
from eval.metrics.bitext import bitext_credits
from eval.sentences import Pool
from eval.vectors import Embed


def pool_texts(pools: Sequence[Pool]) -> list[str]:
    """Return every sentence of the pools, to be encoded in one go."""
    return [text for pool in pools for text in (*pool.english, *pool.translations)]


def bitext_report(pools: Sequence[Pool], embed: Embed, *, resamples: int, seed: int) -> dict[str, Any]:
    """Return the accuracy per language, both ways and their mean, with the pool it was measured in.

    Accuracy falls as the pool grows: figures of pools of different sizes are not alike.

    Args:
        pools: one per language.
        embed: the encoder.
        resamples: bootstrap resamples of the mean over languages.
        seed: of the bootstrap.
    """
    table: list[dict[str, Any]] = []
    values: list[float] = []
    languages: list[str] = []
    groups: list[str] = []
    for pool in pools:
        credits = bitext_credits(embed(pool.english), embed(pool.translations))
        table.append({
            "language": pool.language,
            "pool": len(pool.english),
            "accuracy": float(credits.both.mean()),
            "from_english": float(credits.forward.mean()),
            "to_english": float(credits.backward.mean()),
        })  # fmt: skip
        values += credits.both.tolist()
        languages += [pool.language] * len(pool.english)
        groups += pool.english
    sizes = sorted({len(pool.english) for pool in pools})
    return {
        "n": len(values),
        "pools": sizes,
        **over_languages(values, languages, groups, resamples=resamples, seed=seed),
        "languages": table,
    }
