"""The attention-pooling block that all violation heads share: the encoder's own last attention layer, copied."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from retrieval_shared.head import PROJECTIONS
from retrieval_shared.torch_families import adapted_linears
from training.heads import PoolingBlock


def pooling_block(model: nn.Module, *, attention_heads: int | None = None) -> PoolingBlock:
    """Return a block with the weights of the last attention layer of a Hugging Face encoder, of any family.

    Args:
        model: the encoder.
        attention_heads: of the block, a divisor of the width; None: as many as the encoder's.

    Raises:
        ValueError: they do not divide the width.
    """
    config = cast("Any", model.config)
    last = f"layer.{config.num_hidden_layers - 1}."
    linears = {
        name.removeprefix(last): linear for name, linear in adapted_linears(model).items() if name.startswith(last)
    }
    dim, heads = int(config.hidden_size), attention_heads or int(config.num_attention_heads)
    if dim % heads:
        raise ValueError(f"attention_heads: found {heads}, allowed divisors of the encoder's width {dim}")
    block = PoolingBlock(dim, heads)
    with torch.no_grad():
        for i, name in enumerate(PROJECTIONS):
            own = cast("nn.Linear", getattr(block, name))
            # Some families hold query, key and value as one matrix.
            source, part = (linears[name], slice(None)) if name in linears else (linears["qkv"], _third(i, block.dim))
            own.weight.copy_(source.weight[part])
            own.bias.zero_() if source.bias is None else own.bias.copy_(source.bias[part])
    return block


def _third(place: int, dim: int) -> slice:
    return slice(place * dim, (place + 1) * dim)
