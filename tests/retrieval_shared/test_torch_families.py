"""Encoders of every family under slots, against transformers, PEFT and their own exported graphs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from peft import PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn
from transformers import AutoConfig, BertModel, PretrainedConfig

from retrieval_shared.adapters import LORA_A, LORA_B
from retrieval_shared.head import HEADS_PREFIX
from retrieval_shared.torch_encoder import SlotEncoder
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
from retrieval_shared.torch_paths import JoinedPaths, TwoPaths
from training.adapter import lora_config
from training.base_model import load_base_model, round_to_int8
from training.config import AdapterConfig
from training.export import (
    OUTPUTS,
    Feeds,
    ServingGraph,
    export_onnx,
    is_base_weight,
    parity,
    quantise,
    run_onnx,
    split_base,
)
from training.heads import FoldedHeads, PooledHeads
from training.pooling import pooling_block

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


def tiny_of(name: str, folder: Path, *, layers: int = 2) -> Tiny:
    """Return the encoder with an adapter over so many of its two layers, the upper ones."""
    base = load_base_model(str(folder))
    round_to_int8(base)
    config = lora_config(AdapterConfig(layers=layers, rank=2, alpha=4), base.model)
    adapted = get_peft_model(copy.deepcopy(base.model), config).eval()
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for parameter_name, parameter in adapted.named_parameters():
            if ".lora_" in parameter_name:
                parameter.normal_(std=0.2, generator=generator)
    adapter = family_adapter(get_peft_model_state_dict(adapted), base.model)
    encoder = slot_encoder(base.model, [adapter], rank=2, scale=2.0, branch_layers=layers)
    return Tiny(name, base.model, adapted, encoder)


def batch(*lengths: int) -> tuple[Tensor, Tensor]:
    """Random ids, padded with 0 as every caller pads, whatever a family's own padding id."""
    ids = torch.randint(5, 120, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]).long()
    return torch.where(mask > 0, ids, 0), mask


