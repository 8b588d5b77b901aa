"""In-batch softmax over pairs, in both directions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def infonce(left: Tensor, right: Tensor, *, temperature: float, group: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy of finding each row's partner among all rows of the other side, as a scalar.

    With `s_ij = left_i . right_j / temperature`, the mean of `-log softmax_j(s_ii)` and `-log softmax_i(s_ii)` (van den
    Oord et al. 2018, arXiv 1807.03748, eq. 4; both directions as in Radford et al. 2021, arXiv 2103.00020, fig. 3).
    Rows of one group are no negatives of each other: two translations of one sentence are both right.

    Args:
        left: float `[b, d]`, unit vectors.
        right: float `[b, d]`, unit vectors; row i is the partner of row i.
        temperature: above 0.
        group: int64 `[b]`; None makes every row a group of its own.

    Returns:
        A scalar, at least 0.
    """
    scores = left @ right.T / temperature  # [b, b]
    partner = torch.arange(len(left), device=left.device)
    if group is not None:
        same = (group[:, None] == group[None, :]) & (partner[:, None] != partner[None, :])
        scores = scores.masked_fill(same, torch.finfo(scores.dtype).min)
    return (cross_entropy(scores, partner) + cross_entropy(scores.T, partner)) / 2
