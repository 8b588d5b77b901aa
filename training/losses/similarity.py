"""Similarity matching: a student keeps the teacher's similarities, not its coordinates."""

from __future__ import annotations

import torch
from torch import Tensor


def similarity_loss(left: Tensor, right: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of cosines between all pairs of different rows, as a scalar.

    `mean_{i != j} (left_i . right_j - teacher_i . teacher_j)^2`, after similarity-preserving distillation (Tung and
    Mori 2019, arXiv 1907.09682, eq. 4) without its row normalisation: all rows are unit vectors. The teacher's space
    may have another width and is never copied. A row against itself, or its own translation, is left to the pair loss.

    Args:
        left: float `[b, d]`, unit vectors.
        right: float `[b, d]`, unit vectors; may be `left`.
        teacher: float `[b, t]`, unit vectors of the same b meanings.

    Returns:
        A scalar; 0 for a single row.
    """
    others = ~torch.eye(len(left), dtype=torch.bool, device=left.device)
    gap = (left @ right.T - teacher @ teacher.T)[others]
    return gap.square().sum() / max(gap.numel(), 1)
