"""Class weights: the rarer side of a label weighs more, by the effective number of its examples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClassWeights:
    """What one positive and one negative of each label weigh; on average over the counted examples, 1."""

    positive: Tensor
    """float32 `[L]`, above 0"""
    negative: Tensor
    """float32 `[L]`, above 0"""


def class_weights(positives: Tensor, negatives: Tensor, *, beta: float) -> ClassWeights:
    """Return the weights of positives and negatives, inverse to their effective numbers.

    The effective number of n examples is `(1 - beta^n) / (1 - beta)` (Cui et al. 2019, arXiv 1901.05555, proposition
    1, eq. 2). Departures: each label is a problem of two classes of its own, and its weights are scaled so that they
    average 1 over its examples: balancing a label makes it neither louder nor quieter among the others.

    Args:
        positives: `[L]`, how many positives of each label are known, at least 0.
        negatives: `[L]`, how many negatives.
        beta: in [0, 1). 0 weighs both sides alike; towards 1 the weights become inverse to the counts.

    Returns:
        The weights; 1 for a side without examples, which cannot be balanced.

    Raises:
        ValueError: `beta` lies outside [0, 1).
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta is {beta}; it must be at least 0 and below 1")
    counts = torch.stack([positives, negatives]).double()  # [2, L]
    log_beta = torch.tensor(beta, dtype=torch.float64, device=counts.device).log()
    effective = -torch.expm1(counts.clamp(min=1) * log_beta)  # up to 1 - beta, which the scaling takes out
    scale = counts.sum(dim=0) / (counts / effective).sum(dim=0)  # [L]
    weights = torch.where(counts > 0, scale / effective, 1.0).float()
    return ClassWeights(positive=weights[0], negative=weights[1])
