"""Second stage: the heads, trained on all rows from cached token states and vectors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from retrieval_shared.batching import token_budget_batches
from training.config import HeadsConfig
from training.examples import HEADS
from training.heads import AttentionHeads
from training.loop import LoopConfig, run_steps
from training.losses.masked_bce import masked_bce
from training.sampling import Weighted
from training.states import TokenStates, padded_states

log = structlog.get_logger()


def train_heads(
    states: TokenStates,
    weighted: Weighted,
    rows: NDArray[np.intp],
    config: HeadsConfig,
    *,
    start_from: Path,
    checkpoint: Path,
    seed: int,
) -> AttentionHeads:
    """Return heads trained on `rows`.

    Args:
        states: cached states and vectors of all n examples.
        weighted: targets and weights of the same n examples.
        rows: the examples to learn from.
        config: this stage.
        start_from: the heads of the first stage.
        checkpoint: where a stopped run resumes from.
        seed: seeds the order and the dropout.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    heads = AttentionHeads(len(HEADS), states.dim, hidden=config.hidden, dropout=config.dropout)
    heads.load_state_dict(load_file(str(start_from)))
    lengths = states.lengths[rows]  # [rows]
    batches = token_budget_batches(lengths.tolist(), budget=config.batch_rows * int(np.median(lengths)))
    steps: list[Callable[[], Tensor]] = [
        partial(_loss, heads, states, weighted, rows[batches[i]])
        for _ in range(config.epochs)
        for i in rng.permutation(len(batches))
    ]
    optimizer = torch.optim.AdamW(heads.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    run_steps([heads.train()], optimizer, steps, LoopConfig(0.05, 500, checkpoint), title="heads")
    return heads.eval()


def _loss(heads: AttentionHeads, states: TokenStates, weighted: Weighted, rows: NDArray[np.intp]) -> Tensor:
    logits, _ = heads(*padded_states(states, rows))
    return masked_bce(logits, torch.from_numpy(weighted.targets[rows]), torch.from_numpy(weighted.weights[rows]))
