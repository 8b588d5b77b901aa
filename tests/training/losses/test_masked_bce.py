from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from training.losses.masked_bce import masked_bce


def test_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3)]])
    # -ln 0.5 = ln 2 with weight 1, -ln 0.75 = ln(4/3) with weight 3
    loss = masked_bce(logits, torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 3.0]]))
    assert loss.item() == pytest.approx((math.log(2) + 3 * math.log(4 / 3)) / 4)


def test_equals_torchs_own_on_the_known_entries() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(7, 5, generator=generator), torch.rand(7, 5, generator=generator)
    weights = torch.rand(7, 5, generator=generator) * (torch.rand(7, 5, generator=generator) > 0.4)
    known = weights > 0
    expected = binary_cross_entropy_with_logits(logits[known], targets[known], weight=weights[known], reduction="sum")
    torch.testing.assert_close(masked_bce(logits, targets, weights), expected / weights.sum())


@pytest.mark.parametrize("unknown", [math.nan, math.inf, -7.0])
def test_what_is_unknown_reaches_neither_value_nor_gradient(unknown: float) -> None:
    logits = torch.tensor([[0.3, -2.0], [4.0, 1.0]], requires_grad=True)
    targets, weights = torch.tensor([[1.0, unknown], [unknown, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    loss = masked_bce(logits, targets, weights)
    loss.backward()
    kept = masked_bce(torch.tensor([[0.3], [1.0]]), torch.tensor([[1.0], [0.0]]), torch.tensor([[1.0], [2.0]]))
    torch.testing.assert_close(loss.detach(), kept)
    assert logits.grad is not None
    # d/dz = w (sigmoid(z) - y) / sum of weights
    expected = [[(1 / (1 + math.exp(-0.3)) - 1) / 3, 0.0], [0.0, 2 / (1 + math.exp(-1.0)) / 3]]
    torch.testing.assert_close(logits.grad, torch.tensor(expected))


def test_an_extreme_logit_of_an_unknown_label_does_no_harm() -> None:
    logits = torch.tensor([[1e38, 0.0]], requires_grad=True)
    loss = masked_bce(logits, torch.tensor([[torch.nan, 1.0]]), torch.tensor([[0.0, 1.0]]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert logits.grad is not None
    assert logits.grad.tolist() == [[0.0, -0.5]]


@pytest.mark.parametrize("rows", [0, 3])
def test_nothing_known_is_zero_with_zero_gradient(rows: int) -> None:
    logits = torch.randn(rows, 2, requires_grad=True)
    loss = masked_bce(logits, torch.full((rows, 2), torch.nan), torch.zeros(rows, 2))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros(rows, 2))
