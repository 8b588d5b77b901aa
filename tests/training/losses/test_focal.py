from __future__ import annotations

import math

import pytest
import torch

from training.losses.focal import focal_loss
from training.losses.masked_bce import masked_bce


def entries(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return logits, targets and weights `[9, 4]`, where what is unknown has the target NaN."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(9, 4, generator=generator, dtype=torch.float64)
    targets = torch.rand(9, 4, generator=generator, dtype=torch.float64).round()
    targets[0] = 0.3  # soft
    weights = torch.rand(9, 4, generator=generator, dtype=torch.float64)
    unknown = torch.rand(9, 4, generator=generator) > 0.6
    return logits, targets.masked_fill(unknown, math.nan), weights.masked_fill(unknown, 0.0)


def by_hand(z: float, y: float, *, gamma: float, alpha: float | None) -> float:
    p = 1 / (1 + math.exp(-z))
    positive, negative = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    return -y * positive * math.pow(1 - p, gamma) * math.log(p) - (1 - y) * negative * math.pow(p, gamma) * math.log(
        1 - p
    )


def test_numbers_of_one_label() -> None:
    logits, one = torch.tensor([[math.log(3)]]), torch.ones(1, 1)
    # p = 3/4: 0.25 * (1/4)^2 * ln(4/3), and 0.75 * (3/4)^2 * ln 4
    assert focal_loss(logits, one, one, gamma=2.0, alpha=0.25).item() == pytest.approx(math.log(4 / 3) / 64)
    assert focal_loss(logits, 0 * one, one, gamma=2.0, alpha=0.25).item() == pytest.approx(27 / 64 * math.log(4))


@pytest.mark.parametrize("gamma", [[0.0, 0.5, 1.0, 2.7], [2.0, 2.0, 2.0, 2.0]])
@pytest.mark.parametrize("alpha", [None, [0.25, 0.5, 0.9, 1.0]])
def test_it_is_what_the_formula_says_with_numbers_per_label(gamma: list[float], alpha: list[float] | None) -> None:
    logits, targets, weights = entries()
    total = 0.0
    for i, j in (weights > 0).nonzero().tolist():
        share = None if alpha is None else alpha[j]
        cost = by_hand(float(logits[i, j]), float(targets[i, j]), gamma=gamma[j], alpha=share)
        total += float(weights[i, j]) * cost
    shares = None if alpha is None else torch.tensor(alpha)
    found = focal_loss(logits, targets, weights, gamma=torch.tensor(gamma), alpha=shares)
    assert found.item() == pytest.approx(total / weights.sum().item())


def test_gamma_0_is_masked_cross_entropy() -> None:
    logits, targets, weights = entries()
    loss, expected = focal_loss(logits, targets, weights, gamma=0.0), masked_bce(logits, targets, weights)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(focal_loss(logits, targets, weights, gamma=0.0, alpha=0.5), expected / 2)


def test_the_gradient_is_that_of_the_formula() -> None:
    logits = torch.tensor([[0.7, -1.2]], dtype=torch.float64, requires_grad=True)
    targets, weights = torch.tensor([[1.0, 0.0]]).double(), torch.ones(1, 2).double()
    (gradient,) = torch.autograd.grad(focal_loss(logits, targets, weights, gamma=1.5), logits)
    p, q = 1 / (1 + math.exp(-0.7)), 1 / (1 + math.exp(1.2))
    # Lin et al., appendix B: (1 - p_t)^gamma (gamma p_t log p_t + p_t - 1), with the sign of the class
    expected = [(1 - p) ** 1.5 * (1.5 * p * math.log(p) + p - 1), -(q**1.5) * (1.5 * (1 - q) * math.log(1 - q) - q)]
    assert gradient.tolist()[0] == pytest.approx([value / 2 for value in expected])


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.5, 2.0])
@pytest.mark.parametrize("z", [200.0, 103.0, 95.0, 88.0])
def test_extreme_logits_have_finite_values_and_gradients(gamma: float, z: float) -> None:
    logits = torch.tensor([[z, -z, z, -z]], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([[0.0, 1.0, 1.0, 0.0]]), torch.ones(1, 4), gamma=gamma)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(z / 2)
    assert gradient.tolist()[0] == pytest.approx([0.25, -0.25, 0.0, 0.0], abs=1e-30)


@pytest.mark.parametrize("unknown", [math.nan, math.inf, -7.0])
def test_what_is_unknown_reaches_neither_value_nor_gradient(unknown: float) -> None:
    logits = torch.tensor([[0.3, 1e38], [-1e38, 1.0]], requires_grad=True)
    targets, weights = torch.tensor([[1.0, unknown], [unknown, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    (gradient,) = torch.autograd.grad(focal_loss(logits, targets, weights, gamma=1.5), logits)
    kept = torch.tensor([[0.3, 1.0]], requires_grad=True)
    loss = focal_loss(kept, torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 2.0]]), gamma=1.5)
    (expected,) = torch.autograd.grad(loss, kept)
    torch.testing.assert_close(gradient, torch.diag(expected[0]))


@pytest.mark.parametrize("rows", [0, 3])
def test_nothing_known_is_zero_with_zero_gradient(rows: int) -> None:
    logits = torch.full((rows, 2), 1e38, requires_grad=True)
    loss = focal_loss(logits, torch.full((rows, 2), torch.nan), torch.zeros(rows, 2), gamma=2.0)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == 0
    assert torch.equal(gradient, torch.zeros(rows, 2))
