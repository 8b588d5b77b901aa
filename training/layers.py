"""How many upper layers should carry LoRA: the quality of each number on held-out rows; the bench knows its cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from eval.document import write_json
from training.base_model import load_rounded
from training.config import ModerationConfig
from training.first_stage import Compared, scores, stage_key, train_and_score
from training.moderation import Run
from training.texts import read_texts


def compare_layers(config: ModerationConfig, run: Run, counts: Sequence[int]) -> dict[str, Any]:
    """Train the first stage with adapters on each number of upper layers, write what they reach, and return it.

    All see the same sample in the same order; the heads are those of the first stage. Held-out rows are of the fold
    that no adapter sees.
    """
    torch.set_num_threads(run.threads)
    compared = Compared.of(config, run)
    report = {
        "title": "Wardline: how many layers carry LoRA",
        "created": datetime.now(UTC).date().isoformat(),
        "command": "python wardline.py train layers",
        "seed": config.seed,
        "n": compared.counts,
        "rank": config.adapter.rank,
        "layers": [_measure(config, run, compared, layers=layers) for layers in counts],
    }
    write_json(run.out, report)
    return report


def _measure(config: ModerationConfig, run: Run, compared: Compared, *, layers: int) -> dict[str, Any]:
    stage = dataclasses.replace(config, adapter=dataclasses.replace(config.adapter, layers=layers))
    base, everything = load_rounded(stage), np.ones(len(compared.examples), dtype=np.bool_)
    texts = read_texts(
        base, compared.examples, stage.adapter, runs=run.runs, threads=run.threads, shared=everything
    )  # fmt: skip
    folder = run.runs / f"layers-{layers}-{stage_key(base.sha256, stage, compared)}"
    _, logits = train_and_score(compared, texts, stage, folder=folder, threads=run.threads)
    return {"layers": layers, **scores(logits, compared.examples.take(compared.held))}
