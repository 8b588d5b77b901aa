from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from training.losses.class_balanced import ClassWeights, class_balanced_bce, class_weights
from training.losses.masked_bce import masked_bce

POSITIVES, NEGATIVES = torch.tensor([1, 40, 7, 3000]), torch.tensor([2, 40, 9000, 5])


def test_numbers_of_one_label() -> None:
    found = class_weights(torch.tensor([1]), torch.tensor([2]), beta=0.5)
    # effective numbers 1 and 1.5, so the weights stand as 3 to 2, and b+ + 2 b- = 3
    assert found.positive.tolist() == pytest.approx([9 / 7])
    assert found.negative.tolist() == pytest.approx([6 / 7])


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.99, 0.9999, 1 - 1e-9])
def test_they_are_inverse_to_the_effective_numbers_and_average_1(beta: float) -> None:
    found = class_weights(POSITIVES, NEGATIVES, beta=beta)
    total = found.positive * POSITIVES + found.negative * NEGATIVES
    torch.testing.assert_close(total, (POSITIVES + NEGATIVES).float())
    for j in range(4):
        # the effective number as what it is, a sum of ever smaller shares (Cui et al. 2019, section 3.2)
        positive, negative = (sum(beta**k for k in range(int(count[j]))) for count in (POSITIVES, NEGATIVES))
        assert float(found.positive[j] / found.negative[j]) == pytest.approx(negative / positive, rel=1e-5)


def test_beta_0_weighs_both_sides_alike() -> None:
    found = class_weights(POSITIVES, NEGATIVES, beta=0.0)
    assert torch.equal(found.positive, torch.ones(4))
    assert torch.equal(found.negative, torch.ones(4))


def test_beta_near_1_is_inverse_frequency_as_scikit_learn_has_it() -> None:
    found = class_weights(POSITIVES, NEGATIVES, beta=1 - 1e-10)
    for j in range(4):
        labels = np.repeat([0, 1], [int(NEGATIVES[j]), int(POSITIVES[j])])
        expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=labels)
        assert [float(found.negative[j]), float(found.positive[j])] == pytest.approx(expected.tolist(), rel=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.999])
def test_a_side_without_examples_weighs_1(beta: float) -> None:
    found = class_weights(torch.tensor([0, 5, 0]), torch.tensor([7, 0, 0]), beta=beta)
    assert torch.equal(found.positive, torch.ones(3))
    assert torch.equal(found.negative, torch.ones(3))


@pytest.mark.parametrize("beta", [-0.1, 1.0, math.nan])
def test_another_beta_is_refused(beta: float) -> None:
    with pytest.raises(ValueError, match=f"beta is {beta}; it must be at least 0 and below 1"):
        class_weights(POSITIVES, NEGATIVES, beta=beta)


def test_the_loss_by_hand() -> None:
    balance = ClassWeights(positive=torch.tensor([2.0, 9.0]), negative=torch.tensor([7.0, 0.5]))
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 5.0]])
    targets, weights = torch.tensor([[1.0, 0.0], [0.25, math.nan]]), torch.tensor([[1.0, 3.0], [2.0, 0.0]])
    # 1 * 2 ln 2; 3 * 0.5 ln 4; 2 * (0.25 * 2 + 0.75 * 7) ln 2; over 6
    expected = (2 + 3 + 11.5) * math.log(2) / 6
    assert class_balanced_bce(logits, targets, weights, balance).item() == pytest.approx(expected)


def test_the_weights_of_beta_0_give_masked_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(7, 4, generator=generator), torch.rand(7, 4, generator=generator)
    weights = torch.rand(7, 4, generator=generator) * (torch.rand(7, 4, generator=generator) > 0.4)
    balance = class_weights(POSITIVES, NEGATIVES, beta=0.0)
    found = class_balanced_bce(logits, targets, weights, balance)
    torch.testing.assert_close(found, masked_bce(logits, targets, weights))


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.9999])
def test_on_the_counted_examples_a_model_that_knows_nothing_costs_ln_2_at_any_beta(beta: float) -> None:
    targets = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, 0.0], [0.0, math.nan]])
    balance = class_weights((targets == 1).sum(dim=0), (targets == 0).sum(dim=0), beta=beta)
    loss = class_balanced_bce(torch.zeros(5, 2), targets, (~targets.isnan()).float(), balance)
    assert loss.item() == pytest.approx(math.log(2))


def test_extreme_logits_and_what_is_unknown() -> None:
    balance = class_weights(torch.tensor([1, 1]), torch.tensor([3, 3]), beta=1 - 1e-9)  # 2 and 2/3
    logits = torch.tensor([[-200.0, 200.0], [1e38, 200.0]], requires_grad=True)
    targets, weights = torch.tensor([[1.0, 0.0], [math.nan, 1.0]]), torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    loss = class_balanced_bce(logits, targets, weights, balance)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx((400 + 400 / 3) / 3)
    torch.testing.assert_close(gradient, torch.tensor([[-2 / 3, 2 / 9], [0.0, 0.0]]))


@pytest.mark.parametrize("rows", [0, 3])
def test_nothing_known_is_zero_with_zero_gradient(rows: int) -> None:
    logits = torch.full((rows, 4), 1e38, requires_grad=True)
    balance = class_weights(POSITIVES, NEGATIVES, beta=0.9)
    loss = class_balanced_bce(logits, torch.full((rows, 4), torch.nan), torch.zeros(rows, 4), balance)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == 0
    assert torch.equal(gradient, torch.zeros(rows, 4))
