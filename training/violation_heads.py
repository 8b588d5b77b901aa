"""Second stage: the heads with their LoRA, trained on all rows from cached token states, each up to its best pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file
from sklearn.metrics import average_precision_score
from torch import Tensor, nn

from retrieval_shared.batching import token_budget_batches
from retrieval_shared.head import ATTENTION_HEADS_KEY
from training.adapter import weighted_tensors
from training.config import HeadsConfig
from training.examples import HEADS, Examples
from training.head_loss import HeadLoss, balanced
from training.heads import PooledHeads, PoolingBlock
from training.loop import LoopConfig, row_batches, run_steps
from training.sampling import Weighted, draw_pass
from training.states import TokenStates, padded_states

log = structlog.get_logger()

ENOUGH = 5
"""Positives, and negatives, below which a head's average precision says too little to stop by."""


@dataclass(frozen=True)
class HeadRows:
    """What the heads learn from."""

    states: TokenStates
    """Cached states and vectors of all n examples."""
    weighted: Weighted
    """Targets and weights of the same n examples."""
    examples: Examples
    """Those n examples."""
    learn: NDArray[np.intp]
    """The examples learnt from."""
    stop: NDArray[np.intp]
    """The examples each head's best pass is found by; may be empty."""


@dataclass(frozen=True)
class TrainedHeads:
    """Heads, each as it was after its best pass."""

    heads: PooledHeads
    passes: tuple[int, ...]
    """`[H]`, the pass each head was taken from, counted from 1."""
    stop_ap: NDArray[np.float64]
    """`[passes, H]`, average precision on the rows to stop by; NaN where there are too few."""


def train_heads(
    rows: HeadRows,
    config: HeadsConfig,
    *,
    start_from: Path,
    checkpoint: Path,
    seed: int,
    passes: tuple[int, ...] | None = None,
) -> TrainedHeads:
    """Return trained heads.

    The heads share no parameter that is trained, so that each may stop by itself: the pass with the highest average
    precision on `rows.stop`, or, where `passes` says so, the pass found before.

    Args:
        rows: what is learnt from.
        config: this stage.
        start_from: block and judges of the first stage.
        checkpoint: where a stopped run resumes from.
        seed: seeds the order, the LoRA and the dropout.
        passes: the pass of each head to keep; None finds it.
    """
    torch.manual_seed(seed)
    heads = load_heads(start_from, config)
    heads.dropout.copy_(torch.tensor([config.dropout_of.get(head, config.dropout) for head in HEADS]))
    rng = np.random.default_rng(seed)
    learnt = balanced(rows.weighted, config)
    batches = [_pass(rows, config, rng) for _ in range(config.epochs)]
    steps: list[Callable[[], Tensor]] = [
        partial(_loss, heads, rows.states, learnt, batch, config) for each in batches for batch in each
    ]
    ends = {int(end): i for i, end in enumerate(np.cumsum([len(each) for each in batches]), start=1)}
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    snapshots = {i: checkpoint.with_suffix(f".pass{i}.pt") for i in ends.values()}

    def after(step: int) -> None:
        if step in ends:
            _save(_own(heads), snapshots[ends[step]])

    loop = LoopConfig(0.05, 200, checkpoint)
    # An earlier run has finished them where all snapshots are there, and no checkpoint is left.
    if checkpoint.is_file() or not all(path.is_file() for path in snapshots.values()):
        run_steps([heads.train()], _optimizer(heads, config), steps, loop, title="heads", after=after)
    found = [torch.load(path, weights_only=True) for path in snapshots.values()]
    scores = np.array([_average_precision(heads, state, rows) for state in found])  # [passes, H]
    best = passes or tuple(_best(scores[:, h]) for h in range(len(HEADS)))
    _restore(heads, {name: _picked([state[name] for state in found], best) for name in found[0]})
    log.info("heads", passes=dict(zip(HEADS, best, strict=True)))
    return TrainedHeads(heads.eval(), best, scores)


