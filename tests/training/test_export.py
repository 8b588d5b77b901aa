"""The exported graphs of mixed batches against torch and transformers, and what quantisation may touch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from safetensors.torch import load_file

from retrieval_shared.bundle import BASE_WEIGHTS
from retrieval_shared.head import FOLDED
from retrieval_shared.torch_encoder import SlotEncoder, from_hugging_face, peft_adapter
from retrieval_shared.torch_families import slot_encoder
from retrieval_shared.torch_rows import mean_pool
from training.base_model import BaseModel, load_base_model, round_to_int8
from training.config import ModerationConfig
from training.examples import HEADS
from training.export import (
    OUTPUTS,
    BranchGraph,
    Feeds,
    ServingGraph,
    StatesGraph,
    TrunkGraph,
    export_onnx,
    is_base,
    is_base_weight,
    parity,
    quantise,
    run_onnx,
    split_base,
)
from training.heads import FoldedHeads, PooledHeads
from training.pooling import pooling_block

Resident = dict[str, NDArray[np.float32]]
Outputs = Sequence[NDArray[np.float32]]
TEXTS = (9, 2, 5, 7)
"""Tokens of four texts."""
MIXED = [(0, 0), (0, 1), (0, 2), (3, 1), (1, 2), (1, 0), (3, 0), (0, 1)]
"""Branches: text and slot. Text 2 has none, text 0 has one of them twice."""


@pytest.fixture(scope="module")
def base(tiny_config: ModerationConfig) -> BaseModel:
    base = load_base_model(tiny_config.base_model)
    round_to_int8(base)
    return base


def folded(base: BaseModel, *, heads: int = len(HEADS), hidden: int = 8, seed: int = 3) -> FoldedHeads:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        pooled = PooledHeads(pooling_block(base.model), heads, hidden=hidden)
        with torch.no_grad():
            pooled.judge.look.normal_(std=1.0)
    return FoldedHeads(pooled)


@pytest.fixture(scope="module")
def graph(base: BaseModel, tiny_adapter: Path, tiny_region_adapter: Path) -> ServingGraph:
    """The tiny encoder, a trunk of one layer, two random adapters in slots 1 and 2, and random heads."""
    folders = (tiny_adapter, tiny_region_adapter)
    adapters = [peft_adapter(load_file(str(folder / "adapter_model.safetensors"))) for folder in folders]
    encoder = slot_encoder(base.model, adapters, rank=2, scale=2.0, branch_layers=1)
    return ServingGraph(encoder, folded(base)).eval()


def resident(module: torch.nn.Module) -> Resident:
    """Return what `module` holds of adapters and heads, by the names of a graph's inputs."""
    encoder = cast("Any", module).encoder
    found = {
        f"{side}.{theirs}": encoder.get_parameter(f"{ours}.{side}")
        for ours, theirs in encoder.lora_paths().items()
        for side in ("lora_a", "lora_b")
    }
    found |= {name: value for name, value in module.named_parameters() if name.startswith("heads.")}
    return {name: value.detach().numpy() for name, value in found.items()}


def exported_as(module: torch.nn.Module, folder: Path, name: str, outputs: Sequence[str]) -> Path:
    path = folder / f"{name}.onnx"
    export_onnx(module, path, outputs)
    return path


