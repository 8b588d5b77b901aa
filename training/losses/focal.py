"""Focal loss: cross-entropy that listens less to what is already right."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def focal_loss(
    logits: Tensor, targets: Tensor, weights: Tensor, *, gamma: float | Tensor, alpha: float | Tensor | None = None
) -> Tensor:
    """Return the weighted mean focal loss of the labels whose weight is above 0, as a scalar.

    With `p = sigmoid(z)`, one label costs `-y a (1 - p)^gamma log p - (1 - y) (1 - a) p^gamma log(1 - p)` (Lin et al.
    2017, arXiv 1708.02002, eq. 5, as one line for both classes). Departures: the mean is over the known labels and not
    over the positives, and without `alpha` both classes weigh 1 (eq. 4), so that `gamma` 0 is plain cross-entropy.
    The factor is the exponential of `gamma log p`, so that any `gamma` has a finite gradient at any logit.

    Args:
        logits: float `[n, L]`.
        targets: float `[n, L]` in [0, 1]; anything, NaN included, where the weight is 0.
        weights: float `[n, L]`, at least 0; 0 means the label is unknown and reaches neither value nor gradient.
        gamma: at least 0; one for all labels, or float `[L]`. The higher, the less an easy example counts.
        alpha: in [0, 1]; what a positive weighs, a negative weighs `1 - alpha`. One for all labels, or float `[L]`.

    Returns:
        A scalar, at least 0; 0 with zero gradient when no label is known.
    """
    known = weights > 0  # [n, L]
    if not bool(known.any()):
        return logits[known].sum()
    z, y, w = logits[known], targets[known], weights[known]  # [known]
    power = _of_known(gamma, logits, known)
    positive = -torch.exp(power * logsigmoid(-z)) * logsigmoid(z)
    negative = -torch.exp(power * logsigmoid(z)) * logsigmoid(-z)
    if alpha is not None:
        share = _of_known(alpha, logits, known)
        positive, negative = share * positive, (1 - share) * negative
    return ((y * positive + (1 - y) * negative) * w).sum() / w.sum()


def _of_known(value: float | Tensor, logits: Tensor, known: Tensor) -> Tensor:
    """Return a number, or one per label, as float `[known]`: one for each known label of `logits`."""
    return torch.as_tensor(value, dtype=logits.dtype, device=logits.device).expand_as(logits)[known]
