"""Encoders of every family under slots, against transformers, PEFT and their own exported graphs."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from peft import PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn
from transformers import AutoConfig, BertModel

from retrieval_shared.torch_encoder import JoinedPaths, SlotEncoder, TwoPaths
from retrieval_shared.torch_families import (
    FAMILIES,
    AnySlotEncoder,
    CurrentSlot,
    FamilyEncoder,
    SlottedLinear,
    adapted_linears,
    family_adapter,
    family_of,
    longest_text,
    slot_encoder,
)
from training.adapter import lora_config
from training.base_model import load_base_model, round_to_int8
from training.config import AdapterConfig
from training.export import ServingGraph, export_onnx, is_base_weight, parity, quantise, run_onnx, split_base
from training.heads import AttentionHeads

NAMES = ("bert", "roberta", "xlm-roberta", "deberta-v2", "modernbert")
EXPORTED = NAMES[2:]
"""BERT's graph is that of `SlotEncoder`; RoBERTa computes what XLM-R does."""
LENGTHS = (19, 1, 2, 7, 60, 12)
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Tiny:
    """A tiny encoder, its weights rounded, with one random adapter."""

    name: str
    model: nn.Module
    adapted: PeftModel
    encoder: AnySlotEncoder


@pytest.fixture(scope="module")
def tinies(tiny_families: dict[str, Path]) -> dict[str, Tiny]:
    return {name: tiny_of(name, tiny_families[name]) for name in NAMES}


@pytest.fixture(params=NAMES)
def tiny(request: pytest.FixtureRequest, tinies: dict[str, Tiny]) -> Tiny:
    return tinies[request.param]


def tiny_of(name: str, folder: Path) -> Tiny:
    base = load_base_model(str(folder))
    round_to_int8(base)
    config = lora_config(AdapterConfig(rank=2, alpha=4), family_of(base.model.config))
    adapted = get_peft_model(copy.deepcopy(base.model), config).eval()
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for parameter_name, parameter in adapted.named_parameters():
            if ".lora_" in parameter_name:
                parameter.normal_(std=0.2, generator=generator)
    adapter = family_adapter(get_peft_model_state_dict(adapted), base.model)
    return Tiny(name, base.model, adapted, slot_encoder(base.model, [adapter], rank=2, scale=2.0))


def batch(*lengths: int) -> tuple[Tensor, Tensor]:
    """Random ids, padded with 0 as every caller pads, whatever a family's own padding id."""
    ids = torch.randint(5, 120, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]).long()
    return torch.where(mask > 0, ids, 0), mask


def states(model: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask).last_hidden_state


def slotted(tiny: Tiny, ids: Tensor, mask: Tensor, slot: Tensor) -> Tensor:
    with torch.no_grad():
        return tiny.encoder(ids, mask, slot)


def test_a_mixed_batch_is_the_base_in_slot_0_and_peft_in_slot_1(tiny: Tiny) -> None:
    ids, mask = batch(*LENGTHS)
    slot = torch.tensor([0, 1, 0, 1, 1, 0])
    base, adapted = states(tiny.model, ids, mask), states(tiny.adapted, ids, mask)
    expected = torch.where(slot[:, None, None] > 0, adapted, base)
    real = mask > 0
    assert (slotted(tiny, ids, mask, slot) - expected)[real].abs().max() < TOLERANCE
    assert (adapted - base)[real].abs().max() > 0.1  # the adapter does something
    assert torch.isfinite(base).all()  # heads are trained on these, and NaN times a weight of 0 is NaN


def test_padding_and_neighbours_change_nothing(tiny: Tiny) -> None:
    ids, mask = batch(*LENGTHS)
    slot = torch.tensor([0, 1, 0, 1, 1, 0])
    together = slotted(tiny, torch.where(mask > 0, ids, 77), mask, slot)
    for row, length in enumerate(LENGTHS):
        one = slice(row, row + 1)
        alone = slotted(tiny, ids[one, :length], mask[one, :length], slot[one])
        torch.testing.assert_close(together[one, :length], alone, atol=1e-5, rtol=1e-4)


