"""The geometry of the vectors of parallel sentences: has the encoder collapsed, and do languages live apart?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from eval.metrics.geometry import FEWEST, Geometry, Limits, collapsed, effective_rank, geometry_of, mean_cosine
from eval.sentences import Pool
from eval.vectors import Embed

LANGUAGE_OF_ORIGINAL = "eng"


def geometry_report(pools: Sequence[Pool], embed: Embed) -> dict[str, Any]:
    """Return the figures per language, English first, their means over the others, and why it counts as collapsed.

    Every language is set beside the English sentences it translates. `all` pools the languages, each distinct English
    sentence once: its rank and mean cosine see what no single language shows. `collapsed` is None where the pools are
    too small to judge.
    """
    english = list(dict.fromkeys(text for pool in pools for text in pool.english))
    originals = embed(english)
    figures: dict[str, Geometry] = {LANGUAGE_OF_ORIGINAL: geometry_of(originals, english=originals)}
    for pool in pools:
        figures[pool.language] = geometry_of(embed(pool.translations), english=embed(pool.english))
    everything = np.concatenate([originals, *(embed(pool.translations) for pool in pools)])
    judged = all(min(each.n, each.dim) >= FEWEST for each in figures.values())
    others = [each for name, each in figures.items() if name != LANGUAGE_OF_ORIGINAL]
    return {
        "n": len(everything),
        "dim": int(everything.shape[1]),
        "limits": Limits(),
        "collapsed": collapsed(figures) if judged else None,
        "all": {"effective_rank": effective_rank(everything), "mean_cosine": mean_cosine(everything)},
        "mean": {
            name: float(np.mean([getattr(each, name) for each in others]))
            for name in ("effective_rank", "mean_cosine", "uniformity", "drift", "alignment")
        },
        "languages": [{"language": name, "figures": each} for name, each in figures.items()],
    }
