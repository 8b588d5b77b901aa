"""Which heads pull apart: the gradient of each by what all heads share, over rows of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.adapter import Rows, TrainedAdapter, load_peft, shared_parameters
from training.balance import gradients_of
from training.base_model import load_rounded
from training.config import ModerationConfig
from training.examples import HEADS
from training.loop import row_batches
from training.losses.masked_bce import masked_bce
from training.sampling import Weighted
from training.violation_heads import load_heads

PARTS = 5
"""Disjoint parts of a head's rows, a gradient each: two heads that do not touch pull apart in all with chance 1/32."""
MOST_ROWS = 200
"""Positives, and negatives, of a head that its gradient is averaged over, at most: several batches of each."""
ENOUGH = 10
"""Positives, and negatives, below which a head has no gradient here."""


@dataclass(frozen=True)
class HeadGradients:
    """Gradients of H heads, each averaged over parts of its rows; zero where a head has too few."""

    parts: Tensor
    """float `[PARTS, H, p]`, each an estimate of the whole gradient of a head's part of the loss over all rows."""
    rows: NDArray[np.int64]
    """`[H]`, how many rows they rest on."""

    @property
    def whole(self) -> Tensor:
        """Return the gradients float `[H, p]` over all those rows; sums over heads are those of their losses."""
        return self.parts.mean(dim=0)


def head_gradients(trained: TrainedAdapter, rows: Rows, config: ModerationConfig) -> HeadGradients:
    """Return the heads' gradients at the end of a first stage, by its adapter and its pooling block.

    Single batches would not do: their noise is as large as the gradient, and looks like conflict. So each head's is
    averaged over batches of its own, drawn by class, as a rare head's positives carry most of its gradient.

    Args:
        trained: the first stage.
        rows: what it learnt from.
        config: the run; its seed decides which rows are drawn.
    """
    model = load_peft(load_rounded(config).model, trained.folder)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".lora_" in name)
    pool = load_heads(trained.heads, config.heads).eval()
    pool.block.requires_grad_(True)
    shared, rng = shared_parameters(model, pool), np.random.default_rng(config.seed)
    parts = torch.zeros(PARTS, len(HEADS), sum(parameter.numel() for parameter in shared))
    counts = np.zeros(len(HEADS), dtype=np.int64)
    for h in range(len(HEADS)):
        for part, (chosen, weights) in enumerate(_parts(rows.weighted, h, rng)):
            counts[h] += len(chosen)
            budget = config.adapter.tokens_per_step
            for batch in row_batches(rows.branch.lengths[chosen], budget=budget, rng=rng):
                logits, _ = pool(*rows.branch.read(model, chosen[batch]))
                targets = torch.from_numpy(rows.weighted.targets[chosen[batch], h])
                weight = torch.from_numpy(weights[batch])
                # The mean times the weight, so that batches add up whatever stands in each.
                loss = weight.sum() * masked_bce(logits[:, h], targets, weight)
                parts[part, h] += gradients_of(loss[None], shared)[0]
    return HeadGradients(parts, counts)


def _parts(
    weighted: Weighted, h: int, rng: np.random.Generator
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    """Yield disjoint draws of a head's rows and what they weigh there; none where a class has too few.

    Each draw's positives weigh together what all of the head's positives do, and so its negatives.
    """
    known = weighted.weights[:, h] > 0
    classes = [np.flatnonzero(known & (weighted.targets[:, h] == value)) for value in (1, 0)]
    if min(map(len, classes)) < ENOUGH:
        return
    drawn = [rng.permutation(rows)[:MOST_ROWS] for rows in classes]
    totals = [weighted.weights[rows, h].sum() for rows in classes]
    for i in range(PARTS):
        chosen = [rows[i::PARTS] for rows in drawn]
        weights = [weighted.weights[rows, h] for rows in chosen]
        scaled = [weight * (total / weight.sum()) for weight, total in zip(weights, totals, strict=True)]
        yield np.concatenate(chosen), np.concatenate(scaled).astype(np.float32)