def test_the_vector_is_the_mean_of_the_tokens(tiny: Tiny) -> None:
    ids, mask = batch(*LENGTHS)
    found = slotted(tiny, ids, mask, torch.ones(6, dtype=torch.int64))
    vectors = tiny.encoder.vector(ids, mask, found)
    for row, length in enumerate(LENGTHS):
        mean = np.zeros(32)
        for token in range(length):
            mean += found[row, token].numpy() / length
        np.testing.assert_allclose(vectors[row].numpy(), mean / np.sqrt((mean**2).sum()), atol=1e-5)


def test_bert_keeps_its_own_stack_and_the_others_do_not(tiny: Tiny) -> None:
    assert isinstance(tiny.encoder, SlotEncoder if tiny.name == "bert" else FamilyEncoder)


def test_a_bert_with_another_activation_keeps_it(tiny_base: Path) -> None:
    model = BertModel.from_pretrained(tiny_base, add_pooling_layer=False, hidden_act="relu").eval()
    encoder = slot_encoder(model)
    assert isinstance(encoder, FamilyEncoder)
    ids, mask = batch(9, 4)
    slot = torch.zeros(2, dtype=torch.int64)
    gelu = slot_encoder(BertModel.from_pretrained(tiny_base, add_pooling_layer=False))
    with torch.no_grad():
        found, plain = encoder(ids, mask, slot), gelu(ids, mask, slot)
    assert (found - states(model, ids, mask))[mask > 0].abs().max() < 0.1  # int8 rows
    assert (found - plain)[mask > 0].abs().max() > 0.5


def test_every_linear_layer_of_the_blocks_is_adapted(tiny: Tiny) -> None:
    blocks = f"{FAMILIES[tiny.name].layers}."
    linears = {name for name, module in tiny.model.named_modules() if isinstance(module, nn.Linear)}
    named = {name for name, module in tiny.model.named_modules() if module in adapted_linears(tiny.model).values()}
    assert named == {name for name in linears if name.startswith(blocks)}
    assert len(named) == 2 * len(FAMILIES[tiny.name].linears)


def test_the_model_is_left_as_it_was(tiny: Tiny) -> None:
    ids, mask = batch(5, 3)
    before = {name: value.clone() for name, value in tiny.model.state_dict().items()}
    kind, expected = tiny.model.config._attn_implementation, states(tiny.model, ids, mask)
    slot_encoder(tiny.model)
    assert tiny.model.config._attn_implementation == kind
    assert all(torch.equal(value, before[name]) for name, value in tiny.model.state_dict().items())
    assert torch.equal(states(tiny.model, ids, mask), expected)


def test_an_adapter_over_fewer_layers_leaves_the_others_at_the_base(tinies: dict[str, Tiny]) -> None:
    tiny = tinies["modernbert"]
    adapter = family_adapter(get_peft_model_state_dict(tiny.adapted), tiny.model)
    encoder = slot_encoder(tiny.model, [{k: v for k, v in adapter.items() if ".qkv." in k}], rank=2, scale=2.0)
    lora = {name: float(value[1].abs().sum()) for name, value in encoder.state_dict().items() if ".lora_b" in name}
    assert {name for name, size in lora.items() if size > 0} == {name for name in lora if "Wqkv" in name}
    assert len(lora) == 8


