"""How many upper layers should carry LoRA: the quality of each number on held-out rows; the bench knows its cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import structlog
import torch
from numpy.typing import NDArray

from eval.document import write_json
from eval.metrics.bootstrap import bootstrap_interval
from eval.metrics.multilabel import average_precision
from training.adapter import Rows, sample_rows, train_adapter
from training.base_model import BaseModel, load_rounded
from training.config import AdapterConfig, ModerationConfig
from training.examples import DISGUISED, HEADS, OWN_ADS, Examples, fold_of, load_examples
from training.moderation import Run
from training.sampling import weigh
from training.texts import read_texts
from training.violation_heads import load_heads, logits_of

log = structlog.get_logger()

HELD_OUT_ROWS = 12_000
"""Public rows of the held-out fold that are scored; all of our own ads of that fold are."""
ENOUGH = 10
"""Positives, and negatives, below which a head is not counted."""


def compare_layers(config: ModerationConfig, run: Run, counts: Sequence[int]) -> dict[str, Any]:
    """Train the first stage with adapters on each number of upper layers, write what they reach, and return it.

    All see the same sample in the same order; the heads are those of the first stage. Held-out rows are of the fold
    that no adapter sees.
    """
    torch.set_num_threads(run.threads)
    examples = load_examples(run.data, config.data)
    fold = fold_of(examples.group, folds=config.data.folds, seed=config.seed)
    usable = np.isin(examples.licence, config.adapter.licences) & ~np.isin(
        examples.source, config.adapter.without_sources
    )
    rng = np.random.default_rng(config.seed)
    sample = sample_rows(examples, np.flatnonzero(usable & (fold != 0)), config.adapter, rng)
    held = _held_out(examples, np.flatnonzero(usable & (fold == 0)), rng)
    rows, place = np.unique(np.concatenate([sample, held]), return_inverse=True)
    some = examples.take(rows)
    found = [
        _measure(config, run, some, place[: len(sample)], place[len(sample) :], layers=layers) for layers in counts
    ]
    report = {
        "title": "Wardline: how many layers carry LoRA",
        "created": datetime.now(UTC).date().isoformat(),
        "command": "python wardline.py train layers",
        "seed": config.seed,
        "n": {"sample": len(sample), "held_out": len(held)},
        "rank": config.adapter.rank,
        "layers": found,
    }
    write_json(run.out, report)
    return report


def _held_out(examples: Examples, rows: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    own = examples.source[rows] == OWN_ADS
    ads = rows[own & (examples.kind[rows] != DISGUISED)]
    public = rows[~own]
    return np.concatenate([ads, rng.choice(public, min(HELD_OUT_ROWS, len(public)), replace=False)])


def _measure(
    config: ModerationConfig,
    run: Run,
    examples: Examples,
    sample: NDArray[np.intp],
    held: NDArray[np.intp],
    *,
    layers: int,
) -> dict[str, Any]:
    adapter = dataclasses.replace(config.adapter, layers=layers)
    base = load_rounded(config)
    everything = np.ones(len(examples), dtype=np.bool_)
    texts = read_texts(base, examples, adapter, runs=run.runs, threads=run.threads, shared=everything)
    weighted = weigh(examples.take(sample), ad_weight=1.0, unlabelled_share=config.heads.unlabelled_share)
    folder = run.runs / f"layers-{layers}-{_key(base, adapter)}"
    rows = Rows(texts.branch(sample), weighted)
    trained = train_adapter(load_rounded(config), rows, adapter, config.heads, folder=folder, seed=config.seed)
    states = texts.states(trained.folder, folder=folder, threads=run.threads, rows=held)
    heads = load_heads(trained.heads, config.heads)
    logits = logits_of(heads, states, np.arange(len(held)))
    return {"layers": layers, **_scores(logits, examples.take(held))}


def _key(base: BaseModel, config: AdapterConfig) -> str:
    return f"{base.sha256[:8]}-{config.rows}-{config.rank}"


def _scores(logits: NDArray[np.float32], held: Examples) -> dict[str, Any]:
    """Return macro average precision, with its interval over groups, of our own ads and of public rows."""
    own = held.source == OWN_ADS
    result: dict[str, Any] = {}
    for name, rows in (("ads", np.flatnonzero(own)), ("public", np.flatnonzero(~own))):
        some, targets = logits[rows], held.targets[rows]
        heads = [h for h in range(len(HEADS)) if min((targets[:, h] == value).sum() for value in (0, 1)) >= ENOUGH]
        macro = partial(_macro, targets, some, heads)
        interval = bootstrap_interval(macro, held.group[rows].tolist())
        found = _average_precision(targets, some, heads, np.ones(len(rows), dtype=np.int64))
        result[name] = {
            "rows": len(rows),
            "macro_ap": float(np.mean(found)),
            "low": interval.low,
            "high": interval.high,
            "ap": dict(zip([HEADS[h] for h in heads], found, strict=True)),
        }
    return result


def _macro(
    targets: NDArray[np.float32], logits: NDArray[np.float32], heads: Sequence[int], weights: NDArray[np.int64]
) -> float:
    return float(np.mean(_average_precision(targets, logits, heads, weights)))


def _average_precision(
    targets: NDArray[np.float32], logits: NDArray[np.float32], heads: Sequence[int], weights: NDArray[np.int64]
) -> list[float]:
    """Return the average precision of each head over the rows that have a label; NaN without one of each kind."""
    return [average_precision(targets[:, h], logits[:, h], weights=weights) for h in heads]
