from __future__ import annotations

import pytest
import torch

from training.losses.gradnorm import FLOOR, GradNormState, gradnorm


def state(initial_losses: list[float], weights: list[float]) -> GradNormState:
    return GradNormState(initial_losses=torch.tensor(initial_losses), weights=torch.tensor(weights))


def test_the_first_step_by_hand() -> None:
    # both want the mean norm 2: gradients -1 and +3, so 1.1 and 0.7, scaled by 2 / 1.8
    start = state([4.0, 0.5], [1.0, 1.0])
    after = gradnorm(start, torch.tensor([1.0, 3.0]), torch.tensor([4.0, 0.5]), alpha=1.0, learning_rate=0.1)
    assert after.weights.tolist() == pytest.approx([11 / 9, 7 / 9])
    assert start.weights.tolist() == [1.0, 1.0]
    assert after.initial_losses.tolist() == [4.0, 0.5]


def test_small_norms_count_as_large_ones_do() -> None:
    start, tiny = state([1.0, 1.0], [1.0, 1.0]), torch.tensor([1e-9, 3e-9])
    after = gradnorm(start, tiny, torch.ones(2), alpha=1.0, learning_rate=1e8)
    assert after.weights.tolist() == pytest.approx([11 / 9, 7 / 9])


def test_a_later_step_by_hand() -> None:
    # ratios 1/2 and 1, rates 2/3 and 4/3, wanted 4/9 and 16/9; gradients 1 / 0.5 and -1 / 1.5; then 0.3 and 47/30
    start = state([4.0, 1.0], [0.5, 1.5])
    after = gradnorm(start, torch.tensor([1.0, 1.0]), torch.tensor([2.0, 1.0]), alpha=2.0, learning_rate=0.1)
    assert after.weights.tolist() == pytest.approx([9 / 28, 47 / 28])


def test_the_step_follows_the_gradient_of_the_papers_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    plain, losses, initial = (torch.rand(5, generator=generator) + 0.1 for _ in range(3))
    weights = (torch.rand(5, generator=generator) + 0.5).requires_grad_()
    norms = weights * plain
    rates = losses / initial / (losses / initial).mean()
    apart = (norms - (norms.mean() * rates**1.5).detach()).abs().sum()
    expected = weights.detach() - 0.025 * torch.autograd.grad(apart, weights)[0]
    start = GradNormState(initial_losses=initial, weights=weights.detach())
    after = gradnorm(start, norms.detach(), losses, alpha=1.5, learning_rate=0.025)
    torch.testing.assert_close(after.weights, 5 * expected / expected.sum())


@pytest.mark.parametrize("norm", [1e-6, 0.1, 1 / 3, 1e6])
@pytest.mark.parametrize("tasks", [3, 7, 15])
def test_equal_norms_and_rates_leave_the_weights_alone(norm: float, tasks: int) -> None:
    weights = torch.arange(1.0, tasks + 1)
    start = GradNormState(initial_losses=weights / 7, weights=weights * tasks / weights.sum())
    losses = start.initial_losses * 0.1  # all have come equally far, up to rounding
    after = gradnorm(start, torch.full((tasks,), norm), losses, alpha=1.5, learning_rate=0.1 / norm)
    torch.testing.assert_close(after.weights, start.weights)


def test_a_task_that_trains_slowly_gains_weight_unless_alpha_is_0() -> None:
    start = state([1.0, 1.0, 1.0], [1.0, 1.0, 1.0])
    norms, losses = torch.ones(3), torch.tensor([0.5, 0.9, 0.5])
    after = gradnorm(start, norms, losses, alpha=1.5, learning_rate=0.025).weights
    assert after[1] > 1
    assert after[0] == after[2] < 1
    assert torch.equal(gradnorm(start, norms, losses, alpha=0.0, learning_rate=0.025).weights, start.weights)


def test_steps_end_where_the_norms_are_equal() -> None:
    plain = torch.tensor([0.5, 1.0, 4.0])  # norms at weight 1: the balance is at weights as 1 / norm
    now = state([1.0, 1.0, 1.0], [1.0, 1.0, 1.0])
    for _ in range(2000):
        now = gradnorm(now, now.weights * plain, torch.ones(3), alpha=1.5, learning_rate=0.001)
    expected = 3 / plain / (1 / plain).sum()
    torch.testing.assert_close(now.weights, expected, atol=0.02, rtol=0)


@pytest.mark.parametrize("norms", [[1e8, 1.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 2.0]])
@pytest.mark.parametrize("losses", [[0.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
def test_the_weights_stay_above_0_and_sum_to_their_number(norms: list[float], losses: list[float]) -> None:
    start = state([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    after = gradnorm(start, torch.tensor(norms), torch.tensor(losses), alpha=1.5, learning_rate=0.5).weights
    assert float(after.sum()) == pytest.approx(3)
    assert float(after.min()) > FLOOR / 3


def test_where_every_loss_is_0_every_norm_is_too_large() -> None:
    start = state([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    after = gradnorm(start, torch.tensor([0.0, 1.0, 2.0]), torch.zeros(3), alpha=1.5, learning_rate=0.1).weights
    assert after.tolist() == pytest.approx([1 / 0.9, 1.0, 0.8 / 0.9])


def test_a_step_past_0_ends_on_the_floor() -> None:
    start = state([1.0, 1.0], [1.0, 1.0])
    after = gradnorm(start, torch.tensor([50.0, 0.0]), torch.ones(2), alpha=0.0, learning_rate=1.0).weights
    assert after.tolist() == pytest.approx([2 * FLOOR / (1 + FLOOR), 2 / (1 + FLOOR)])


def test_the_state_keeps_no_graph() -> None:
    losses = torch.tensor([1.0, 2.0], requires_grad=True)
    after = gradnorm(state([1.0, 1.0], [1.0, 1.0]), torch.ones(2), losses * 2, alpha=1.0, learning_rate=0.1)
    assert not after.weights.requires_grad
