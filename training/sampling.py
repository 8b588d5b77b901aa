"""Which rows a stage sees, and what each of their labels weighs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.examples import HEADS, OWN_ADS, Examples

FAMILIES = (
    frozenset({"sexual", "hate", "harassment", "violence", "self_harm", "toxic"}),
    frozenset({"misinformation", "sensational", "scam", "pressure", "counterfeit", "gambling"}),
    frozenset({"drugs", "weapons", "alcohol_tobacco", "political"}),
)
"""Heads that often hold together: a row positive for one of a family says nothing about the family's other heads."""


def balanced_sample(
    examples: Examples, *, rows: int, english_share: float, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Return `rows` row numbers spread over sources and labels, `english_share` of them English.

    Each source's share is the square root of its size (temperature 2), so that a large set does not drown a small one;
    within a source a row's chance is raised where it is positive for a rare head. Drawn without replacement; fewer
    rows come back when there are fewer.
    """
    english = np.char.startswith(examples.lang, "en")
    weight = row_chances(examples)
    taken = [
        _draw(np.flatnonzero(english == flag), weight, size=round(rows * share), rng=rng)
        for flag, share in ((True, english_share), (False, 1.0 - english_share))
    ]
    return rng.permutation(np.concatenate(taken))


def row_chances(examples: Examples) -> NDArray[np.float64]:
    """Return how likely each row `[n]` is to be drawn, relative to the others (not normalised).

    Sources, and so heads and regions, are drawn at temperature 2: the square root of their size. Within a source a row
    that is positive for a rare head is more likely.
    """
    positives = np.maximum(np.nansum(examples.targets, axis=0), 1.0)  # [H]
    rarity = np.nan_to_num(examples.targets) @ (1.0 / np.sqrt(positives))  # [n]
    weight = 1.0 + rarity * np.sqrt(np.median(positives))
    for source in np.unique(examples.source):
        of_source = examples.source == source
        weight[of_source] *= np.sqrt(of_source.sum()) / weight[of_source].sum()
    chances: NDArray[np.float64] = weight
    return chances


def draw_pass(examples: Examples, *, rows: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return the row numbers of one pass: all of our own ads, and `rows` public rows drawn by `row_chances`."""
    own = np.flatnonzero(examples.source == OWN_ADS)
    public = np.flatnonzero(examples.source != OWN_ADS)
    return np.concatenate([own, _draw(public, row_chances(examples), size=rows, rng=rng)])


def _draw(
    candidates: NDArray[np.intp], weight: NDArray[np.float64], *, size: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    if size >= len(candidates):
        return candidates
    chance = weight[candidates] / weight[candidates].sum()
    return rng.choice(candidates, size=size, replace=False, p=chance)


@dataclass(frozen=True)
class Weighted:
    """Targets without gaps and what each weighs in a masked loss."""

    targets: NDArray[np.float32]
    """`[n, H]` in {0, 1}."""
    weights: NDArray[np.float32]
    """`[n, H]`, 0 = not learnt from."""


def weigh(examples: Examples, *, ad_weight: float, unlabelled_share: float) -> Weighted:
    """Return targets and weights: known labels, and rows of other sources as weak negatives.

    A masked head that only ever sees its own source's negatives fires on style, so every head also sees rows that
    nobody labelled for it, as negatives of low weight: together `unlabelled_share` of its known labels' weight. Left
    out are rows of a source that does label the head, and rows positive for another head of the same family.

    Args:
        examples: n examples.
        ad_weight: weight of a known label of our own ads; a public row's is 1.
        unlabelled_share: at least 0.
    """
    known = ~np.isnan(examples.targets)  # [n, H]
    own = examples.source == OWN_ADS
    weights = np.where(known, np.where(own, ad_weight, 1.0)[:, None], 0.0)
    targets = np.nan_to_num(examples.targets)
    for h, head in enumerate(HEADS):
        labelling = np.unique(examples.source[known[:, h] & ~own])
        kin = [k for k, other in enumerate(HEADS) if any({head, other} <= family for family in FAMILIES)]
        unlabelled = ~known[:, h] & ~np.isin(examples.source, labelling) & ~(targets[:, kin] > 0).any(1)
        if unlabelled.any():
            weights[unlabelled, h] = unlabelled_share * weights[known[:, h], h].sum() / unlabelled.sum()
        weights[:, h] *= _head_scale(targets[known[:, h], h], weights[known[:, h], h])
    return Weighted(targets=targets.astype(np.float32), weights=weights.astype(np.float32))


def _head_scale(targets: NDArray[np.float32], weights: NDArray[np.float64]) -> float:
    """Return a head's factor: its effective count of positives to the power -1/2, so that rare heads are heard."""
    return float(1.0 / np.sqrt(max((weights * targets).sum(), 1.0)))
