"""Comparing ways to train the first stage: the same rows in the same order, scored on rows that no adapter sees."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.metrics.bootstrap import bootstrap_interval
from eval.metrics.multilabel import average_precision
from training.adapter import Rows, TrainedAdapter, sample_rows, train_adapter
from training.base_model import load_rounded
from training.config import BALANCES, ModerationConfig
from training.examples import DISGUISED, HEADS, OWN_ADS, Examples, fold_of, load_examples
from training.moderation import Run
from training.sampling import weigh
from training.texts import Texts
from training.violation_heads import load_heads, logits_of

HELD_OUT_ROWS = 12_000
"""Public rows of the held-out fold that are scored; all of our own ads of that fold are."""
ENOUGH = 10
"""Positives, and negatives, below which a head is not counted."""

STATIC = BALANCES[0]
"""The balance that the others are held against."""

Statistic = Callable[[NDArray[np.int64]], float]
"""Weights `[n]` of rows -> a value."""


def small_stage(config: ModerationConfig, rows: int) -> ModerationConfig:
    """Return the configuration of a comparison: `rows` public rows, our own ads once, no disguised copies, static."""
    return dataclasses.replace(
        config,
        adapter=dataclasses.replace(config.adapter, rows=rows, ad_repeats=1, balance=STATIC),
        data=dataclasses.replace(config.data, disguised_copies=0),
    )


@dataclass(frozen=True)
class Compared:
    """What all that is compared learns from and is scored on."""

    examples: Examples
    """The rows of both, each once."""
    sample: NDArray[np.intp]
    """Those learnt from; a row may stand there more than once."""
    held: NDArray[np.intp]
    """Those scored, of the held-out fold."""

    @classmethod
    def of(cls, config: ModerationConfig, run: Run) -> Compared:
        """Return the rows that a configuration draws; its seed decides."""
        examples = load_examples(run.data, config.data)
        fold = fold_of(examples.group, folds=config.data.folds, seed=config.seed)
        usable = np.isin(examples.licence, config.adapter.licences) & ~np.isin(
            examples.source, config.adapter.without_sources
        )
        rng = np.random.default_rng(config.seed)
        sample = sample_rows(examples, np.flatnonzero(usable & (fold != 0)), config.adapter, rng)
        held = _held_out(examples, np.flatnonzero(usable & (fold == 0)), rng)
        rows, place = np.unique(np.concatenate([sample, held]), return_inverse=True)
        return cls(examples.take(rows), place[: len(sample)], place[len(sample) :])

    @property
    def counts(self) -> dict[str, int]:
        """Return how many rows are learnt from and scored."""
        return {"sample": len(self.sample), "held_out": len(self.held)}


def _held_out(examples: Examples, rows: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    own = examples.source[rows] == OWN_ADS
    ads = rows[own & (examples.kind[rows] != DISGUISED)]
    public = rows[~own]
    return np.concatenate([ads, rng.choice(public, min(HELD_OUT_ROWS, len(public)), replace=False)])


def train_and_score(
    compared: Compared, texts: Texts, config: ModerationConfig, *, folder: Path, threads: int
) -> tuple[TrainedAdapter, NDArray[np.float32]]:
    """Return a first stage and the logits float32 `[held, H]` of its heads on the held-out rows.

    Args:
        compared: the rows.
        texts: `compared.examples` as training reads them.
        config: `config.adapter` is the stage that is compared.
        folder: where checkpoint, result and caches lie, of this stage alone: what lies there is not trained again.
        threads: threads of the runtime.
    """
    # Training wraps the layers of the model it is given, so it gets one of its own.
    trained = train_adapter(
        load_rounded(config), learnt_rows(compared, texts, config), config.adapter, config.heads,
        folder=folder, seed=config.seed,
    )  # fmt: skip
    states = texts.states(trained.folder, folder=folder, threads=threads, rows=compared.held)
    heads = load_heads(trained.heads, config.heads)
    return trained, logits_of(heads, states, np.arange(len(compared.held)))


def learnt_rows(compared: Compared, texts: Texts, config: ModerationConfig) -> Rows:
    """Return the sample as the first stage learns from it."""
    drawn = compared.examples.take(compared.sample)
    weighted = weigh(drawn, ad_weight=1.0, unlabelled_share=config.heads.unlabelled_share)
    return Rows(texts.branch(compared.sample), weighted)


def stage_key(base: str, config: ModerationConfig, compared: Compared) -> str:
    """Return a short hash of what a first stage depends on: one of another run must not be taken for it."""
    drawn = compared.examples.take(compared.sample)
    digest = hashlib.sha256(f"{base}|{config.adapter}|{config.heads}|{config.seed}".encode())
    for text in drawn.texts:
        digest.update(text.encode("utf-8", "replace") + b"\0")
    digest.update(drawn.targets.tobytes())
    return digest.hexdigest()[:12]


def scores(logits: NDArray[np.float32], held: Examples) -> dict[str, Any]:
    """Return macro average precision, with its interval over groups, of our own ads and of public rows."""
    result: dict[str, Any] = {}
    for side, rows, heads in _sides(held):
        macro = partial(_macro, held.targets[rows], logits[rows], heads)
        every = np.ones(len(rows), dtype=np.int64)
        found = _average_precision(held.targets[rows], logits[rows], heads, every)
        result[side] = {
            "rows": len(rows),
            "macro_ap": macro(every),
            **_interval(macro, held.group[rows]),
            "ap": dict(zip([HEADS[h] for h in heads], found, strict=True)),
        }
    return result


def gains(logits: NDArray[np.float32], reference: NDArray[np.float32], held: Examples) -> dict[str, Any]:
    """Return by how much macro average precision is above the reference's, with its interval, per side of `scores`.

    The bootstrap is paired: each resample of groups scores both.
    """
    result: dict[str, Any] = {}
    for side, rows, heads in _sides(held):
        ours, theirs = (partial(_macro, held.targets[rows], each[rows], heads) for each in (logits, reference))
        gain = partial(_gain, ours, theirs)
        result[side] = {"mean": gain(np.ones(len(rows), dtype=np.int64)), **_interval(gain, held.group[rows])}
    return result


def _sides(held: Examples) -> Iterator[tuple[str, NDArray[np.intp], list[int]]]:
    """Yield our own ads and public rows: a name, the rows, and the heads with enough labels of both kinds there."""
    own = held.source == OWN_ADS
    for name, rows in (("ads", np.flatnonzero(own)), ("public", np.flatnonzero(~own))):
        targets = held.targets[rows]
        heads = [h for h in range(len(HEADS)) if min((targets[:, h] == value).sum() for value in (0, 1)) >= ENOUGH]
        yield name, rows, heads


def _interval(statistic: Statistic, groups: NDArray[np.str_]) -> dict[str, float]:
    """Return the ends of a bootstrap interval; NaN where there are no rows."""
    if not len(groups):
        return {"low": math.nan, "high": math.nan}
    interval = bootstrap_interval(statistic, groups.tolist())
    return {"low": interval.low, "high": interval.high}


def _gain(ours: Statistic, reference: Statistic, weights: NDArray[np.int64]) -> float:
    return ours(weights) - reference(weights)


def _macro(
    targets: NDArray[np.float32], logits: NDArray[np.float32], heads: Sequence[int], weights: NDArray[np.int64]
) -> float:
    """Return the mean over some heads; NaN where one of them has no label of a kind, or there is none."""
    return float(np.mean(_average_precision(targets, logits, heads, weights))) if heads else math.nan


def _average_precision(
    targets: NDArray[np.float32], logits: NDArray[np.float32], heads: Sequence[int], weights: NDArray[np.int64]
) -> list[float]:
    """Return the average precision of each head over the rows that have a label; NaN without one of each kind."""
    return [average_precision(targets[:, h], logits[:, h], weights=weights) for h in heads]
