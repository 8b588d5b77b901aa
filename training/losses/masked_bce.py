"""Binary cross-entropy over the labels that are known."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def masked_bce(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean binary cross-entropy of the labels whose weight is above 0, as a scalar.

    `sum_ij w_ij * BCE(z_ij, y_ij) / sum_ij w_ij` over known labels only. An unknown label is selected away, not
    multiplied by 0, so that its target (usually NaN) reaches neither the value nor the gradient.

    Args:
        logits: float `[n, L]`.
        targets: float `[n, L]` in [0, 1]; anything, NaN included, where the weight is 0.
        weights: float `[n, L]`, at least 0; 0 means the label is unknown.

    Returns:
        A scalar; 0 with zero gradient when no label is known.
    """
    known = weights > 0  # [n, L]
    if not bool(known.any()):
        return torch.zeros((), dtype=logits.dtype) * logits.sum()
    losses = binary_cross_entropy_with_logits(logits[known], targets[known], reduction="none")  # [known]
    return (losses * weights[known]).sum() / weights[known].sum()
