from __future__ import annotations

import pytest
import torch
from torchjd.aggregation import PCGrad

from training.losses.pcgrad import pcgrad, project_conflicts

THREE = torch.tensor([[1.0, 0.0], [-1.0, 1.0], [-2.0, -1.0]])
"""Tasks whose result depends on the order."""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def literally(gradients: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Return algorithm 1 on the vectors themselves, row by row."""
    projected = gradients.clone()
    for i, others in enumerate(order.tolist()):
        for j in [other for other in others if other != i]:
            dot = projected[i] @ gradients[j]
            if dot < 0:
                projected[i] -= dot / gradients[j].square().sum() * gradients[j]
    return projected


def test_two_tasks_by_hand() -> None:
    # their product is -1: (1, 0) + (-1, 1) / 2 and (-1, 1) + (1, 0)
    found = pcgrad(torch.tensor([[1.0, 0.0], [-1.0, 1.0]]), generator=seeded())
    torch.testing.assert_close(found, torch.tensor([0.5, 1.5]))


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ([[0, 1, 2], [0, 1, 2], [0, 1, 2]], [[-0.1, 0.2], [-0.4, 0.8], [-0.5, -0.5]]),
        ([[2, 1, 0], [2, 1, 0], [2, 1, 0]], [[-0.1, -0.1], [0.0, 1.0], [0.0, -1.0]]),
        ([[0, 1, 2], [2, 1, 0], [0, 1, 2]], [[-0.1, 0.2], [0.0, 1.0], [-0.5, -0.5]]),
    ],
)
def test_three_tasks_by_hand_in_each_order(order: list[list[int]], expected: list[list[float]]) -> None:
    torch.testing.assert_close(project_conflicts(THREE, torch.tensor(order)), torch.tensor(expected))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e15])
def test_two_tasks_are_as_torchjd_has_them(seed: int, scale: float) -> None:
    gradients = scale * torch.randn(2, 7, generator=seeded(seed))
    for signed in (gradients, gradients * torch.tensor([[1.0], [-1.0]])):  # one of the two conflicts
        torch.testing.assert_close(pcgrad(signed, generator=seeded()), PCGrad()(signed), atol=1e-6 * scale, rtol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_many_tasks_are_as_the_algorithm_has_them_on_the_vectors(seed: int) -> None:
    gradients = torch.randn(6, 4, generator=seeded(seed), dtype=torch.float64)
    order = torch.stack([torch.randperm(6, generator=seeded(10 * seed + i)) for i in range(6)])
    torch.testing.assert_close(project_conflicts(gradients, order), literally(gradients, order))


def test_the_order_is_drawn_from_the_generator_task_by_task() -> None:
    before = torch.get_rng_state()
    for seed in range(8):
        generator = seeded(seed)
        order = torch.stack([torch.randperm(3, generator=generator) for _ in range(3)])
        found = pcgrad(THREE, generator=seeded(seed))
        torch.testing.assert_close(found, project_conflicts(THREE, order).sum(dim=0))
    assert torch.equal(torch.get_rng_state(), before)
    results = {tuple(pcgrad(THREE, generator=seeded(seed)).tolist()) for seed in range(8)}
    assert len(results) > 1


def test_tasks_without_conflict_give_their_plain_sum() -> None:
    orthogonal = torch.diag(torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close(pcgrad(orthogonal, generator=seeded()), torch.tensor([1.0, 2.0, 3.0]))
    agreeing = torch.tensor([[1.0, 2.0], [3.0, 1.0]])
    torch.testing.assert_close(pcgrad(agreeing, generator=seeded()), torch.tensor([4.0, 3.0]))
    torch.testing.assert_close(pcgrad(agreeing[:1], generator=seeded()), agreeing[0])


def test_a_task_without_gradient_changes_nothing() -> None:
    two = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])
    three = torch.cat([two, torch.zeros(1, 2)])
    torch.testing.assert_close(pcgrad(three, generator=seeded()), torch.tensor([0.5, 1.5]))
    assert torch.equal(pcgrad(torch.zeros(3, 2), generator=seeded()), torch.zeros(2))


def test_opposite_tasks_give_up_everything_and_the_input_stays() -> None:
    opposite = torch.tensor([[3.0, -1.0], [-6.0, 2.0]])
    kept = opposite.clone()
    torch.testing.assert_close(pcgrad(opposite, generator=seeded()), torch.zeros(2))
    assert torch.equal(opposite, kept)
