from __future__ import annotations

import math

import pytest
import torch

from training.losses.asymmetric import asymmetric_loss
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


def by_hand(z: float, y: float, gamma_positive: float, gamma_negative: float, clip: float) -> float:
    p = 1 / (1 + math.exp(-z))
    q = max(p - clip, 0.0)
    return -y * math.pow(1 - p, gamma_positive) * math.log(p) - (1 - y) * math.pow(q, gamma_negative) * math.log(1 - q)


def negative_of(z: float, *, gamma: float, clip: float) -> tuple[float, float]:
    """Return the loss of one negative in float32, and its gradient."""
    logits = torch.tensor([[z]], requires_grad=True)
    zero, one = torch.zeros(1, 1), torch.ones(1, 1)
    loss = asymmetric_loss(logits, zero, one, gamma_positive=1.0, gamma_negative=gamma, clip=clip)
    (gradient,) = torch.autograd.grad(loss, logits)
    return loss.item(), gradient.item()


def test_numbers_of_one_label() -> None:
    logits, one = torch.tensor([[math.log(3)]]), torch.ones(1, 1)
    positive = asymmetric_loss(logits, one, one, gamma_positive=1.0, gamma_negative=4.0, clip=0.05)
    assert positive.item() == pytest.approx(math.log(4 / 3) / 4)  # p = 3/4
    assert negative_of(math.log(3), gamma=4.0, clip=0.05)[0] == pytest.approx(0.2401 * -math.log(0.3))  # q = 0.7


@pytest.mark.parametrize("clip", [0.0, 0.05, 0.6])
@pytest.mark.parametrize(
    ("gamma_positive", "gamma_negative"), [(0.0, 4.0), (1.0, 4.0), (0.5, 0.0), (2.0, 1.3)], ids=str
)
def test_it_is_what_the_formula_says(gamma_positive: float, gamma_negative: float, clip: float) -> None:
    logits, targets, weights = entries()
    gammas = {"gamma_positive": gamma_positive, "gamma_negative": gamma_negative}
    total = 0.0
    for i, j in (weights > 0).nonzero().tolist():
        total += float(weights[i, j]) * by_hand(float(logits[i, j]), float(targets[i, j]), clip=clip, **gammas)
    found = asymmetric_loss(logits, targets, weights, clip=clip, **gammas)
    assert found.item() == pytest.approx(total / weights.sum().item())


def test_gammas_may_differ_by_label() -> None:
    logits, targets, weights = entries()
    gammas = torch.tensor([0.0, 1.0, 2.0, 3.5])
    found = asymmetric_loss(logits, targets, weights, gamma_positive=gammas, gamma_negative=gammas.flip(0), clip=0.1)
    parts = [
        asymmetric_loss(
            logits[:, [j]],
            targets[:, [j]],
            weights[:, [j]],
            gamma_positive=float(gammas[j]),
            gamma_negative=float(gammas[3 - j]),
            clip=0.1,
        )
        for j in range(4)
    ]
    torch.testing.assert_close(found, torch.stack(parts) @ weights.sum(dim=0) / weights.sum())


def test_without_focus_and_clip_it_is_masked_cross_entropy() -> None:
    logits, targets, weights = entries()
    loss = asymmetric_loss(logits, targets, weights, gamma_positive=0.0, gamma_negative=0.0, clip=0.0)
    torch.testing.assert_close(loss, masked_bce(logits, targets, weights))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_with_equal_focus_and_no_clip_it_is_the_focal_loss(gamma: float) -> None:
    logits, targets, weights = entries()
    loss = asymmetric_loss(logits, targets, weights, gamma_positive=gamma, gamma_negative=gamma, clip=0.0)
    torch.testing.assert_close(loss, focal_loss(logits, targets, weights, gamma=gamma))


@pytest.mark.parametrize("z", [-2.0, 0.0, 3.0])
def test_the_gradient_of_a_negative_is_that_of_the_formula(z: float) -> None:
    p = 1 / (1 + math.exp(-z))
    q = p - 0.05
    # dq/dz = p (1 - p), and d/dq of -q^gamma log(1 - q)
    expected = p * (1 - p) * (q**1.5 / (1 - q) - 1.5 * q**0.5 * math.log(1 - q))
    assert negative_of(z, gamma=1.5, clip=0.05)[1] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 4.0])
@pytest.mark.parametrize("z", [-200.0, -95.0, math.log(0.05 / 0.95) - 1e-3])
def test_a_negative_below_the_clip_costs_nothing_and_pulls_nothing(gamma: float, z: float) -> None:
    assert negative_of(z, gamma=gamma, clip=0.05) == (0.0, 0.0)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 4.0])
@pytest.mark.parametrize("clip", [0.05, 0.999])
@pytest.mark.parametrize("width", [2e-3, 5e-5])
def test_across_the_clip_the_loss_leaves_0_without_a_jump(gamma: float, clip: float, width: float) -> None:
    middle = math.log(clip / (1 - clip))
    for step in range(-30, 31):
        loss, gradient = negative_of(middle + step / 30 * width, gamma=gamma, clip=clip)
        assert 0 <= loss < 1e-3
        assert 0 <= gradient < 0.1


@pytest.mark.parametrize("gamma", [0.0, 0.3, 4.0])
def test_a_negative_far_above_the_clip_costs_the_clips_logarithm_and_pulls_nothing(gamma: float) -> None:
    loss, gradient = negative_of(200.0, gamma=gamma, clip=0.05)
    assert loss == pytest.approx(0.95**gamma * -math.log(0.05), rel=1e-5)
    assert gradient == 0.0


@pytest.mark.parametrize("gamma", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("z", [200.0, 103.0, 95.0, 88.0])
def test_extreme_logits_without_clip_have_finite_values_and_gradients(gamma: float, z: float) -> None:
    logits = torch.tensor([[z, -z, z, -z]], requires_grad=True)
    targets = torch.tensor([[0.0, 1.0, 1.0, 0.0]])
    loss = asymmetric_loss(logits, targets, torch.ones(1, 4), gamma_positive=gamma, gamma_negative=gamma, clip=0.0)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(z / 2)
    assert gradient.tolist()[0] == pytest.approx([0.25, -0.25, 0.0, 0.0], abs=1e-30)


@pytest.mark.parametrize("unknown", [math.nan, math.inf, -7.0])
def test_what_is_unknown_reaches_neither_value_nor_gradient(unknown: float) -> None:
    options = {"gamma_positive": 1.0, "gamma_negative": 2.5, "clip": 0.05}
    logits = torch.tensor([[0.3, 1e38], [-1e38, 1.0]], requires_grad=True)
    targets, weights = torch.tensor([[1.0, unknown], [unknown, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    (gradient,) = torch.autograd.grad(asymmetric_loss(logits, targets, weights, **options), logits)
    kept = torch.tensor([[0.3, 1.0]], requires_grad=True)
    loss = asymmetric_loss(kept, torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 2.0]]), **options)
    (expected,) = torch.autograd.grad(loss, kept)
    torch.testing.assert_close(gradient, torch.diag(expected[0]))


@pytest.mark.parametrize("rows", [0, 3])
def test_nothing_known_is_zero_with_zero_gradient(rows: int) -> None:
    logits = torch.full((rows, 2), 1e38, requires_grad=True)
    unknown = torch.full((rows, 2), torch.nan)
    loss = asymmetric_loss(logits, unknown, torch.zeros(rows, 2), gamma_positive=1.0, gamma_negative=4.0, clip=0.05)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == 0
    assert torch.equal(gradient, torch.zeros(rows, 2))
