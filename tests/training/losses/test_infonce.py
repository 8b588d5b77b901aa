from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from training.losses.infonce import infonce


def vectors(n: int, *, seed: int, d: int = 5) -> torch.Tensor:
    return normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def by_hand(left: np.ndarray, right: np.ndarray, temperature: float, group: list[int]) -> float:
    total = 0.0
    for one, other in ((left, right), (right, left)):
        for i in range(len(one)):
            rivals = [j for j in range(len(one)) if j == i or group[j] != group[i]]
            exps = {j: math.exp(float(one[i] @ other[j]) / temperature) for j in rivals}
            total -= math.log(exps[i] / sum(exps.values()))
    return total / (2 * len(left))


@pytest.mark.parametrize("temperature", [0.05, 1.0])
@pytest.mark.parametrize("group", [[0, 1, 2, 3, 4, 5], [0, 0, 1, 2, 2, 2], [7] * 6])
def test_it_is_what_the_formula_says(temperature: float, group: list[int]) -> None:
    left, right = vectors(6, seed=0), vectors(6, seed=1)
    found = infonce(left, right, temperature=temperature, group=torch.tensor(group))
    assert float(found) == pytest.approx(by_hand(left.numpy(), right.numpy(), temperature, group), abs=1e-9)


def test_without_groups_every_row_is_its_own() -> None:
    left, right = vectors(6, seed=0), vectors(6, seed=1)
    alone = infonce(left, right, temperature=0.1, group=torch.arange(6))
    assert float(infonce(left, right, temperature=0.1)) == float(alone)


def test_found_partners_cost_nothing_and_the_gradient_pulls_them_together() -> None:
    same = torch.eye(4)
    assert float(infonce(same, same, temperature=0.01)) < 1e-6
    left = vectors(4, seed=2).requires_grad_()
    right = vectors(4, seed=3)
    before = infonce(left, right, temperature=0.5)
    before.backward()
    nearer = normalize((left - 0.1 * left.grad).detach(), dim=-1)  # type: ignore[operator]
    assert infonce(nearer, right, temperature=0.5).item() < before.item()


def test_one_pair_has_no_negatives() -> None:
    assert float(infonce(vectors(1, seed=0), vectors(1, seed=1), temperature=0.05)) == 0.0
