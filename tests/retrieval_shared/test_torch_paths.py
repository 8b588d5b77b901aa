from __future__ import annotations

from pathlib import Path

import pytest
import torch

from retrieval_shared.torch_paths import (
    PATHS,
    JoinedPaths,
    Projection,
    TwoPaths,
    load_two_paths,
    save_two_paths,
)

IDS = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
"""Ids below 4 are special tokens; the last token of the second text is padding."""


def rows() -> torch.Tensor:
    """Width 2; what special tokens and padding have would show."""
    return torch.tensor(
        [[[9.0, 9.0], [1.0, 0.0], [2.0, 4.0], [9.0, 9.0]], [[9.0, 9.0], [0.0, -5.0], [9.0, 9.0], [torch.nan, 9.0]]]
    )


def joined(matrix: list[list[float]]) -> JoinedPaths:
    paths = JoinedPaths(2)
    with torch.no_grad():
        paths.joint.weight.copy_(torch.tensor(matrix))
    return paths


def test_a_projection_by_hand() -> None:
    projection = Projection(2, 3)
    with torch.no_grad():
        projection.weight.copy_(torch.tensor([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]))
    assert projection(torch.tensor([[1.0, 1.0], [2.0, 0.0]])).tolist() == [[11, 22, 33], [2, 4, 6]]


def test_the_static_vector_by_hand() -> None:
    # ([1, 0] + [2, 4]) / 2 = [1.5, 2], of length 2.5; the one real token of the second text
    found = JoinedPaths(2).static(rows(), IDS, MASK)
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.8], [0.0, -1.0]]))


def test_a_text_of_special_tokens_has_no_static_vector() -> None:
    assert JoinedPaths(2).static(rows()[:1, :2], torch.tensor([[2, 3]]), torch.ones(1, 2)).tolist() == [[0.0, 0.0]]


def test_both_paths_meet_by_hand() -> None:
    paths = joined([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0], [3.0, 0.0]])
    found = paths.join(torch.tensor([[0.6, 0.8]]), torch.tensor([[0.8, 0.6]]))
    # [0.6 + 3 x 0.6, 0.8 + 2 x 0.8] = [2.4, 2.4]
    torch.testing.assert_close(found, torch.full((1, 2), 0.5**0.5))


def test_the_transformer_pools_all_tokens_and_the_static_path_the_real_ones() -> None:
    states = torch.tensor([[[3.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 4.0]]])
    by_the_transformer = joined([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    found = by_the_transformer(rows()[:1], states, IDS[:1], MASK[:1])
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.8]]))
    by_the_static_path = joined([[0.0, 0.0], [0.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    found = by_the_static_path(rows()[:1], states, IDS[:1], MASK[:1])
    torch.testing.assert_close(found, torch.tensor([[0.8, 0.6]]))


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    two = TwoPaths(torch.randn(7, 2, 2, generator=generator), joined([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]))
    save_two_paths(tmp_path, two)
    found = load_two_paths(tmp_path)
    assert found is not None
    assert torch.equal(found.rows, two.rows)
    assert torch.equal(found.input_rows(), two.rows[:, 0])
    assert torch.equal(found.paths.joint.weight, two.paths.joint.weight)
    assert not found.paths.training


def test_an_encoder_with_one_path_has_no_file(tmp_path: Path) -> None:
    assert load_two_paths(tmp_path) is None


def test_a_file_without_the_projection_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"table": torch.zeros(3, 2, 4)}, tmp_path / PATHS)
    with pytest.raises(RuntimeError, match=r"Missing key.*joint\.weight"):
        load_two_paths(tmp_path)
