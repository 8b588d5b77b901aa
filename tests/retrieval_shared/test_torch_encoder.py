"""The encoder in torch against its two oracles, the transformers model and PEFT."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor
from transformers import BertModel

from retrieval_shared.torch_encoder import (
    HUGGING_FACE_LINEARS,
    EncoderShape,
    SlotEncoder,
    SlotLinear,
    from_hugging_face,
    peft_adapter,
)
from retrieval_shared.torch_paths import JoinedPaths, TwoPaths
from retrieval_shared.torch_rows import int8_rows, mean_pool, rounded_rows

TOLERANCE = 1e-4
LENGTHS = (19, 1, 2, 7, 19, 12)


@pytest.fixture(scope="module")
def model(tiny_base: Path) -> BertModel:
    """The tiny model of two layers, its word table rounded to int8 as the slot encoder holds it; not to be changed."""
    model = BertModel.from_pretrained(tiny_base, add_pooling_layer=False).eval()
    with torch.no_grad():
        words = model.get_parameter("embeddings.word_embeddings.weight")
        values, scale = int8_rows(words)
        words.copy_(values.float() * scale)
    return model


@pytest.fixture(scope="module")
def upper(tiny_adapter: Path) -> dict[str, Tensor]:
    """The tiny adapter (rank 2, alpha 4) over the upper layer."""
    return peft_adapter(load_file(str(tiny_adapter / "adapter_model.safetensors")))


@pytest.fixture(scope="module")
def encoder(model: BertModel, upper: dict[str, Tensor]) -> SlotEncoder:
    """Slot 0: the base; slot 1: the tiny adapter; slot 2: its queries alone."""
    queries = {name: value for name, value in upper.items() if ".query." in name}
    return from_hugging_face(model, [upper, queries], rank=2, scale=2.0, branch_layers=1)


def batch() -> tuple[Tensor, Tensor]:
    ids = torch.randint(5, 120, (6, 19), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    for row, length in enumerate(LENGTHS):
        mask[row, length:] = 0
    return ids, mask


def states(encoder: SlotEncoder, slot: list[int], branch_row: list[int] | None = None) -> Tensor:
    """Return the states of some branches of `batch()`, of every text in order unless told."""
    ids, mask = batch()
    rows = list(range(6)) if branch_row is None else branch_row
    with torch.no_grad():
        return cast("Tensor", encoder(ids, mask, torch.tensor(rows), torch.tensor(slot)))


def gap(left: Tensor, right: Tensor, branch_row: list[int] | None = None) -> float:
    """The largest difference over real tokens."""
    real = batch()[1][list(range(6)) if branch_row is None else branch_row] > 0
    return float((left - right)[real].abs().max())


def test_slot_0_is_the_transformers_model(encoder: SlotEncoder, model: BertModel) -> None:
    ids, mask = batch()
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask).last_hidden_state
    assert gap(states(encoder, [0] * 6), expected) < TOLERANCE


def test_slot_1_is_peft(encoder: SlotEncoder, tiny_base: Path, model: BertModel, tiny_adapter: Path) -> None:
    ids, mask = batch()
    own = BertModel.from_pretrained(tiny_base, add_pooling_layer=False)
    own.load_state_dict(model.state_dict())
    oracle = PeftModel.from_pretrained(own, str(tiny_adapter)).eval()
    with torch.no_grad():
        expected = oracle(input_ids=ids, attention_mask=mask).last_hidden_state
    found = states(encoder, [1] * 6)
    assert gap(found, expected) < TOLERANCE
    assert gap(found, states(encoder, [0] * 6)) > 0.1  # the adapter does something


def test_adapters_in_all_layers_are_peft_however_few_stand_above_the_trunk(tiny_base: Path, model: BertModel) -> None:
    ids, mask = batch()
    own = BertModel.from_pretrained(tiny_base, add_pooling_layer=False)
    own.load_state_dict(model.state_dict())
    with torch.random.fork_rng():
        torch.manual_seed(2)
        config = LoraConfig(r=2, target_modules=list(HUGGING_FACE_LINEARS.values()), init_lora_weights=False)
        oracle = get_peft_model(own, config).eval()
    adapter = peft_adapter(get_peft_model_state_dict(oracle))
    assert len(adapter) == 2 * 6 * 2
    with torch.no_grad():
        expected = oracle(input_ids=ids, attention_mask=mask).last_hidden_state
    whole = from_hugging_face(model, [adapter], rank=2, scale=4.0)  # alpha 8 unless told
    assert whole.branch_layers == 2
    assert gap(states(whole, [1] * 6), expected) < TOLERANCE
    with pytest.raises(ValueError, match=r"branch_layers: the adapter has matrices for layer\.0\.query, .* trunk"):
        from_hugging_face(model, [adapter], rank=2, scale=4.0, branch_layers=1)


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_trunk_and_branch_are_the_whole_at_any_height(model: BertModel, encoder: SlotEncoder, layers: int) -> None:
    cut = from_hugging_face(model, branch_layers=layers)
    ids, mask = batch()
    rows, slot = torch.tensor([3, 0, 3, 5]), torch.zeros(4, dtype=torch.int64)
    with torch.no_grad():
        hidden = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        trunk = cut.trunk(ids, mask)
        branched = cut.branch(trunk, mask, rows, slot)
    assert gap(trunk, hidden[2 - layers]) < TOLERANCE
    assert torch.equal(branched, states(cut, [0] * 4, rows.tolist()))
    assert gap(branched, states(encoder, [0] * 4, rows.tolist()), rows.tolist()) < 1e-5


@pytest.mark.parametrize("layers", [-1, 3])
def test_branch_layers_that_are_not_there_are_refused(model: BertModel, layers: int) -> None:
    with pytest.raises(ValueError, match=f"branch_layers: found {layers}, allowed 0 to 2"):
        from_hugging_face(model, branch_layers=layers)


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_lora_stands_in_the_branches_alone(model: BertModel, layers: int) -> None:
    cut = from_hugging_face(model, [{}], branch_layers=layers)
    adapted = {name.rpartition(".")[0] for name, _ in cut.named_parameters() if ".lora_" in name}
    assert adapted == set(cut.lora_paths())
    above = range(2 - layers, 2)
    assert adapted == {f"blocks.{i}.linears.{name}" for i in above for name in HUGGING_FACE_LINEARS}
    for ours, theirs in cut.lora_paths().items():
        assert torch.equal(cut.get_parameter(f"{ours}.weight"), model.get_parameter(f"{theirs}.weight").T)


def test_the_trunk_does_not_see_the_slot(encoder: SlotEncoder) -> None:
    names = [name for name, _ in encoder.named_parameters() if name.startswith("blocks.0.")]
    assert len(names) == 16  # weight and bias of six linear layers and two norms
    assert not [name for name in names if "lora" in name]
    first = cast("SlotLinear", encoder.get_submodule("blocks.0.linears.query"))
    x = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(1))
    assert torch.equal(first(x, torch.tensor([0, 1])), first(x, torch.tensor([2, 0])))


def test_a_mixed_batch_equals_each_slot_alone(encoder: SlotEncoder) -> None:
    mixed = [0, 1, 2, 1, 0, 2]
    found = states(encoder, mixed)
    for slot in range(3):
        rows = [row for row, own in enumerate(mixed) if own == slot]
        alone = states(encoder, [slot] * 6)
        assert gap(found.clone().index_copy(0, torch.tensor(rows), alone[rows]), found) < 1e-5


def test_branches_of_one_text_equal_each_alone(encoder: SlotEncoder) -> None:
    rows, slots = [3, 0, 3, 5, 0, 3], [1, 2, 0, 1, 1, 2]
    found = states(encoder, slots, rows)
    assert found.shape == (6, 19, 32)
    for i, (row, slot) in enumerate(zip(rows, slots, strict=True)):
        assert gap(found[i : i + 1], states(encoder, [slot], [row]), [row]) < 1e-5
    assert gap(found[[0]], found[[2]], [3]) > 0.1  # one text under two slots


def test_vectors_of_branches_are_the_means_of_their_states(encoder: SlotEncoder) -> None:
    ids, mask = batch()
    rows = [3, 0, 3]
    found = states(encoder, [1, 1, 0], rows)
    vectors = encoder.vector(ids, mask, torch.tensor(rows), found)
    for vector, own, row in zip(vectors, found, rows, strict=True):
        mean = own[: LENGTHS[row]].mean(0)
        torch.testing.assert_close(vector, mean / mean.norm(), atol=1e-5, rtol=1e-4)


def test_without_a_second_path_there_is_no_static_vector(encoder: SlotEncoder) -> None:
    assert torch.equal(encoder.static(*batch()), torch.zeros(6, 32))


def test_the_second_path_is_joined_to_every_branch_of_a_text(model: BertModel, upper: dict[str, Tensor]) -> None:
    ids, mask = batch()
    ids[:, 0] = 2  # a special token, which the static path leaves out; the second text has no other
    generator = torch.Generator().manual_seed(6)
    words = model.get_parameter("embeddings.word_embeddings.weight").detach()
    table = torch.stack([words, torch.randn(words.shape, generator=generator)], dim=1)
    paths = JoinedPaths(32)
    two_paths = TwoPaths(table, paths)
    encoder = from_hugging_face(model, [upper], rank=2, scale=2.0, branch_layers=1, two_paths=two_paths)
    with torch.no_grad():
        static = encoder.static(ids, mask)
        rows, slot = torch.tensor([3, 0, 3, 1]), torch.tensor([1, 0, 0, 1])
        found = encoder(ids, mask, rows, slot)
        vectors = encoder.vector(ids, mask, rows, found)
    rounded = rounded_rows(table, levels=7)[:, 1]
    for row, length in enumerate(LENGTHS):
        mean = rounded[ids[row, 1:length]].sum(0)
        torch.testing.assert_close(static[row], torch.nn.functional.normalize(mean, dim=0), atol=1e-5, rtol=1e-4)
    assert not static[1].any()
    for vector, own, row in zip(vectors, found, rows.tolist(), strict=True):
        transformer = mean_pool(own[None], mask[[row]])[0]
        expected = torch.cat([transformer, static[row]]) @ paths.joint.weight.detach()
        torch.testing.assert_close(vector, expected / expected.norm(), atol=1e-5, rtol=1e-4)


def test_an_adapter_over_fewer_layers_leaves_the_others_at_the_base(encoder: SlotEncoder) -> None:
    for name in HUGGING_FACE_LINEARS:
        changed = encoder.get_parameter(f"blocks.1.linears.{name}.lora_b")[2].abs().sum() > 0
        assert bool(changed) == (name == "query")


def test_padding_changes_nothing(encoder: SlotEncoder) -> None:
    ids, mask = batch()
    other = torch.where(mask > 0, ids, 77)
    rows, slot = torch.arange(6), torch.tensor([1] * 6)
    with torch.no_grad():
        assert gap(encoder(ids, mask, rows, slot), encoder(other, mask, rows, slot)) < 1e-6


def test_slot_linear_by_hand() -> None:
    linear = SlotLinear(2, 1, slots=2, rank=1)
    values = {"weight": [[1, 2]], "bias": [0.5], "lora_a": [[0, 0], [3, 4]], "lora_b": [0, 10]}
    with torch.no_grad():
        for name, value in values.items():
            own = linear.get_parameter(name)
            own.copy_(torch.tensor(value).reshape(own.shape))
    x = torch.ones(2, 1, 2)
    # 1 + 2 + 0.5, and that plus (3 + 4) x 10
    assert linear(x, torch.tensor([0, 1])).flatten().tolist() == [3.5, 73.5]


def test_a_linear_layer_without_slots_or_bias_is_its_weight() -> None:
    linear = SlotLinear(2, 2, slots=0, rank=1, bias=False)
    assert [name for name, _ in linear.named_parameters()] == ["weight"]
    x = torch.tensor([[[1.0, 2.0]]])
    assert torch.equal(linear(x, torch.tensor([7])), x @ linear.weight)


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
