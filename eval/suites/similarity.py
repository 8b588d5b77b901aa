"""Semantic similarity (STS-B in many languages): does the cosine order pairs as people do?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.datasets import is_english
from eval.metrics.bootstrap import bootstrap_interval
from eval.metrics.correlation import spearman
from eval.sentences import ScoredPairs
from eval.vectors import Embed

DECIMALS = 6
"""Of a cosine: two copies of one sentence are to tie, whatever the last bit of their vectors' product is."""


def pair_texts(pairs: Sequence[ScoredPairs]) -> list[str]:
    """Return every sentence of the pairs, to be encoded in one go."""
    return [text for each in pairs for text in (*each.first, *each.second)]


def similarity_report(pairs: Sequence[ScoredPairs], embed: Embed, *, resamples: int, seed: int) -> dict[str, Any]:
    """Return Spearman's rho of cosine and score per language, of English, and the mean of the other languages.

    NaN where it is not defined (one vector for all sentences); a mean over such a language is NaN as well.

    Args:
        pairs: one set per language.
        embed: the encoder.
        resamples: bootstrap resamples of each language's interval.
        seed: of the bootstrap.
    """
    table: list[dict[str, Any]] = []
    for each in pairs:
        scores = np.array(each.scores, dtype=np.float64)
        cosine = cosines(embed(each.first), embed(each.second))

        def rho(
            weights: NDArray[np.int64], cosine: NDArray[np.float64] = cosine, scores: NDArray[np.float64] = scores
        ) -> float:
            return spearman(np.repeat(cosine, weights), np.repeat(scores, weights))

        rows = [str(i) for i in range(scores.size)]
        table.append({
            "language": each.language,
            "n": scores.size,
            "spearman": spearman(cosine, scores),
            "interval": bootstrap_interval(rho, rows, resamples=resamples, seed=seed),
        })  # fmt: skip
    english = [record["spearman"] for record in table if is_english(record["language"])]
    others = [record["spearman"] for record in table if not is_english(record["language"])]
    return {
        "n": sum(record["n"] for record in table),
        "n_others": len(others),
        "english": english[0] if english else float("nan"),
        "mean_others": float(np.mean(others)) if others else float("nan"),
        "languages": table,
    }


def cosines(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return float64 [n], the cosine of row i and row i of unit vectors [n, d], to `DECIMALS` decimals."""
    products = (first.astype(np.float64) * second.astype(np.float64)).sum(axis=1)  # [n]
    return np.asarray(np.round(products, DECIMALS), dtype=np.float64)