def states(model: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    with torch.no_grad():
        return cast("Tensor", model(input_ids=ids, attention_mask=mask).last_hidden_state)


def slotted(tiny: Tiny, ids: Tensor, mask: Tensor, slot: Tensor, branch_row: Tensor | None = None) -> Tensor:
    """Return the states of the branches, one per text unless told."""
    rows = torch.arange(len(ids)) if branch_row is None else branch_row
    with torch.no_grad():
        return cast("Tensor", tiny.encoder(ids, mask, rows, slot))


def test_a_mixed_batch_is_the_base_in_slot_0_and_peft_in_slot_1(tiny: Tiny) -> None:
    ids, mask = batch(*LENGTHS)
    slot = torch.tensor([0, 1, 0, 1, 1, 0])
    base, adapted = states(tiny.model, ids, mask), states(tiny.adapted, ids, mask)
    expected = torch.where(slot[:, None, None] > 0, adapted, base)
    real = mask > 0
    assert (slotted(tiny, ids, mask, slot) - expected)[real].abs().max() < TOLERANCE
    assert (adapted - base)[real].abs().max() > 0.1  # the adapter does something
    assert torch.isfinite(base).all()  # heads are trained on these, and NaN times a weight of 0 is NaN


def test_branches_of_one_text_equal_each_alone(tiny: Tiny) -> None:
    ids, mask = batch(*LENGTHS)
    rows, slot = torch.tensor([4, 0, 4, 5]), torch.tensor([1, 1, 0, 0])
    found = slotted(tiny, ids, mask, slot, rows)
    vectors = tiny.encoder.vector(ids, mask, rows, found)
    for i, row in enumerate(rows.tolist()):
        one, length = slice(row, row + 1), LENGTHS[row]
        alone = slotted(tiny, ids[one, :length], mask[one, :length], slot[i : i + 1])
        torch.testing.assert_close(found[i : i + 1, :length], alone, atol=1e-5, rtol=1e-4)
        vector = tiny.encoder.vector(ids[one, :length], mask[one, :length], torch.zeros(1, dtype=torch.int64), alone)
        torch.testing.assert_close(vectors[i : i + 1], vector, atol=1e-5, rtol=1e-4)


def test_branch_layers_are_the_upper_ones_and_carry_all_lora(tiny: Tiny, tiny_families: dict[str, Path]) -> None:
    upper = tiny_of(tiny.name, tiny_families[tiny.name], layers=1)
    layers = f"{FAMILIES[tiny.name].layers}."
    assert sorted(upper.encoder.lora_paths().values()) == sorted(
        f"{layers}1.{path}" for path in FAMILIES[tiny.name].linears.values()
    )
    with_lora = {name.rpartition(".")[0] for name, _ in upper.encoder.named_parameters() if ".lora_" in name}
    assert with_lora == set(upper.encoder.lora_paths())
    assert len(tiny.encoder.lora_paths()) == 2 * len(with_lora)
    ids, mask = batch(*LENGTHS)
    found, expected = slotted(upper, ids, mask, torch.ones(6, dtype=torch.int64)), states(upper.adapted, ids, mask)
    assert (found - expected)[mask > 0].abs().max() < TOLERANCE
    assert (found - slotted(tiny, ids, mask, torch.ones(6, dtype=torch.int64)))[mask > 0].abs().max() > 0.1


def test_without_branch_layers_no_layer_carries_lora(tiny: Tiny) -> None:
    encoder = slot_encoder(tiny.model, [{}], branch_layers=0)
    assert encoder.lora_paths() == {}
    assert not [name for name, _ in encoder.named_parameters() if ".lora_" in name]
    ids, mask = batch(9, 4)
    with torch.no_grad():
        found = encoder(ids, mask, torch.arange(2), torch.tensor([1, 0]))
    assert (found - states(tiny.model, ids, mask))[mask > 0].abs().max() < TOLERANCE


@pytest.mark.parametrize("layers", [-1, 3])
def test_branch_layers_that_are_not_there_are_refused(tiny: Tiny, layers: int) -> None:
    with pytest.raises(ValueError, match=f"branch_layers: found {layers}, allowed 0 to 2"):
        slot_encoder(tiny.model, branch_layers=layers)


def test_an_adapter_below_the_branch_layers_is_refused(tiny: Tiny) -> None:
    adapter = family_adapter(get_peft_model_state_dict(tiny.adapted), tiny.model)
    with pytest.raises(ValueError, match=r"branch_layers: the adapter has matrices for layer\.0\.\w+, which"):
        slot_encoder(tiny.model, [adapter], rank=2, branch_layers=1)


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
    vectors = tiny.encoder.vector(ids, mask, torch.arange(6), found)
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
    rows, slot = torch.arange(2), torch.zeros(2, dtype=torch.int64)
    gelu = slot_encoder(BertModel.from_pretrained(tiny_base, add_pooling_layer=False))
    with torch.no_grad():
        found, plain = encoder(ids, mask, rows, slot), gelu(ids, mask, rows, slot)
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
    config = cast("PretrainedConfig", tiny.model.config)
    kind, expected = config._attn_implementation, states(tiny.model, ids, mask)
    slot_encoder(tiny.model)
    assert config._attn_implementation == kind
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
    path: Path = tmp_path_factory.mktemp("graphs") / request.param / "float32.onnx"
    export_onnx(serving(tinies[request.param]), path, OUTPUTS)
    return path


def serving(tiny: Tiny) -> ServingGraph:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        heads = PooledHeads(pooling_block(tiny.model), 3, hidden=8, rank=2, alpha=4)
        with torch.no_grad():
            for parameter in heads.lora.values():
                parameter.normal_(std=0.2)
        return ServingGraph(tiny.encoder, FoldedHeads(heads)).eval()


def resident(graph: ServingGraph) -> dict[str, NDArray[np.float32]]:
    """Return what the module holds of adapters and heads, as the graph's inputs."""
    inputs = {HEADS_PREFIX + name: value.numpy() for name, value in graph.heads.named_parameters()}
    for ours, theirs in graph.encoder.lora_paths().items():
        for ending, start in ((".lora_a", LORA_A), (".lora_b", LORA_B)):
            inputs[start + theirs] = graph.encoder.get_parameter(ours + ending).detach().numpy()
    return inputs


def feeds(*lengths: int, branch_row: Sequence[int] | None = None) -> Feeds:
    """Return random texts, each under one slot and the first under the other one too, unless told."""
    ids, mask = batch(*lengths)
    rows = np.array([*range(len(lengths)), 0] if branch_row is None else branch_row, dtype=np.int64)
    return {
        "input_ids": ids.numpy(),
        "attention_mask": mask.numpy(),
        "branch_row": rows,
        "slot": (np.arange(len(rows)) + len(rows)) % 2,
    }


def in_torch(graph: ServingGraph, given: Feeds) -> list[NDArray[np.float32]]:
    with torch.no_grad():
        return [value.numpy() for value in graph(**{name: torch.from_numpy(value) for name, value in given.items()})]


# The graph was traced at 2 texts of 7 tokens and 3 branches. 320 are all positions that the shortest encoder has.
@pytest.mark.parametrize("lengths", [(9, 2, 5, 9), (1,), (200, 3), (320,)])
def test_the_graph_equals_torch_at_other_sizes(
    exported: Path, tinies: dict[str, Tiny], lengths: tuple[int, ...]
) -> None:
    graph, given = serving(tinies[exported.parent.name]), feeds(*lengths)
    assert set(given["slot"]) == {0, 1}
    expected, found = in_torch(graph, given), run_onnx(exported, given, resident(graph))
    assert [value.shape for value in found] == [(len(lengths) + 1, *size) for size in ((32,), (3,), (3, max(lengths)))]
    assert parity(expected, found).max_abs < TOLERANCE


def test_adapters_and_heads_are_inputs(exported: Path, tinies: dict[str, Tiny]) -> None:
    """With as many slots and as large a rank as the caller has."""
    graph = serving(tinies[exported.parent.name])
    model = onnx.load(str(exported)).graph
    shapes = {
        each.name: tuple(size.dim_param or size.dim_value for size in each.type.tensor_type.shape.dim)
        for each in model.input
    }
    names = FAMILIES[exported.parent.name].linears
    assert set(shapes) == {"input_ids", "attention_mask", "branch_row", "slot", *resident(graph)}
    assert len([name for name in shapes if name.startswith((LORA_A, LORA_B))]) == 2 * 2 * len(names)
    assert {shape[0::2] for name, shape in shapes.items() if name.startswith(LORA_A)} == {("slots", "rank")}
    assert {shape[:2] for name, shape in shapes.items() if name.startswith(LORA_B)} == {("slots", "rank")}
    assert not [tensor.name for tensor in model.initializer if ".lora_" in tensor.name or "heads." in tensor.name]
    given, own = feeds(9, 5, branch_row=[1, 0]), resident(graph)
    wider = {name: _wider(name, value) for name, value in own.items()}
    assert parity(run_onnx(exported, given, own), run_onnx(exported, given, wider)).max_abs < 1e-5


def _wider(name: str, value: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return LoRA stacks with a third slot, whose values nobody asks for, and ranks padded by 3."""
    if not name.startswith((LORA_A, LORA_B)):
        return value
    rank = 2 if name.startswith(LORA_A) else 1
    padded = np.pad(value, [(0, 0)] + [(0, 3 if axis == rank else 0) for axis in (1, 2)])
    return np.concatenate([padded, np.full_like(padded[:1], 9.0)])


def test_int8_holds_the_base_alone_and_is_near(exported: Path, tinies: dict[str, Tiny]) -> None:
    path = exported.with_name("int8.onnx")
    quantise(exported, path)
    types = {tensor.name: tensor.data_type for tensor in onnx.load(str(path)).graph.initializer}
    base = [name for name in types if name.endswith(".weight_quantized")]
    assert len(base) == 2 * len(FAMILIES[exported.parent.name].linears)
    assert all(is_base_weight(name.removesuffix("_quantized")) for name in base)
    assert {types[name] for name in [*base, *(name for name in types if name.endswith(".table"))]} == {TensorProto.INT8}
    given, own = feeds(*LENGTHS), resident(serving(tinies[exported.parent.name]))
    quantised = run_onnx(path, given, own)
    near = parity(run_onnx(exported, given, own), quantised)
    assert near.min_cosine > 0.99, near
    split_base(path)
    kept = onnx.load(str(path), load_external_data=False).graph.initializer
    assert {tensor.name for tensor in kept if not tensor.external_data and np.prod(tensor.dims) >= 32} == set()
    assert parity(quantised, run_onnx(path, given, own)).max_abs < 1e-6


@pytest.mark.parametrize("exported", ["modernbert"], indirect=True)
def test_a_text_beyond_512_tokens_is_read_to_its_end(exported: Path, tinies: dict[str, Tiny]) -> None:
    tiny = tinies["modernbert"]
    graph, given = serving(tiny), feeds(700, 600, branch_row=[1, 0])
    found = run_onnx(exported, given, resident(graph))
    assert parity(in_torch(graph, given), found).max_abs < TOLERANCE
    ids, mask, slot = (torch.from_numpy(given[name]) for name in ("input_ids", "attention_mask", "slot"))
    assert slot.tolist() == [0, 1]
    long = slotted(tiny, ids[:1], mask[:1], slot[1:])
    assert (long - states(tiny.adapted, ids[:1], mask[:1])).abs().max() < TOLERANCE
    given["input_ids"] = given["input_ids"].copy()
    given["input_ids"][0, 650:] = 9
    other = run_onnx(exported, given, resident(graph))
    assert np.abs(other[0] - found[0])[1].max() > 1e-3
    assert np.abs(other[0] - found[0])[0].max() < 1e-6


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