@pytest.fixture(scope="module", params=EXPORTED)
def exported(request: pytest.FixtureRequest, tinies: dict[str, Tiny], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The float32 graph; the folder is called as the family."""
    path = tmp_path_factory.mktemp("graphs") / request.param / "float32.onnx"
    export_onnx(serving(tinies[request.param]), path, ("vector", "logits", "attention"))
    return path


def serving(tiny: Tiny) -> ServingGraph:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return ServingGraph(tiny.encoder, AttentionHeads(3, 32, hidden=8)).eval()


def in_torch(tiny: Tiny, ids: Tensor, mask: Tensor, slot: Tensor) -> list[np.ndarray]:
    with torch.no_grad():
        return [value.numpy() for value in serving(tiny)(ids, mask, slot)]


# The graph was traced at 2 texts of 7 tokens. 320 are all positions that the shortest of the encoders has.
@pytest.mark.parametrize("lengths", [(9, 2, 5, 9), (1,), (200, 3), (320,)])
def test_the_graph_equals_torch_at_other_sizes(
    exported: Path, tinies: dict[str, Tiny], lengths: tuple[int, ...]
) -> None:
    ids, mask = batch(*lengths)
    slot = torch.arange(len(lengths)) % 2
    expected = in_torch(tinies[exported.parent.name], ids, mask, slot)
    assert parity(expected, run_onnx(exported, ids, mask, slot)).max_abs < TOLERANCE


def test_int8_holds_the_base_alone_and_is_near(exported: Path) -> None:
    path = exported.with_name("int8.onnx")
    quantise(exported, path)
    types = {tensor.name: tensor.data_type for tensor in onnx.load(str(path)).graph.initializer}
    base = [name for name in types if name.endswith(".weight_quantized")]
    assert len(base) == 2 * len(FAMILIES[exported.parent.name].linears)
    assert all(is_base_weight(name.removesuffix("_quantized")) for name in base)
    assert {types[name] for name in [*base, *(name for name in types if name.endswith(".table"))]} == {TensorProto.INT8}
    assert {kind for name, kind in types.items() if ".lora_" in name} == {TensorProto.FLOAT}
    ids, mask = batch(*LENGTHS)
    slot = torch.tensor([0, 1, 0, 1, 1, 0])
    quantised = run_onnx(path, ids, mask, slot)
    near = parity(run_onnx(exported, ids, mask, slot), quantised)
    assert near.min_cosine > 0.99, near
    split_base(path)
    kept = onnx.load(str(path), load_external_data=False).graph.initializer
    inside = {tensor.name for tensor in kept if not tensor.external_data and np.prod(tensor.dims) >= 32}
    assert {name for name in inside if not (".lora_" in name or name.startswith("heads."))} == set()
    assert parity(quantised, run_onnx(path, ids, mask, slot)).max_abs < 1e-6


@pytest.mark.parametrize("exported", ["modernbert"], indirect=True)
def test_a_text_beyond_512_tokens_is_read_to_its_end(exported: Path, tinies: dict[str, Tiny]) -> None:
    tiny = tinies["modernbert"]
    ids, mask = batch(700, 600)
    slot = torch.tensor([1, 0])
    expected = in_torch(tiny, ids, mask, slot)
    found = run_onnx(exported, ids, mask, slot)
    assert parity(expected, found).max_abs < TOLERANCE
    assert (slotted(tiny, ids, mask, slot)[:1] - states(tiny.adapted, ids, mask)[:1]).abs().max() < TOLERANCE
    ids[0, 650:] = 9
    other = run_onnx(exported, ids, mask, slot)
    assert np.abs(other[0] - found[0])[0].max() > 1e-3
    assert np.abs(other[0] - found[0])[1].max() < 1e-6


def test_how_many_tokens_fit() -> None:
    def longest(name: str, **own: int) -> int:
        return longest_text(AutoConfig.for_model(name, **own))

    assert longest("bert", max_position_embeddings=512) == 512
    assert longest("xlm-roberta", max_position_embeddings=514, pad_token_id=1) == 512
    assert longest("deberta-v2", max_position_embeddings=512) == 512
    assert longest("modernbert", max_position_embeddings=8_192) == 8_192


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model_type: found 'gpt2', allowed bert, deberta-v2, modernbert, roberta"):
        family_of(AutoConfig.for_model("gpt2"))


def test_a_second_path_beside_another_family_is_refused(tinies: dict[str, Tiny]) -> None:
    two_paths = TwoPaths(torch.zeros(9, 2, 32), JoinedPaths(32))
    with pytest.raises(
        ValueError, match="two_paths: found them beside a model of type 'modernbert', allowed beside bert"
    ):
        slot_encoder(tinies["modernbert"].model, two_paths=two_paths)


def test_a_slotted_layer_does_not_run_alone(tinies: dict[str, Tiny]) -> None:
    assert isinstance(tinies["bert"].model, BertModel)
    layer = SlottedLinear(nn.Linear(2, 3), CurrentSlot(), slots=1, rank=1)
    with pytest.raises(RuntimeError, match="inside its FamilyEncoder"):
        layer(torch.zeros(1, 1, 2))
