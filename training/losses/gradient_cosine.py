"""Cosines between the gradients of tasks: who pulls with whom."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize


def gradient_cosines(gradients: Tensor) -> Tensor:
    """Return the cosine of every pair of tasks' gradients, float `[K, K]` in [-1, 1].

    1 means that a step for one is a step for the other, 0 that they do not touch, -1 that each undoes the other
    (below 0, the conflicts of Yu et al. 2020, arXiv 2001.06782, definition 1). A row of zeros has cosine 0 with every
    row, itself included: the diagonal says which tasks had a gradient at all.

    Args:
        gradients: float `[K, p]`, p at least 1, finite, of any scale.
    """
    largest = gradients.abs().amax(dim=1, keepdim=True)  # [K, 1]
    scaled = gradients / largest.masked_fill(largest == 0, 1.0)  # [K, p]; the square of 1e-30 is 0 in float32
    unit = normalize(scaled, dim=1)
    return (unit @ unit.T).clamp(-1.0, 1.0)
