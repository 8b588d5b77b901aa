"""The heads folded, against the same heads one text, one head and one token at a time."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from retrieval_shared.head import FOLDED, PROJECTIONS
from training.heads import FoldedHeads, Judge, PooledHeads, PoolingBlock, ViolationHead, judge_folded

DIM, ATTENTION_HEADS, HEADS, HIDDEN = 8, 2, 3, 5


def random_heads(*, rank: int = 2, seed: int = 0) -> PooledHeads:
    """Return heads all of whose parameters are random, the LoRA's B too."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        heads = PooledHeads(PoolingBlock(DIM, ATTENTION_HEADS), HEADS, hidden=HIDDEN, rank=rank, alpha=3)
        with torch.no_grad():
            for parameter in heads.parameters():
                parameter.normal_(std=0.6)
    return heads.eval()


def batch(*lengths: int, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Return states `[n, t, d]`, their mask and unit vectors `[n, d]`."""
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(len(lengths), max(lengths), DIM, generator=generator)
    mask = (torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]).long()
    vector = torch.nn.functional.normalize(torch.randn(len(lengths), DIM, generator=generator), dim=1)
    return states, mask, vector


def plainly(heads: PooledHeads, h: int, tokens: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logit `[]` and the attention `[t]` of head h over the tokens `[t, d]` of one text, in plain loops."""
    size = DIM // ATTENTION_HEADS

    def project(name: str, x: Tensor) -> Tensor:
        linear = heads.block.get_submodule(name)
        weight = linear.get_parameter("weight")
        if heads.rank:
            update = heads.lora[f"{name}_b"][h] @ heads.lora[f"{name}_a"][h]
            weight = weight + heads.alpha / heads.rank * update
        return weight @ x + linear.get_parameter("bias")

    query = project("query", heads.judge.look[h])
    keys, values = ([project(name, token) for token in tokens] for name in ("key", "value"))
    mixed, looked = [], []
    for a in range(ATTENTION_HEADS):
        own = slice(a * size, (a + 1) * size)
        weights = torch.stack([query[own] @ key[own] / math.sqrt(size) for key in keys]).softmax(0)
        mixed.append(torch.stack([w * value[own] for w, value in zip(weights, values, strict=True)]).sum(0))
        looked.append(weights)
    both = torch.cat([project("out", torch.cat(mixed)), math.sqrt(DIM) * vector])
    hidden = torch.nn.functional.gelu(both @ heads.judge.inner[h] + heads.judge.inner_bias[h])
    return hidden @ heads.judge.outer[h] + heads.judge.bias[h], torch.stack(looked).mean(0)


@pytest.mark.parametrize("rank", [0, 2])
def test_equals_one_head_and_one_text_at_a_time_in_plain_loops(rank: int) -> None:
    heads, lengths = random_heads(rank=rank), (6, 1, 3)
    states, mask, vector = batch(*lengths)
    logits, attention = heads(states, mask, vector)
    assert logits.shape == (3, HEADS)
    assert attention.shape == (3, HEADS, 6)
    for b, length in enumerate(lengths):
        for h in range(HEADS):
            logit, weights = plainly(heads, h, states[b, :length], vector[b])
            torch.testing.assert_close(logits[b, h], logit, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(attention[b, h, :length], weights, atol=1e-5, rtol=1e-4)


def one_dimension() -> PooledHeads:
    """Return two heads of width 1 over one block; the second has a LoRA on the values."""
    heads = PooledHeads(PoolingBlock(1, 1), 2, hidden=1, rank=1, alpha=2)
    block = {"query": (2.0, math.log(3) - 1), "key": (1.0, 7.0), "value": (2.0, 1.0), "out": (3.0, 0.5)}
    with torch.no_grad():
        for name, (weight, bias) in block.items():
            heads.block.get_submodule(name).get_parameter("weight").fill_(weight)
            heads.block.get_submodule(name).get_parameter("bias").fill_(bias)
        heads.lora["value_a"].fill_(0.25)
        heads.lora["value_b"].copy_(torch.tensor([0.0, 2.0]).view(2, 1, 1))
        heads.judge.look.fill_(0.5)
        heads.judge.inner.copy_(torch.tensor([[1.0], [10.0]]).expand(2, 2, 1))
        heads.judge.inner_bias.fill_(0.25)
        heads.judge.outer.fill_(2.0)
        heads.judge.bias.fill_(1.0)
    return heads.eval()


def test_by_hand_in_one_dimension() -> None:
    heads = one_dimension()
    logits, attention = heads(torch.tensor([[[0.0], [1.0]]]), torch.tensor([[1, 1]]), torch.tensor([[0.5]]))
    # q = 2 x 0.5 + ln 3 - 1 = ln 3; the key's bias moves both scores alike: softmax(0, ln 3) = 1/4, 3/4.
    torch.testing.assert_close(attention, torch.tensor([[[0.25, 0.75], [0.25, 0.75]]]))
    # First head: values 1 and 3, mixed 2.5, out 8; 8 + 10 x 0.5 + 0.25 = 13.25; gelu leaves it; 2 x 13.25 + 1.
    # Second: the LoRA adds 2/1 x 2 x 0.25 = 1 to the weight: 1 and 4, 3.25, 10.25; 15.5; 32.
    torch.testing.assert_close(logits, torch.tensor([[27.5, 32.0]]), atol=1e-4, rtol=0)


def test_a_violation_head_by_hand_in_one_dimension() -> None:
    heads = one_dimension()
    head = ViolationHead(heads.block, hidden=1)
    with torch.no_grad():
        for name, parameter in head.judge.named_parameters():
            parameter.copy_(heads.judge.get_parameter(name)[0])
    logits, attention = head(torch.tensor([[[0.0], [1.0]]]), torch.tensor([[1, 1]]), torch.tensor([[0.5]]))
    torch.testing.assert_close(attention, torch.tensor([[0.25, 0.75]]))
    torch.testing.assert_close(logits, torch.tensor([27.5]), atol=1e-4, rtol=0)


def test_a_violation_head_is_a_head_without_lora_and_has_a_block_of_its_own() -> None:
    heads = random_heads(rank=0)
    states, mask, vector = batch(6, 1, 3)
    logits, attention = heads(states, mask, vector)
    for h in range(HEADS):
        head = ViolationHead(heads.block, hidden=HIDDEN)
        with torch.no_grad():
            for name, parameter in head.judge.named_parameters():
                parameter.copy_(heads.judge.get_parameter(name)[h])
        own_logits, own_attention = head(states, mask, vector)
        torch.testing.assert_close(own_logits, logits[:, h], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(own_attention, attention[:, h], atol=1e-5, rtol=1e-4)
        for name in PROJECTIONS:
            with torch.no_grad():
                head.get_submodule(name).get_parameter("weight").zero_()
            assert heads.block.get_submodule(name).get_parameter("weight").any()


def test_folded_heads_judge_as_those_they_were_folded_from_and_no_longer_change_with_them() -> None:
    heads = random_heads()
    inputs = batch(6, 1, 3)
    expected = heads(*inputs)
    folded = FoldedHeads(heads)
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.zero_()
    for found, wanted in zip(folded(*inputs), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    assert [name for name, _ in folded.named_parameters()] == list(FOLDED)
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    assert {name: tuple(value.shape) for name, value in folded.named_parameters()} == {
        "look": (HEADS * ATTENTION_HEADS, DIM),
        "found": (HEADS, ATTENTION_HEADS * DIM, HIDDEN),
        "whole": (HEADS, DIM, HIDDEN),
        "inner_bias": (HEADS, 1, HIDDEN),
        "outer": (HEADS, 1, HIDDEN),
        "bias": (HEADS,),
    }


def test_folded_heads_are_traced_with_free_texts_and_tokens() -> None:
    folded, (states, mask, vector) = FoldedHeads(random_heads()), batch(4, 2)
    n, t = torch.export.Dim("n", min=1), torch.export.Dim("t", min=1)
    program = torch.export.export(
        folded, (states, mask, vector), dynamic_shapes=({0: n, 1: t}, {0: n, 1: t}, {0: n}), strict=False
    )
    for lengths in ((1,), (9, 2, 5)):
        inputs = batch(*lengths)
        for found, wanted in zip(program.module()(*inputs), folded(*inputs), strict=True):
            torch.testing.assert_close(found, wanted)


def test_padding_gets_no_attention_and_changes_nothing() -> None:
    heads = random_heads()
    states, mask, vector = batch(5, 3)
    other = states.clone()
    other[1, 3:] = 1e4
    (logits, attention), (again, _) = heads(states, mask, vector), heads(other, mask, vector)
    torch.testing.assert_close(attention.sum(-1), torch.ones(2, HEADS))
    assert not attention[1, :, 3:].any()
    torch.testing.assert_close(again, logits)
    alone, _ = heads(states[1:, :3], mask[1:, :3], vector[1:])
    torch.testing.assert_close(alone, logits[1:], atol=1e-5, rtol=1e-5)


def test_extreme_states_are_judged_too() -> None:
    states, mask, vector = batch(4, 2)
    logits, attention = random_heads()(1e6 * states, mask, vector)
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(attention.sum(-1), torch.ones(2, HEADS))


def test_every_parameter_learns_but_the_bias_that_a_softmax_does_not_see() -> None:
    heads = random_heads()
    heads(*batch(6, 1, 3))[0].square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in heads.named_parameters()}
    assert gradients.pop("block.key.bias") is None
    assert all(gradient is not None and gradient.abs().max() > 1e-3 for gradient in gradients.values())


def test_lora_begins_at_the_block() -> None:
    plain = random_heads(rank=0)
    adapted = PooledHeads(plain.block, HEADS, hidden=HIDDEN, rank=2, alpha=4)
    adapted.judge.load_state_dict(plain.judge.state_dict())
    for found, wanted in zip(adapted(*batch(6, 3)), plain(*batch(6, 3)), strict=True):
        torch.testing.assert_close(found, wanted)
    assert all(adapted.lora[f"{name}_a"].any() for name in PROJECTIONS)  # so that B has a gradient


@pytest.fixture
def dropping() -> PooledHeads:
    """Heads that drop nothing, half and most."""
    heads = random_heads()
    heads.dropout.copy_(torch.tensor([0.0, 0.5, 0.9]))
    return heads.train()


def test_each_head_drops_its_own_share_and_none_when_judging(dropping: PooledHeads) -> None:
    inputs = batch(6, 1, 3)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        noisy, _ = dropping(*inputs)
    plain, _ = dropping.eval()(*inputs)
    torch.testing.assert_close(noisy[:, 0], plain[:, 0])
    assert (noisy[:, 1:] - plain[:, 1:]).abs().min() > 1e-4
    for found, wanted in zip(dropping(*inputs), FoldedHeads(dropping)(*inputs), strict=True):
        torch.testing.assert_close(found, wanted)


def test_dropout_follows_the_seed_and_leaves_the_attention_alone(dropping: PooledHeads) -> None:
    inputs, found = batch(6, 1, 3), []
    with torch.random.fork_rng():
        for seed in (4, 4, 5):
            torch.manual_seed(seed)
            found.append(dropping(*inputs))
    assert torch.equal(found[0][0], found[1][0])
    assert not torch.equal(found[0][0][:, 1:], found[2][0][:, 1:])
    assert torch.equal(found[0][1], found[2][1])


def test_what_is_kept_makes_up_for_what_is_dropped_before_both_layers() -> None:
    """Where gelu passes everything, the mean over many draws is the logit without dropout."""
    ones, n, draws = torch.ones(2, 1, 1), 40, 800
    folded = {
        "look": torch.zeros(2, 1), "found": 3 * ones, "whole": 2 * ones, "inner_bias": 20 * ones, "outer": ones,
        "bias": torch.zeros(2),
    }  # fmt: skip
    inputs = torch.ones(n, 2, 1), torch.ones(n, 2, dtype=torch.int64), torch.ones(n, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = [judge_folded(folded, *inputs, dropout=torch.tensor([0.5, 0.75]))[0] for _ in range(draws)]
    logits = torch.stack(found)  # [draws, n, 2]
    for h, kept in enumerate((0.5, 0.25)):
        # 3, 2 and the hidden value are each there with probability `kept`, divided by it.
        values = {(20 + 3 * a / kept + 2 * b / kept) * c / kept for a in (0, 1) for b in (0, 1) for c in (0, 1)}
        assert {round(value, 3) for value in logits[..., h].flatten().tolist()} == {round(v, 3) for v in values}
        # The rows of a batch share what is dropped of the inputs, and each drops hidden values of its own.
        assert all(len({*rows.tolist()} - {0.0}) == 1 for rows in logits[..., h])
        assert float((logits[..., h] != 0).float().mean()) == pytest.approx(kept, abs=0.02)
        means = logits[..., h].mean(1)
        assert float(means.mean()) == pytest.approx(25, abs=4 * float(means.std()) / math.sqrt(draws))


def test_a_new_head_expects_few_positives() -> None:
    heads = PooledHeads(PoolingBlock(DIM, ATTENTION_HEADS), 4, hidden=4).eval()
    with torch.no_grad():
        for name in PROJECTIONS:
            heads.block.get_submodule(name).get_parameter("bias").zero_()
    logits, _ = heads(torch.zeros(2, 3, DIM), torch.ones(2, 3, dtype=torch.int64), torch.zeros(2, DIM))
    torch.testing.assert_close(logits, torch.full((2, 4), -2.0))


def test_a_judge_without_a_head_axis_is_one_of_several() -> None:
    several, one = Judge(DIM, hidden=HIDDEN, heads=HEADS), Judge(DIM, hidden=HIDDEN)
    stacked = {name: tuple(value.shape) for name, value in several.named_parameters()}
    assert {name: (HEADS, *value.shape) for name, value in one.named_parameters()} == stacked