@pytest.fixture(scope="module")
def exported(graph: ServingGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_as(graph, tmp_path_factory.mktemp("export"), "float32", OUTPUTS)


@pytest.fixture(scope="module")
def quantised(exported: Path) -> Path:
    path = exported.with_name("int8.onnx")
    quantise(exported, path)
    return path


def batch(lengths: Sequence[int], branches: Sequence[tuple[int, int]]) -> Feeds:
    """Return inputs of random texts, each the same in every batch, and their branches."""
    ids = np.stack([np.random.default_rng(i).integers(5, 120, max(lengths)) for i in range(len(lengths))])
    mask = (np.arange(max(lengths))[None, :] < np.array(lengths)[:, None]).astype(np.int64)
    rows, slots = (np.array(each, dtype=np.int64) for each in zip(*branches, strict=True))
    return {"input_ids": np.where(mask > 0, ids, 0), "attention_mask": mask, "branch_row": rows, "slot": slots}


def in_torch(graph: ServingGraph, feeds: Feeds) -> Outputs:
    with torch.no_grad():
        return [value.numpy() for value in graph(**{name: torch.from_numpy(value) for name, value in feeds.items()})]


@dataclass(frozen=True)
class Alone:
    """One branch of a batch, without padding."""

    feeds: Feeds
    tokens: int

    def cut(self, outputs: Outputs, branch: int) -> Outputs:
        """Return what a batch gave for it, padding left out."""
        rows = [value[branch : branch + 1] for value in outputs]
        return [*rows[:2], rows[2][..., : self.tokens]]


def alone(text: int, slot: int) -> Alone:
    feeds = batch(TEXTS, [(0, slot)])
    tokens = TEXTS[text]
    texts = {name: feeds[name][text : text + 1, :tokens] for name in ("input_ids", "attention_mask")}
    return Alone(feeds | texts, tokens)


@pytest.mark.parametrize(
    ("lengths", "branches"),
    [
        (TEXTS, MIXED),
        ((1,), [(0, 0)]),
        ((1, 1, 1), [(2, 1)]),
        ((2, 2), [(1, 2), (0, 2)]),
        ((200, 3), [(0, 1), (1, 1), (1, 0)]),
    ],
)
def test_the_graph_equals_torch_for_any_mix_of_texts_and_slots(
    graph: ServingGraph, exported: Path, lengths: tuple[int, ...], branches: list[tuple[int, int]]
) -> None:
    feeds = batch(lengths, branches)
    assert parity(in_torch(graph, feeds), run_onnx(exported, feeds, resident(graph))).max_abs < 1e-4


@pytest.mark.parametrize("form", ["exported", "quantised"])
def test_a_branch_of_a_mixed_batch_equals_that_branch_alone(
    graph: ServingGraph, form: str, request: pytest.FixtureRequest
) -> None:
    """In int8 too: neither a neighbour nor padding moves a scale."""
    path: Path = request.getfixturevalue(form)
    mixed = run_onnx(path, batch(TEXTS, MIXED), resident(graph))
    for branch, (text, slot) in enumerate(MIXED):
        one = alone(text, slot)
        assert parity(run_onnx(path, one.feeds, resident(graph)), one.cut(mixed, branch)).max_abs < 1e-5


@pytest.mark.parametrize("form", ["exported", "quantised"])
def test_branches_in_another_order_give_the_same_in_that_order(
    graph: ServingGraph, form: str, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(form)
    order = np.random.default_rng(0).permutation(len(MIXED))
    mixed = run_onnx(path, batch(TEXTS, MIXED), resident(graph))
    other = run_onnx(path, batch(TEXTS, [MIXED[i] for i in order]), resident(graph))
    assert parity([value[order] for value in mixed], other).max_abs < 1e-6


def test_slot_0_is_the_transformers_model_without_adapters(
    graph: ServingGraph, exported: Path, base: BaseModel
) -> None:
    feeds = batch(TEXTS, [(i, 0) for i in range(len(TEXTS))])
    ids, mask = (torch.from_numpy(feeds[name]) for name in ("input_ids", "attention_mask"))
    with torch.no_grad():
        states = base.model(input_ids=ids, attention_mask=mask).last_hidden_state
        vector = mean_pool(states, mask)
        expected = [value.numpy() for value in (vector, *graph.heads(states, mask, vector))]
    found = run_onnx(exported, feeds, resident(graph))
    assert parity(expected, found).max_abs < 1e-4
    for slot in (1, 2):
        adapted = run_onnx(exported, batch(TEXTS, [(i, slot) for i in range(len(TEXTS))]), resident(graph))
        assert np.abs(found[1] - adapted[1]).max() > 0.05


def test_what_stands_on_padding_changes_nothing_and_nobody_looks_there(graph: ServingGraph, exported: Path) -> None:
    feeds = batch(TEXTS, MIXED)
    other = feeds | {"input_ids": np.where(feeds["attention_mask"] > 0, feeds["input_ids"], 77)}
    found = run_onnx(exported, feeds, resident(graph))
    assert parity(found, run_onnx(exported, other, resident(graph))).max_abs < 1e-6
    padding = np.broadcast_to(feeds["attention_mask"][feeds["branch_row"]][:, None] == 0, found[2].shape)
    assert not found[2][padding].any()
    np.testing.assert_allclose(found[2].sum(-1), 1.0, atol=1e-5)


@pytest.mark.parametrize("slots", [1, 3, 20])
def test_the_number_of_slots_and_the_rank_are_free_at_run_time(graph: ServingGraph, exported: Path, slots: int) -> None:
    own, fed = resident(graph), resident(graph)
    for name in own:
        if name.startswith("lora_"):
            taken = own[name][np.arange(slots) % 3]
            axis = 2 if name.startswith("lora_a.") else 1
            fed[name] = np.pad(taken, [(0, 3 if i == axis else 0) for i in range(3)])  # of rank 5, in part zero
    branches = [(i % len(TEXTS), slot) for i, slot in enumerate(range(slots))]
    expected = run_onnx(exported, batch(TEXTS, [(text, slot % 3) for text, slot in branches]), own)
    assert parity(expected, run_onnx(exported, batch(TEXTS, branches), fed)).max_abs < 1e-5


def test_trunk_and_branches_make_the_states_of_the_serving_graph(
    graph: ServingGraph, exported: Path, tmp_path: Path
) -> None:
    """What adapters are trained over is what is served, text by text."""
    encoder = cast("SlotEncoder", graph.encoder)
    lower = exported_as(TrunkGraph(encoder), tmp_path, "trunk", ("trunk", "static"))
    upper = exported_as(BranchGraph(encoder), tmp_path, "branch", ("states", "vector"))
    feeds, lora = batch(TEXTS, MIXED), {k: v for k, v in resident(graph).items() if k.startswith("lora_")}
    rows, mask = feeds["branch_row"], feeds["attention_mask"]
    trunk, static = run_onnx(lower, {name: feeds[name] for name in ("input_ids", "attention_mask")}, {})
    assert not static.any()  # one path
    of_branches = {"trunk": trunk[rows], "static": static[rows], "attention_mask": mask[rows], "slot": feeds["slot"]}
    states, vector = run_onnx(upper, of_branches, lora)
    with torch.no_grad():
        expected = encoder(*(torch.from_numpy(value) for value in feeds.values())).numpy()
    real = mask[rows] > 0
    np.testing.assert_allclose(states[real], expected[real], atol=1e-4)
    np.testing.assert_allclose(vector, run_onnx(exported, feeds, resident(graph))[0], atol=1e-5)


def test_states_of_an_encoder_without_a_trunk(tiny_families: dict[str, Path], tmp_path: Path) -> None:
    encoder = slot_encoder(load_base_model(str(tiny_families["modernbert"])).model, [{}], rank=2, branch_layers=1)
    module = StatesGraph(encoder)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if ".lora_" in name:
                parameter[1].normal_(std=0.2, generator=torch.Generator().manual_seed(1))
    path = exported_as(module, tmp_path, "states", ("states", "vector"))
    feeds = batch((9, 2, 5), [(0, 0), (1, 1), (2, 0)])
    del feeds["branch_row"]
    states, vector = run_onnx(path, feeds, resident(module))
    with torch.no_grad():
        expected, unit = module(*(torch.from_numpy(value) for value in feeds.values()))
    real = feeds["attention_mask"] > 0
    np.testing.assert_allclose(states[real], expected.numpy()[real], atol=1e-4)
    np.testing.assert_allclose(vector, unit.numpy(), atol=1e-5)


def test_int8_is_near_float32(graph: ServingGraph, exported: Path, quantised: Path) -> None:
    feeds = batch(TEXTS, MIXED)
    near = parity(*(run_onnx(path, feeds, resident(graph)) for path in (exported, quantised)))
    assert near.min_cosine > 0.99
    assert near.max_abs < 0.1


def test_the_base_is_int8_and_adapters_and_heads_are_float32_inputs(quantised: Path) -> None:
    model = onnx.load(str(quantised)).graph
    types = {tensor.name: tensor.data_type for tensor in model.initializer}
    held = [name for name in types if name.endswith(".weight_quantized")]
    assert len(held) == 12  # six linear layers of two blocks
    assert {name for name, kind in types.items() if kind == TensorProto.INT8} == {*held, "encoder.table"} | {
        name.replace("_quantized", "_zero_point") for name in held
    }
    inputs = {each.name: each.type.tensor_type.elem_type for each in model.input}
    swapped = {name for name in inputs if name.startswith(("lora_a.", "lora_b.", "heads."))}
    assert len(swapped) == 12 + len(FOLDED)  # of one block above the trunk
    assert {inputs[name] for name in swapped} == {TensorProto.FLOAT}
    assert set(inputs) - swapped == {"input_ids", "attention_mask", "branch_row", "slot"}
    assert not [name for name in types if "lora" in name or name.startswith("heads.")]


def test_seven_bits_per_weight_and_one_scale_per_channel(quantised: Path) -> None:
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(str(quantised)).graph.initializer}
    for name, value in tensors.items():
        if name.endswith(".weight_quantized"):
            assert np.abs(value.astype(int)).max() <= 64
            assert tensors[name.replace("_quantized", "_scale")].shape == (value.shape[1],)


def split(quantised: Path, folder: Path) -> Path:
    path = folder / "split.onnx"
    path.write_bytes(quantised.read_bytes())
    split_base(path)
    return path


def test_the_base_moves_into_one_aligned_file_and_nothing_changes(
    graph: ServingGraph, quantised: Path, tmp_path: Path
) -> None:
    path = split(quantised, tmp_path)
    moved = [t for t in onnx.load(str(path), load_external_data=False).graph.initializer if t.external_data]
    assert {t.name for t in moved} == {t.name for t in onnx.load(str(quantised)).graph.initializer if is_base(t.name)}
    places = [{entry.key: entry.value for entry in tensor.external_data} for tensor in moved]
    assert {place["location"] for place in places} == {BASE_WEIGHTS}
    assert all(int(place["offset"]) % 64 == 0 for place in places)
    assert (tmp_path / BASE_WEIGHTS).stat().st_size % 64 == 0
    feeds = batch(TEXTS, MIXED)
    before, after = (run_onnx(each, feeds, resident(graph)) for each in (quantised, path))
    assert parity(before, after).max_abs < 1e-6
    machine = str(Path(torch.__file__).parent).encode()
    assert machine in quantised.read_bytes()  # the exporter notes where every node came from
    assert machine not in path.read_bytes()


def test_the_base_file_depends_on_the_base_alone_and_equal_adapters_stay_apart(
    base: BaseModel, quantised: Path, tmp_path: Path
) -> None:
    """Another run over the same base: other heads, other slots and ranks, all of them zero, no trunk."""
    encoder = from_hugging_face(base.model, [{}] * 4, rank=3, branch_layers=2)
    other = ServingGraph(encoder, folded(base, heads=2, hidden=5, seed=4)).eval()
    with torch.no_grad():
        other.heads.get_parameter("outer").copy_(other.heads.get_parameter("inner_bias"))
    before = {name: value.clone() for name, value in other.state_dict().items()}
    path = exported_as(other, tmp_path, "float32", OUTPUTS)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
    inputs = {each.name for each in onnx.load(str(path)).graph.input}
    assert inputs == {"input_ids", "attention_mask", "branch_row", "slot", *resident(other)}
    feeds = batch(TEXTS, [(text, slot) for text, slot in MIXED if slot < 2])
    assert parity(in_torch(other, feeds), run_onnx(path, feeds, resident(other))).max_abs < 1e-4

    quantise(path, tmp_path / "int8.onnx")
    split(tmp_path / "int8.onnx", tmp_path)
    (tmp_path / "first").mkdir()
    split(quantised, tmp_path / "first")
    assert (tmp_path / BASE_WEIGHTS).read_bytes() == (tmp_path / "first" / BASE_WEIGHTS).read_bytes()


def test_a_module_is_left_as_it_was_where_the_export_fails(
    graph: ServingGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: value.clone() for name, value in graph.state_dict().items()}

    def fail(module: torch.nn.Module, *_: object, **__: object) -> None:
        values = [parameter.flatten()[0] for name, parameter in module.named_parameters() if ".lora_" in name]
        assert len({float(value) for value in values}) == len(values) == 12
        raise RuntimeError("no operator")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(RuntimeError, match="no operator"):
        export_onnx(graph, tmp_path / "graph.onnx", OUTPUTS)
    assert all(torch.equal(value, before[name]) for name, value in graph.state_dict().items())


def test_names_of_the_base() -> None:
    assert is_base_weight("encoder.blocks.0.linears.query.weight")
    assert is_base_weight("encoder.model.layers.0.attn.Wqkv.slotted.weight")
    assert not is_base_weight("encoder.model.layers.0.attn.Wqkv.slotted.bias")
    assert not is_base_weight("encoder.blocks.0.attention_norm.weight")
    assert is_base("encoder.blocks.0.linears.query.weight_scale")
    assert is_base("encoder.table")
    assert not is_base("row_scale")


def arrays(*values: object) -> Outputs:
    return [np.array(value, dtype=np.float32) for value in values]


def test_parity_by_hand() -> None:
    found = parity(arrays([[1, 0], [3, 4]], [[0.5]]), arrays([[1, 0], [4, 3]], [[2.0]]))
    assert found.max_abs == 1.5
    assert found.min_cosine == pytest.approx(24 / 25)


@pytest.mark.parametrize("place", [0, 1])
def test_what_is_no_number_is_not_near_anything(place: int) -> None:
    broken = [*arrays([[1, 0]], [[0.5]])]
    broken[place] = broken[place] * np.float32(np.nan)
    assert np.isnan(parity(arrays([[1, 0]], [[0.5]]), broken).max_abs)
