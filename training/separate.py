"""What region adapters stand beside: one separate full model per region, every weight of it trained on the region."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.adapter import Rows, load_peft, weighted_tensors
from training.base_model import load_rounded
from training.branch import Branch
from training.config import ModerationConfig
from training.heads import PooledHeads
from training.loop import LoopConfig, row_batches, run_steps
from training.losses.masked_bce import masked_bce

log = structlog.get_logger()

LEARNING_RATE, HEAD_LEARNING_RATE = 5e-5, 5e-4
"""Peak rates of a full fine-tune: the usual size for an encoder, and ten times that for its heads."""


def separate_logits(
    config: ModerationConfig,
    rows: Rows,
    held: Branch,
    heads: PooledHeads,
    *,
    moderation: Path,
    folder: Path,
    seed: int,
) -> NDArray[np.float32]:
    """Return the logits float32 `[held, H]` of a model of a region's own: encoder and heads, all weights trained.

    It starts as the encoder with the moderation adapter merged and the shared heads, and sees the same rows as the
    region's adapter, as often. The encoder's second path, where it has one, stays as it is.

    Args:
        config: the run's configuration.
        rows: what it learns from.
        held: rows to score.
        heads: the shared heads; a copy is trained.
        moderation: the moderation adapter, as PEFT saved it.
        folder: where the checkpoint lies.
        seed: seeds the order.
    """
    torch.manual_seed(seed)
    merged = load_peft(load_rounded(config).model, moderation).merge_and_unload()
    # As for the adapters: no dropout in the encoder.
    model, own = merged.eval().requires_grad_(True), copy.deepcopy(heads).train().requires_grad_(True)
    rng = np.random.default_rng(seed)
    steps: list[Callable[[], Tensor]] = [
        partial(_loss, model, own, rows, batch)
        for _ in range(config.regions.epochs)
        for batch in row_batches(rows.branch.lengths, budget=config.adapter.tokens_per_step, rng=rng)
    ]
    groups = [
        {"params": list(model.parameters()), "lr": LEARNING_RATE},
        {"params": list(own.parameters()), "lr": HEAD_LEARNING_RATE},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    loop = LoopConfig(config.adapter.warmup, config.adapter.checkpoint_steps, folder / "checkpoint.pt")
    run_steps([model, own], optimizer, steps, loop, title=folder.name)
    return _score(model, own.eval(), held)


def _loss(model: nn.Module, heads: PooledHeads, rows: Rows, batch: NDArray[np.intp]) -> Tensor:
    logits, _ = heads(*rows.branch.read(model, batch))
    return masked_bce(logits, *weighted_tensors(rows.weighted, batch))


def _score(model: nn.Module, heads: PooledHeads, held: Branch) -> NDArray[np.float32]:
    found = np.zeros((len(held.lengths), heads.heads), dtype=np.float32)
    with torch.no_grad():
        for batch in row_batches(held.lengths, budget=8_192, rng=np.random.default_rng(0)):
            found[batch] = heads(*held.read(model, batch))[0].numpy()
    return found
