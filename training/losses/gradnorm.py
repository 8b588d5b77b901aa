"""GradNorm: weights of the tasks under which all train at one pace."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

FLOOR = 1e-3
"""The least weight before scaling, a thousandth of the mean: a plain step could cross 0, where a task is lost."""


@dataclass(frozen=True)
class GradNormState:
    """The weights of K tasks, and where their losses began."""

    initial_losses: Tensor
    """float `[K]`, above 0"""
    weights: Tensor
    """float `[K]`, above 0, sum K; ones at the start"""


@torch.no_grad()
def gradnorm(
    state: GradNormState, norms: Tensor, losses: Tensor, *, alpha: float, learning_rate: float
) -> GradNormState:
    """Return the state after one step on the weights (Chen et al. 2018, arXiv 1711.02257, algorithm 1, eqs. 1-2).

    With `G_i` the norms, `G` their mean and `r_i` task i's `loss / initial loss` over the mean of these ratios: one
    step of plain descent on `sum_i |G_i - G r_i^alpha|`, its targets held fixed, then scaling to sum K. The gradient of
    `G_i` by `w_i` is `G_i / w_i`. Departures: `FLOOR`, and a weight whose norm only rounding parts from its target
    takes no step.

    Args:
        state: before the step; it is not changed.
        norms: float `[K]`, at least 0: of the gradients of `weight * loss` by the shared parameters.
        losses: float `[K]`, at least 0, without their weights.
        alpha: at least 0; how hard slow tasks are pulled along. 0 only makes the norms equal.
        learning_rate: of the weights, above 0.
    """
    ratios = losses / state.initial_losses  # [K]
    rates = ratios / ratios.mean().clamp(min=torch.finfo(ratios.dtype).tiny)
    wanted = norms.mean() * rates**alpha
    direction = torch.sign(norms - wanted).masked_fill(torch.isclose(norms, wanted, atol=0.0), 0.0)
    weights = (state.weights - learning_rate * direction * norms / state.weights).clamp(min=FLOOR)
    return replace(state, weights=weights * len(weights) / weights.sum())