def _pass(rows: HeadRows, config: HeadsConfig, rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """Return the batches of one pass, as numbers of examples."""
    drawn = rows.learn[draw_pass(rows.examples.take(rows.learn), rows=config.rows_per_pass, rng=rng)]
    lengths = rows.states.lengths[drawn]
    budget = config.batch_rows * int(np.median(lengths))
    return [drawn[batch] for batch in row_batches(lengths, budget=budget, rng=rng)]


def _optimizer(heads: PooledHeads, config: HeadsConfig) -> torch.optim.Optimizer:
    """Return AdamW over the judges and, from its start on, the LoRA."""
    groups = [
        {"params": list(heads.judge.parameters()), "lr": config.learning_rate},
        {"params": list(heads.lora.parameters()), "lr": config.learning_rate, "start": config.lora_start},
    ]
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay)


def load_heads(path: Path, config: HeadsConfig) -> PooledHeads:
    """Return the heads of the first stage with fresh LoRA; the block is frozen, and rounded as it is served."""
    state = load_file(str(path))
    with safe_open(str(path), framework="pt") as file:
        attention_heads = int(file.metadata()[ATTENTION_HEADS_KEY])
    dim = state["judge.look"].shape[1]
    heads = PooledHeads(
        PoolingBlock(dim, attention_heads), len(HEADS), hidden=config.hidden, rank=config.rank, alpha=config.alpha
    )
    heads.load_state_dict(state, strict=False)  # the first stage has no LoRA
    with torch.no_grad():
        for parameter in heads.block.parameters():
            parameter.copy_(parameter.half().float())
            parameter.requires_grad_(False)
    return heads


def logits_of(
    heads: nn.Module, states: TokenStates, rows: NDArray[np.intp], *, budget: int = 16_384
) -> NDArray[np.float32]:
    """Return the logits float32 `[rows, H]` of some rows, in their order."""
    found = np.zeros((len(rows), len(HEADS)), dtype=np.float32)
    heads.eval()
    with torch.no_grad():
        for batch in token_budget_batches(states.lengths[rows], budget=budget):
            found[batch] = heads(*padded_states(states, rows[batch]))[0].numpy()
    return found


def _loss(
    heads: PooledHeads, states: TokenStates, weighted: Weighted, batch: NDArray[np.intp], config: HeadsConfig
) -> Tensor:
    logits, _ = heads(*padded_states(states, batch))
    loss = HeadLoss.of(config)(logits, *weighted_tensors(weighted, batch))
    for head, decay in config.weight_decay_of.items():
        own = [value[HEADS.index(head)] for value in _own(heads).values()]
        loss = loss + decay / 2 * sum((value.square().sum() for value in own), start=torch.zeros(()))
    return loss


def _own(heads: PooledHeads) -> dict[str, Tensor]:
    """Return what every head has of its own, the head as first axis."""
    return {name: value for name, value in heads.named_parameters() if not name.startswith("block.")}


def _save(state: dict[str, Tensor], path: Path) -> None:
    """Write a snapshot whole, or none: by its name it is taken for finished."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def _restore(heads: PooledHeads, state: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in state.items():
            heads.get_parameter(name).copy_(value)


def _picked(passes: list[Tensor], best: tuple[int, ...]) -> Tensor:
    return torch.stack([passes[number - 1][h] for h, number in enumerate(best)])


def _average_precision(heads: PooledHeads, state: dict[str, Tensor], rows: HeadRows) -> NDArray[np.float64]:
    """Return `[H]`, NaN where there are too few labels."""
    found = np.full(len(HEADS), np.nan)
    if not len(rows.stop):
        return found
    _restore(heads, state)
    logits = logits_of(heads, rows.states, rows.stop)
    targets, weights = rows.weighted.targets[rows.stop], rows.weighted.weights[rows.stop]
    for h in range(len(HEADS)):
        known = weights[:, h] > 0
        if min((targets[known, h] == value).sum() for value in (0, 1)) >= ENOUGH:
            found[h] = average_precision_score(targets[known, h], logits[known, h], sample_weight=weights[known, h])
    return found


def _best(scores: NDArray[np.float64]) -> int:
    """Return the pass, from 1, with the highest score; the last one where none is known."""
    return len(scores) if np.isnan(scores).all() else int(np.nanargmax(scores)) + 1
