from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn.functional import cross_entropy

from training.losses.class_balanced import class_weights
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


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.9999])
def test_under_masked_cross_entropy_they_are_torchs_class_weights(beta: float) -> None:
    """Two classes weighed by the formula of the paper (Cui et al. 2019, section 4), its scale taken out by the mean."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(60, 3, generator=generator)
    targets = (torch.rand(60, 3, generator=generator) < torch.tensor([0.1, 0.5, 0.8])).float()
    found = class_weights((targets == 1).sum(dim=0), (targets == 0).sum(dim=0), beta=beta)
    balance = torch.where(targets == 1, found.positive, found.negative)
    for j in range(3):
        label = slice(j, j + 1)
        y = targets[:, j].long()
        classes = ((1 - beta) / (1 - beta ** torch.bincount(y).double())).float()
        expected = cross_entropy(torch.stack([0 * logits[:, j], logits[:, j]], dim=1), y, weight=classes)
        torch.testing.assert_close(masked_bce(logits[:, label], targets[:, label], balance[:, label]), expected)
