"""The pooling block against transformers' own attention, for a query that is a state."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModel
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention

from retrieval_shared.head import PROJECTIONS
from training.heads import ViolationHead
from training.pooling import pooling_block

FAMILIES = ("bert", "roberta", "xlm-roberta", "deberta-v2", "modernbert")


def load(folder: Path) -> Any:
    return AutoModel.from_pretrained(folder, dtype=torch.float32).eval()


class Found(nn.Module):
    """A judge that hands on what its head found, looking with a given query."""

    def __init__(self, look: Tensor) -> None:
        super().__init__()
        self.look = look

    def forward(self, found: Tensor, vector: Tensor) -> Tensor:
        del vector
        return found


def pooled(model: nn.Module, states: Tensor, query: Tensor, mask: Tensor) -> Tensor:
    """Return what the block of `model` finds in states `[1, t, d]` with a query `[d]`, `[d]`."""
    head = ViolationHead(pooling_block(model), hidden=1)
    head.add_module("judge", Found(query))
    found: Tensor = head(states, mask, states[:, 0])[0]
    return found[0]


def attended(model: Any, states: Tensor) -> Any:
    """Return what transformers' last attention layer gives for each state `[1, t, d]`, its terms of position left out.

    Neither the residual nor the norm after it is part of attention.
    """
    kind = model.config.model_type
    if kind == "modernbert":
        angle = torch.zeros(1, states.shape[1], model.config.hidden_size // model.config.num_attention_heads)
        rotation = angle.cos(), angle.sin()
        mask = torch.zeros(1, 1, states.shape[1], states.shape[1])
        return model.layers[-1].attn(states, position_embeddings=rotation, attention_mask=mask)[0]
    layer = model.encoder.layer[-1].attention
    if kind == "deberta-v2":
        plain = copy.deepcopy(model.config)
        plain.relative_attention, plain.pos_att_type = False, []
        own = DisentangledSelfAttention(plain).eval()
        own.load_state_dict(layer.self.state_dict())
        every = torch.ones(1, 1, states.shape[1], states.shape[1], dtype=torch.bool)
        return layer.output.dense(own(states, every)[0])
    return layer.output.dense(layer.self(states)[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_block_is_the_last_attention_layer_of_every_family(tiny_families: dict[str, Path], family: str) -> None:
    model = load(tiny_families[family])
    states = torch.randn(1, 7, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = attended(model, states)[0]  # [t, d]
        for place in range(7):
            found = pooled(model, states, states[0, place], torch.ones(1, 7, dtype=torch.int64))
            torch.testing.assert_close(found, expected[place], atol=1e-5, rtol=1e-4)
    assert (expected[0] - expected[1]).abs().max() > 1e-2  # the query matters


def test_the_layers_below_are_not_read(tiny_families: dict[str, Path]) -> None:
    for family in FAMILIES:
        model = load(tiny_families[family])
        before = pooling_block(model).state_dict()
        blocks = model.layers if family == "modernbert" else model.encoder.layer
        with torch.no_grad():
            for parameter in blocks[0].parameters():
                parameter.zero_()
        after = pooling_block(model).state_dict()
        assert all(torch.equal(after[name], value) for name, value in before.items())


def test_the_block_is_a_copy_that_learns(tiny_base: Path) -> None:
    model = load(tiny_base).requires_grad_(requires_grad=False)
    block = pooling_block(model)
    assert (block.dim, block.attention_heads) == (32, 4)
    assert all(parameter.requires_grad for parameter in block.parameters())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("attention_heads", [1, 8])
def test_the_same_layers_may_be_split_into_other_attention_heads(tiny_base: Path, attention_heads: int) -> None:
    model = load(tiny_base)
    block = pooling_block(model, attention_heads=attention_heads)
    assert block.attention_heads == attention_heads
    weights = pooling_block(model).state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in block.state_dict().items())


def test_attention_heads_that_do_not_divide_the_width_are_refused(tiny_base: Path) -> None:
    with pytest.raises(ValueError, match="attention_heads: found 5, allowed divisors of the encoder's width 32"):
        pooling_block(load(tiny_base), attention_heads=5)


def test_a_family_without_biases_gets_none(tiny_families: dict[str, Path]) -> None:
    block = pooling_block(load(tiny_families["modernbert"]))
    assert not any(block.get_submodule(name).get_parameter("bias").any() for name in PROJECTIONS)
