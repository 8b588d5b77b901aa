from __future__ import annotations

import math

import pytest
import torch

from training.heads import AttentionHeads


@pytest.fixture
def heads() -> AttentionHeads:
    torch.manual_seed(0)
    heads = AttentionHeads(3, 4, hidden=5, dropout=0.5)
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.normal_()
    return heads.eval()


def test_equals_one_head_and_one_text_at_a_time_in_plain_loops(heads: AttentionHeads) -> None:
    states = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0]])
    vector = torch.nn.functional.normalize(torch.randn(2, 4, generator=torch.Generator().manual_seed(3)), dim=1)
    logits, attention = heads(states, mask, vector)
    for b, length in enumerate((6, 2)):
        tokens = states[b, :length]
        for h in range(3):
            weights = (tokens @ heads.query[h] / math.sqrt(4)).softmax(0)
            both = torch.cat([weights @ tokens, 2 * vector[b]])
            hidden = torch.nn.functional.gelu(both @ heads.inner[h] + heads.inner_bias[h])
            torch.testing.assert_close(attention[b, h, :length], weights)
            torch.testing.assert_close(logits[b, h], hidden @ heads.outer[h] + heads.bias[h])


def test_by_hand() -> None:
    heads = AttentionHeads(1, 1, hidden=1)
    with torch.no_grad():
        heads.query.fill_(math.log(3))
        heads.inner.copy_(torch.tensor([[[1.0], [10.0]]]))
        heads.inner_bias.zero_()
        heads.outer.fill_(2.0)
        heads.bias.fill_(1.0)
    logits, attention = heads(torch.tensor([[[0.0], [1.0]]]), torch.tensor([[1, 1]]), torch.tensor([[0.5]]))
    # softmax(0, ln 3) = 1/4, 3/4; pooled 3/4, vector 1/2; gelu(3/4 + 5) = 5.75; 2 x 5.75 + 1
    torch.testing.assert_close(attention, torch.tensor([[[0.25, 0.75]]]))
    torch.testing.assert_close(logits, torch.tensor([[12.5]]), atol=1e-4, rtol=0)


def test_padding_gets_no_attention_and_changes_nothing(heads: AttentionHeads) -> None:
    states = torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(2))
    mask = torch.tensor([[1, 1, 1, 0, 0]])
    other = states.clone()
    other[0, 3:] = 1e4
    vector = torch.ones(1, 4) / 2
    (logits, attention), (again, _) = heads(states, mask, vector), heads(other, mask, vector)
    torch.testing.assert_close(attention.sum(-1), torch.ones(1, 3))
    assert attention[..., 3:].abs().sum() == 0
    torch.testing.assert_close(logits, again)


def test_a_new_head_expects_few_positives() -> None:
    heads = AttentionHeads(4, 8, hidden=4).eval()
    logits, _ = heads(torch.zeros(2, 3, 8), torch.ones(2, 3, dtype=torch.int64), torch.zeros(2, 8))
    torch.testing.assert_close(logits, torch.full((2, 4), -2.0))
