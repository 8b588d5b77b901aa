"""Gradient surgery: where two tasks pull against each other, each gives up what the other forbids."""

from __future__ import annotations

import torch
from torch import Tensor


def pcgrad(gradients: Tensor, *, generator: torch.Generator) -> Tensor:
    """Return the sum of the tasks' gradients after projecting conflicts away, float `[p]`.

    Yu et al. 2020 (arXiv 2001.06782, algorithm 1). Each task meets the others in an order of its own, drawn anew. Tasks
    that do not conflict, such as orthogonal ones, give the plain sum.

    Args:
        gradients: float `[K, p]`, one task's gradient of the shared parameters a row, finite.
        generator: on the CPU; K permutations of K are drawn from it, task by task.
    """
    tasks = len(gradients)
    order = torch.stack([torch.randperm(tasks, generator=generator) for _ in range(tasks)])
    return project_conflicts(gradients, order).sum(dim=0)


def project_conflicts(gradients: Tensor, order: Tensor) -> Tensor:
    """Return each task's gradient without what conflicts with the others, float `[K, p]`.

    Row i starts as `g_i`; for every other task j in its order, where `g . g_j < 0`, it becomes
    `g - (g . g_j) / (g_j . g_j) g_j`. The `g_j` are the original ones, so a later step may bring an earlier conflict
    back. All steps are taken on the K x K inner products; the p parameters are read twice, whatever K is.

    Args:
        gradients: float `[K, p]`, finite. A row of zeros conflicts with nobody.
        order: int64 `[K, K]`; row i is a permutation of the tasks, in which i itself is passed over.
    """
    inner = (gradients @ gradients.T).double().cpu()  # [K, K]
    shares = torch.eye(len(gradients), dtype=torch.float64)  # [K, K]: how much of each g_j is in row i by now
    for i, others in enumerate(order.tolist()):
        for j in others:
            overlap = float(inner[j] @ shares[i])
            if j != i and overlap < 0:
                shares[i, j] -= overlap / inner[j, j]
    return shares.to(gradients) @ gradients
