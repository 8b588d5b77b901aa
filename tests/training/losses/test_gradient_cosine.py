from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cosine_similarity

from training.losses.gradient_cosine import gradient_cosines


def test_by_hand() -> None:
    found = gradient_cosines(torch.tensor([[3.0, 4.0], [4.0, 3.0], [-6.0, -8.0], [-4.0, 3.0]]))
    expected = [[1.0, 0.96, -1.0, 0.0], [0.96, 1.0, -0.96, -0.28], [-1.0, -0.96, 1.0, 0.0], [0.0, -0.28, 0.0, 1.0]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_equals_torchs_own_pair_by_pair() -> None:
    gradients = torch.randn(5, 11, generator=torch.Generator().manual_seed(0))
    expected = cosine_similarity(gradients[:, None], gradients[None, :], dim=-1)
    torch.testing.assert_close(gradient_cosines(gradients), expected)


def test_a_row_of_zeros_is_0_to_all_and_to_itself() -> None:
    found = gradient_cosines(torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]))
    half = 0.5**0.5
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.0, half], [0.0, 0.0, 0.0], [half, 0.0, 1.0]]))
    assert torch.equal(gradient_cosines(torch.zeros(2, 3)), torch.zeros(2, 2))


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e15, 1e37])
def test_the_scale_of_a_row_does_not_matter(scale: float) -> None:
    gradients = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    scaled = gradients * torch.tensor([[scale], [1.0], [scale], [1.0]])
    torch.testing.assert_close(gradient_cosines(scaled), gradient_cosines(gradients))


def test_no_rounding_leaves_the_range() -> None:
    gradients = torch.randn(60, 11, generator=torch.Generator().manual_seed(2))
    found = gradient_cosines(torch.cat([gradients, -3 * gradients]))
    assert float(found.abs().max()) <= 1
    torch.testing.assert_close(found.diagonal(60), -torch.ones(60))
