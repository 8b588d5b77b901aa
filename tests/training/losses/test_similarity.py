from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from training.losses.similarity import similarity_loss


def vectors(n: int, d: int, *, seed: int) -> torch.Tensor:
    return normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def test_it_is_what_the_formula_says() -> None:
    left, right, teacher = vectors(5, 3, seed=0), vectors(5, 3, seed=1), vectors(5, 7, seed=2)
    gaps = [
        float(left[i] @ right[j] - teacher[i] @ teacher[j]) ** 2 for i in range(5) for j in range(5) if i != j
    ]  # fmt: skip
    assert float(similarity_loss(left, right, teacher)) == pytest.approx(sum(gaps) / 20, abs=1e-12)


def test_a_rotated_teacher_is_matched() -> None:
    teacher = vectors(6, 4, seed=3)
    rotation, _ = torch.linalg.qr(vectors(4, 4, seed=4))
    assert float(similarity_loss(teacher @ rotation, teacher @ rotation, teacher)) < 1e-20


def test_a_single_row_has_nothing_to_match() -> None:
    left = vectors(1, 3, seed=5).requires_grad_()
    loss = similarity_loss(left, left, vectors(1, 3, seed=6))
    loss.backward()
    assert loss.item() == 0.0
    assert left.grad is not None
    assert not left.grad.any()
