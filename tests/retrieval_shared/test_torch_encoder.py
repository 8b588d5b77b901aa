"""The encoder in torch against its two oracles: the transformers model and PEFT."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import BertModel

from retrieval_shared.torch_encoder import (
    EncoderShape,
    SlotEncoder,
    SlotLinear,
    from_hugging_face,
    int8_rows,
    mean_pool,
    pack_rows,
    peft_adapter,
    read_packed,
)

TOLERANCE = 1e-4


@pytest.fixture
def model(tiny_base: Path) -> BertModel:
    """The tiny model with its word table rounded to int8, as the slot encoder holds it."""
    model = BertModel.from_pretrained(tiny_base, add_pooling_layer=False).eval()
    with torch.no_grad():
        words = model.get_parameter("embeddings.word_embeddings.weight")
        values, scale = int8_rows(words)
        words.copy_(values.float() * scale)
    return model


@pytest.fixture
def encoder(model: BertModel, tiny_adapter: Path) -> SlotEncoder:
    """Slot 0: the base; slot 1: the tiny adapter (rank 2, alpha 4); slot 2: an adapter over the queries alone."""
    adapter = peft_adapter(load_file(str(tiny_adapter / "adapter_model.safetensors")))
    queries = {name: value for name, value in adapter.items() if ".query." in name}
    return from_hugging_face(model, [adapter, queries], rank=2, scale=2.0)


def batch() -> tuple[Tensor, Tensor]:
    ids = torch.randint(5, 120, (6, 19), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    for row, length in enumerate((19, 1, 2, 7, 19, 12)):
        mask[row, length:] = 0
    return ids, mask


def states(encoder: SlotEncoder, slot: list[int]) -> Tensor:
    ids, mask = batch()
    with torch.no_grad():
        return encoder(ids, mask, torch.tensor(slot))


def gap(left: Tensor, right: Tensor) -> float:
    """The largest difference over real tokens."""
    return float((left - right)[batch()[1] > 0].abs().max())


def test_slot_0_is_the_transformers_model(encoder: SlotEncoder, model: BertModel) -> None:
    ids, mask = batch()
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask).last_hidden_state
    assert gap(states(encoder, [0] * 6), expected) < TOLERANCE


def test_slot_1_is_peft(encoder: SlotEncoder, model: BertModel, tiny_adapter: Path) -> None:
    ids, mask = batch()
    oracle = PeftModel.from_pretrained(model, str(tiny_adapter)).eval()
    with torch.no_grad():
        expected = oracle(input_ids=ids, attention_mask=mask).last_hidden_state
    found = states(encoder, [1] * 6)
    assert gap(found, expected) < TOLERANCE
    assert gap(found, states(encoder, [0] * 6)) > 0.1  # the adapter does something


def test_a_mixed_batch_equals_each_slot_alone(encoder: SlotEncoder) -> None:
    mixed = [0, 1, 2, 1, 0, 2]
    found = states(encoder, mixed)
    for slot in range(3):
        rows = [row for row, own in enumerate(mixed) if own == slot]
        alone = states(encoder, [slot] * 6)
        assert gap(found.clone().index_copy(0, torch.tensor(rows), alone[rows]), found) < 1e-5


def test_an_adapter_over_fewer_layers_leaves_the_others_at_the_base(encoder: SlotEncoder) -> None:
    for block in encoder.blocks:
        assert block.linears["query"].lora_b[2].abs().sum() > 0
        assert all(block.linears[name].lora_b[2].abs().sum() == 0 for name in ("key", "value", "out", "up", "down"))


def test_padding_changes_nothing(encoder: SlotEncoder) -> None:
    ids, mask = batch()
    other = torch.where(mask > 0, ids, 77)
    with torch.no_grad():
        slot = torch.tensor([1] * 6)
        assert gap(encoder(ids, mask, slot), encoder(other, mask, slot)) < 1e-6


def test_slot_linear_by_hand() -> None:
    linear = SlotLinear(2, 1, slots=2, rank=1)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0], [2.0]]))
        linear.bias.fill_(0.5)
        linear.lora_a[1] = torch.tensor([[3.0], [4.0]])
        linear.lora_b[1] = torch.tensor([[10.0]])
        x = torch.tensor([[[1.0, 1.0]], [[1.0, 1.0]]])
        # 1 + 2 + 0.5, and that plus (3 + 4) x 10
        assert linear(x, torch.tensor([0, 1])).flatten().tolist() == [3.5, 73.5]


def test_int8_rows_by_hand() -> None:
    values, scale = int8_rows(torch.tensor([[1.0, -2.0, 0.25], [0.0, 0.0, 0.0]]))
    assert values.dtype == torch.int8
    assert values.tolist() == [[63, -127, 16], [0, 0, 0]]
    assert 2 / 127 <= float(scale[0, 0]) <= 2 / 127 * (1 + 2**-12)
    restored = values.float() * scale
    assert (restored[0] - torch.tensor([1.0, -2.0, 0.25])).abs().max() <= scale[0, 0] / 2


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


def test_peft_names_are_told_apart() -> None:
    prefix = "base_model.model.encoder.layer.1."
    found = peft_adapter(
        {
            f"{prefix}attention.output.dense.lora_A.weight": torch.tensor([[1.0, 2.0]]),
            f"{prefix}output.dense.lora_A.weight": torch.tensor([[3.0, 4.0]]),
            f"{prefix}output.dense.lora_B.weight": torch.tensor([[5.0], [6.0], [7.0]]),
            "base_model.model.pooler.dense.lora_A.weight": torch.tensor([[0.0]]),
        }
    )
    assert set(found) == {"layer.1.out.a", "layer.1.down.a", "layer.1.down.b"}
    assert found["layer.1.out.a"].tolist() == [[1.0], [2.0]]
    assert found["layer.1.down.b"].tolist() == [[5.0, 6.0, 7.0]]


def test_attention_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="attention_heads=5 must divide dim=32"):
        EncoderShape(layers=1, dim=32, attention_heads=5, inner=8, vocabulary=9, positions=9)
