"""Rows of a subword table as bytes, and back; the mean of token states.

Of the serving side only the files named `torch_...` import torch; the served package leaves them out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

ROW_LEVELS = 7
"""Largest value of a row that shares its bytes with another: 4 bits each."""


def read_rows(table: Tensor, scale: Tensor, input_ids: Tensor) -> Tensor:
    """Return float32 rows `[b, t, d]` for `input_ids` `[b, t]`: int8 `table` `[V, d]` times `scale` `[V, 1]`."""
    b, t = input_ids.shape
    flat = input_ids.reshape(-1)
    rows = table.index_select(0, flat).to(torch.float32) * scale.index_select(0, flat)  # [b*t, d]
    return rows.view(b, t, -1)


def pack_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return `(table, scale)`: rows `[V, 2, d]` as uint8 `[V, d]` and float32 `[V, 2]`, which `read_packed` reads.

    A byte is `16 (s + 8) + (t + 8)`, where t and s in [-7, 7] are values of the first and of the second row.
    """
    values, scale = int8_rows(rows, levels=ROW_LEVELS)
    low, high = (values.to(torch.int16) + ROW_LEVELS + 1).unbind(1)
    return (16 * high + low).to(torch.uint8), scale.squeeze(-1)


def read_packed(table: Tensor, scale: Tensor, input_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return both float32 rows `[b, t, d]` for `input_ids` `[b, t]` from what `pack_rows` gave."""
    b, t = input_ids.shape
    flat = input_ids.reshape(-1)
    # In floats, where a byte is exact: every runtime has these operations for them.
    both = table.index_select(0, flat).to(torch.float32)  # [b*t, d]
    high = torch.floor(both / 16)
    low = both - 16 * high
    own = scale.index_select(0, flat)  # [b*t, 2]
    first, second = (
        ((part - (ROW_LEVELS + 1)) * own[:, i : i + 1]).view(b, t, -1) for i, part in enumerate((low, high))
    )
    return first, second


def mean_pool(states: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the L2-normalised mean `[b, d]` of the states `[b, t, d]` of the tokens that the mask `[b, t]` counts."""
    kept = torch.where(attention_mask[..., None] > 0, states, 0.0)  # [b, t, d]
    mean = kept.sum(1) / attention_mask.sum(1, keepdim=True).clamp(min=1).to(states.dtype)
    return nn.functional.normalize(mean, dim=-1)


def int8_rows(weight: Tensor, *, levels: int = 127) -> tuple[Tensor, Tensor]:
    """Return `(int8, scale)`: `weight` `[..., d]` in [-levels, levels], one scale per row; the product restores it.

    Scales keep 12 bits of mantissa: the products are then exact, and to round again changes no bit.
    """
    scale = weight.abs().amax(-1, keepdim=True).float().clamp(min=1e-12) / levels  # [..., 1]
    scale = ((scale.view(torch.int32) + 0x7FF) & ~0x7FF).view(torch.float32)  # up, so that nothing is clipped
    return (weight / scale).round().clamp(-levels, levels).to(torch.int8), scale


def rounded_rows(weight: Tensor, *, levels: int = 127) -> Tensor:
    """Return `weight` `[..., d]` in float32 as `int8_rows` can hold it."""
    values, scale = int8_rows(weight, levels=levels)
    return values.to(torch.float32) * scale
