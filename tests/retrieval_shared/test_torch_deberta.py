"""The attention with relative positions against transformers' own, and its buckets by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import DebertaV2Config, DebertaV2Model

from retrieval_shared.torch_deberta import DisentangledAttention, distance_buckets


def model_of(terms: list[str], *, shared: bool) -> DebertaV2Model:
    config = DebertaV2Config(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=40, relative_attention=True, position_buckets=8, norm_rel_ebd="layer_norm",
        share_att_key=shared, pos_att_type=terms, position_biased_input=False, type_vocab_size=0, initializer_range=0.3,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return DebertaV2Model(config).eval()


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("terms", [["p2c", "c2p"], ["c2p"], ["p2c"], []])
def test_it_computes_what_transformers_does(terms: list[str], shared: bool) -> None:
    model = model_of(terms, shared=shared)
    ours = copy.deepcopy(model)
    buckets = distance_buckets(ours.encoder, 40)
    for layer in ours.encoder.layer:
        layer.attention.self = DisentangledAttention(layer.attention.self, buckets)
    ids = torch.randint(0, 50, (3, 40), generator=torch.Generator().manual_seed(5))
    mask = (torch.arange(40)[None, :] < torch.tensor([40, 9, 1])[:, None]).long()
    with torch.no_grad():
        expected, found = (each(input_ids=ids, attention_mask=mask).last_hidden_state for each in (model, ours))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert set(ours.state_dict()) == set(model.state_dict())


def test_buckets_by_hand() -> None:
    """Up to half of the 8 buckets a distance is its own bucket; beyond, they grow with its logarithm."""
    found = distance_buckets(model_of(["c2p"], shared=True).encoder, 40)
    assert found.shape == (79,)
    assert found[39 - 4 : 39 + 5].tolist() == [-4, -3, -2, -1, 0, 1, 2, 3, 4]
    # ceil(3 log(d / 4) / log(39 / 4)) + 4 for d = 5, 9, 18, 19, 39
    assert [int(found[39 + d]) for d in (5, 8, 9, 18, 19, 39)] == [5, 5, 6, 6, 7, 7]
    assert torch.equal(found, -found.flip(0))
