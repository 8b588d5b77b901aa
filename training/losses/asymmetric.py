"""Asymmetric loss: easy negatives fade faster than easy positives, and the easiest are dropped."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def asymmetric_loss(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor,
    *,
    gamma_positive: float | Tensor,
    gamma_negative: float | Tensor,
    clip: float,
) -> Tensor:
    """Return the weighted mean asymmetric loss of the labels whose weight is above 0, as a scalar.

    With `p = sigmoid(z)` and `q = max(p - clip, 0)`, one label costs `-y (1 - p)^gamma_positive log p - (1 - y)
    q^gamma_negative log(1 - q)` (Ridnik et al. 2021, arXiv 2009.14119, eqs. 4-7). The gradient passes through the
    focusing factors too, as in the paper's analysis of it. Departure: a mean over the known labels, not a sum.

    Args:
        logits: float `[n, L]`.
        targets: float `[n, L]` in [0, 1]; anything, NaN included, where the weight is 0.
        weights: float `[n, L]`, at least 0; 0 means the label is unknown and reaches neither value nor gradient.
        gamma_positive: at least 0; one for all labels, or float `[L]`. 0 leaves positives their cross-entropy.
        gamma_negative: the same for negatives.
        clip: in [0, 1); a negative whose probability is no higher costs nothing. 0 drops none.

    Returns:
        A scalar, at least 0; 0 with zero gradient when no label is known.
    """
    known = weights > 0  # [n, L]
    if not bool(known.any()):
        return logits[known].sum()
    z, y, w = logits[known], targets[known], weights[known]  # [known]
    positive = -torch.exp(_of_known(gamma_positive, logits, known) * logsigmoid(-z)) * logsigmoid(z)
    negative = _negative(z, _of_known(gamma_negative, logits, known), clip)
    return ((y * positive + (1 - y) * negative) * w).sum() / w.sum()


def _negative(z: Tensor, gamma: Tensor, clip: float) -> Tensor:
    """Return `-q^gamma log(1 - q)`, float `[known]`, in logarithms: a power of a small q has no finite gradient."""
    log_p, log_clip = logsigmoid(z), torch.tensor(clip, dtype=z.dtype, device=z.device).log()
    counts = log_clip < log_p
    gap = (log_clip - log_p).masked_fill(~counts, -1.0)  # masked before the logarithm, which is NaN where p < clip
    log_q = log_p + torch.log(-torch.expm1(gap))
    log_rest = torch.logaddexp(logsigmoid(-z), log_clip)  # log(1 - p + clip)
    return (-torch.exp(gamma * log_q) * log_rest).masked_fill(~counts, 0.0)


def _of_known(value: float | Tensor, logits: Tensor, known: Tensor) -> Tensor:
    """Return a number, or one per label, as float `[known]`: one for each known label of `logits`."""
    return torch.as_tensor(value, dtype=logits.dtype, device=logits.device).expand_as(logits)[known]
