from __future__ import annotations

import pytest
import torch

from retrieval_shared.torch_rows import int8_rows, mean_pool, pack_rows, read_packed, read_rows, rounded_rows


def test_int8_rows_by_hand() -> None:
    values, scale = int8_rows(torch.tensor([[1.0, -2.0, 0.25], [0.0, 0.0, 0.0]]))
    assert values.dtype == torch.int8
    assert values.tolist() == [[63, -127, 16], [0, 0, 0]]
    assert 2 / 127 <= float(scale[0, 0]) <= 2 / 127 * (1 + 2**-12)
    restored = values.float() * scale
    assert (restored[0] - torch.tensor([1.0, -2.0, 0.25])).abs().max() <= scale[0, 0] / 2


def test_the_largest_value_is_not_clipped_and_zeros_stay_zeros() -> None:
    rows = torch.tensor([[1e-20, -1e-20], [3e38, 1.0], [0.0, -0.0]])
    values, scale = int8_rows(rows)
    assert torch.isfinite(values.float() * scale).all()
    assert values.tolist() == [[0, 0], [127, 0], [0, 0]]


def test_each_row_of_a_stack_has_its_own_scale() -> None:
    _, scale = int8_rows(torch.tensor([[[1.0, 0.0], [127.0, 0.0]], [[0.0, 254.0], [0.0, 0.0]]]))
    assert scale.shape == (2, 2, 1)
    torch.testing.assert_close(scale[..., 0], torch.tensor([[1 / 127, 1.0], [2.0, 0.0]]), rtol=2**-12, atol=1e-12)


@pytest.mark.parametrize("levels", [127, 7])
def test_rounded_rows_are_what_the_bytes_hold(levels: int) -> None:
    rows = torch.randn(20, 30, generator=torch.Generator().manual_seed(3))
    values, scale = int8_rows(rows, levels=levels)
    found = rounded_rows(rows, levels=levels)
    assert torch.equal(found, values.float() * scale)
    assert ((found - rows).abs() <= scale / 2 + 1e-7).all()
    assert torch.equal(rounded_rows(found, levels=levels), found)
    assert rounded_rows(rows.half()).dtype == torch.float32


def test_read_rows_by_hand() -> None:
    table = torch.tensor([[1, -2], [100, 127]], dtype=torch.int8)
    found = read_rows(table, torch.tensor([[0.5], [2.0]]), torch.tensor([[0, 1, 0], [1, 1, 1]]))
    assert found.dtype == torch.float32
    low, high = [0.5, -1.0], [200.0, 254.0]
    assert found.tolist() == [[low, high, low], [high, high, high]]


@pytest.mark.parametrize("levels", [127, 64, 7])
def test_rounding_what_was_rounded_changes_no_bit(levels: int) -> None:
    values, scale = int8_rows(torch.randn(200, 30, generator=torch.Generator().manual_seed(2)), levels=levels)
    again, same = int8_rows(values.float() * scale, levels=levels)
    assert torch.equal(again, values)
    assert torch.equal(same, scale)


def test_int8_rows_with_fewer_levels() -> None:
    values, _ = int8_rows(torch.randn(20, 30, generator=torch.Generator().manual_seed(1)), levels=64)
    assert values.abs().amax(1).tolist() == [64] * 20


def test_two_rows_in_one_byte_by_hand() -> None:
    table, scale = pack_rows(torch.tensor([[[7.0, -1.0], [-14.0, 6.0]]]))
    assert (table.dtype, table.shape, scale.shape) == (torch.uint8, (1, 2), (1, 2))
    # 7 and -1 of the first row with 8 added; -7 and 3 of the second, 16 times
    assert table.tolist() == [[16 * 1 + 15, 16 * 11 + 7]]
    first, second = read_packed(table, scale, torch.zeros(1, 3, dtype=torch.int64))
    assert first.shape == second.shape == (1, 3, 2)
    torch.testing.assert_close(first[0, 2], torch.tensor([7.0, -1.0]), atol=2e-3, rtol=0)
    torch.testing.assert_close(second[0, 2], torch.tensor([-14.0, 6.0]), atol=4e-3, rtol=0)


def test_every_byte_of_two_rows_comes_back() -> None:
    values = torch.cartesian_prod(torch.arange(-7.0, 8), torch.arange(-7.0, 8))  # [225, 2]
    rows = torch.stack([torch.cat([part, torch.tensor([7.0])]) for part in values.T])[None]  # [1, 2, 226]
    table, scale = pack_rows(rows)
    found = read_packed(table, scale, torch.zeros(1, 1, dtype=torch.int64))
    for part, wanted in zip(found, rows[0], strict=True):
        torch.testing.assert_close(part[0, 0], wanted, atol=0, rtol=2**-12)
    again, same = pack_rows(torch.stack([part[0] for part in found], dim=1))
    assert torch.equal(again, table)
    assert torch.equal(same, scale)


def test_mean_pool_by_hand() -> None:
    values = torch.tensor([[[3.0, 0.0], [0.0, 4.0], [float("nan"), 9.0]]])
    torch.testing.assert_close(mean_pool(values, torch.tensor([[1, 1, 0]])), torch.tensor([[0.6, 0.8]]))


def test_mean_pool_of_padding_alone_is_zero() -> None:
    assert mean_pool(torch.full((1, 2, 3), torch.nan), torch.zeros(1, 2, dtype=torch.int64)).tolist() == [[0.0] * 3]


def test_mean_pool_gives_unit_vectors_whatever_the_length() -> None:
    states = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    found = mean_pool(states, mask)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(found[1:], mean_pool(states[1:, :2], mask[1:, :2]))
