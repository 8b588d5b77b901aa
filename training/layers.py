"""How many upper layers should carry LoRA: the quality of each number on held-out rows; the bench knows its cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eval.document import write_json
from training.base_model import load_rounded
from training.config import ModerationConfig
from training.first_stage import Compared, gains, scores, small_stage, stage_key, train_and_score
from training.moderation import Run
from training.texts import read_texts

ROWS = 20_000
"""Public rows of the sample, unless told otherwise."""


def compare_layers(config: ModerationConfig, run: Run, counts: Sequence[int], *, rows: int = ROWS) -> dict[str, Any]:
    """Train a first stage with adapters on each number of upper layers, write what they reach, and return it.

    All see the same sample in the same order: `rows` public rows and our own ads once, without disguised copies; the
    heads are those of the first stage. Held-out rows are of the fold that no adapter sees. Every number but the first
    also tells its gain over the one before it.
    """
    torch.set_num_threads(run.threads)
    small = small_stage(config, rows)
    compared = Compared.of(small, run)
    held = compared.examples.take(compared.held)
    found: list[dict[str, Any]] = []
    before: NDArray[np.float32] | None = None
    for layers in counts:
        logits = _logits(small, run, compared, layers=layers)
        gain = {} if before is None else {"gain": gains(logits, before, held)}
        found.append({"layers": layers, **scores(logits, held), **gain})
        before = logits
    report = {
        "title": "Wardline: how many layers carry LoRA",
        "created": datetime.now(UTC).date().isoformat(),
        "command": f"python wardline.py train layers --rows {rows}",
        "seed": config.seed,
        "n": compared.counts,
        "rank": config.adapter.rank,
        "layers": found,
    }
    write_json(run.out, report)
    return report


def _logits(config: ModerationConfig, run: Run, compared: Compared, *, layers: int) -> NDArray[np.float32]:
    stage = dataclasses.replace(config, adapter=dataclasses.replace(config.adapter, layers=layers))
    base, everything = load_rounded(stage), np.ones(len(compared.examples), dtype=np.bool_)
    texts = read_texts(
        base, compared.examples, stage.adapter, runs=run.runs, threads=run.threads, shared=everything
    )  # fmt: skip
    folder = run.runs / f"layers-{layers}-{stage_key(base.identity, stage, compared)}"
    _, logits = train_and_score(compared, texts, stage, folder=folder, threads=run.threads)
    return logits
