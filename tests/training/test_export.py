"""The exported graph of a mixed batch against torch, and what quantisation may touch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from torch import Tensor

from training.adapter import TrainedAdapter, load_slots
from training.base_model import load_base_model, round_to_int8
from training.config import ModerationConfig
from training.examples import HEADS
from training.export import (
    BASE_WEIGHTS,
    ServingGraph,
    export_onnx,
    is_base,
    is_base_weight,
    parity,
    quantise,
    run_onnx,
    split_base,
)
from training.heads import AttentionHeads

OUTPUTS = ("vector", "logits", "attention")


@pytest.fixture(scope="module")
def graph(tiny_config: ModerationConfig, tiny_adapter: Path) -> ServingGraph:
    """The tiny encoder, its weights rounded, a random adapter in slot 1 and random heads."""
    base = load_base_model(tiny_config.base_model)
    round_to_int8(base)
    encoder = load_slots(base, TrainedAdapter(tiny_adapter, tiny_adapter), tiny_config.adapter)
    torch.manual_seed(3)
    return ServingGraph(encoder, AttentionHeads(len(HEADS), 32, hidden=8)).eval()


@pytest.fixture(scope="module")
def exported(graph: ServingGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "float32.onnx"
    export_onnx(graph, path, OUTPUTS)
    return path


@pytest.fixture(scope="module")
def quantised(exported: Path) -> Path:
    path = exported.with_name("int8.onnx")
    quantise(exported, path)
    return path


def batch(*lengths: int) -> tuple[Tensor, Tensor]:
    ids = torch.randint(5, 120, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]).long()
    return torch.where(mask > 0, ids, 0), mask


def in_torch(graph: ServingGraph, ids: Tensor, mask: Tensor, slot: Tensor) -> list[np.ndarray]:
    with torch.no_grad():
        return [value.numpy() for value in graph(ids, mask, slot)]


@pytest.mark.parametrize("lengths", [(9, 2, 5, 9), (1,), (2, 2), (200, 3)])
def test_the_graph_equals_torch_for_any_mix_of_slots(
    graph: ServingGraph, exported: Path, lengths: tuple[int, ...]
) -> None:
    ids, mask = batch(*lengths)
    slot = torch.arange(len(lengths)) % 2
    found = run_onnx(exported, ids, mask, slot)
    assert parity(in_torch(graph, ids, mask, slot), found).max_abs < 1e-4


def test_a_row_of_a_mixed_batch_equals_that_row_alone(exported: Path) -> None:
    ids, mask = batch(9, 2, 5, 7)
    slot = torch.tensor([0, 1, 1, 0])
    mixed = run_onnx(exported, ids, mask, slot)
    for row in range(4):
        length = int(mask[row].sum())
        alone = run_onnx(exported, ids[row : row + 1, :length], mask[row : row + 1, :length], slot[row : row + 1])
        cut = [mixed[0][row : row + 1], mixed[1][row : row + 1], mixed[2][row : row + 1, :, :length]]
        assert parity(alone, cut).max_abs < 1e-4


def test_the_slots_differ(exported: Path) -> None:
    ids, mask = batch(9, 5)
    base, adapted = (run_onnx(exported, ids, mask, torch.full((2,), slot)) for slot in (0, 1))
    assert np.abs(base[1] - adapted[1]).max() > 0.05


def test_int8_is_near_float32(exported: Path, quantised: Path) -> None:
    ids, mask = batch(9, 2, 5, 9)
    slot = torch.tensor([0, 1, 0, 1])
    near = parity(run_onnx(exported, ids, mask, slot), run_onnx(quantised, ids, mask, slot))
    assert near.min_cosine > 0.99
    assert near.max_abs < 0.1


def test_the_base_is_int8_and_adapters_and_heads_are_float32(quantised: Path) -> None:
    types = {tensor.name: tensor.data_type for tensor in onnx.load(str(quantised)).graph.initializer}
    base = [name for name in types if name.endswith(".weight_quantized")]
    assert len(base) == 12  # six linear layers of two blocks
    assert {types[name] for name in base} == {TensorProto.INT8}
    assert types["encoder.table"] == TensorProto.INT8
    lora = [name for name in types if ".lora_" in name]
    assert len(lora) == 24
    assert {types[name] for name in [*lora, "heads.query", "heads.inner"]} == {TensorProto.FLOAT}
    assert {name for name, kind in types.items() if kind == TensorProto.INT8} == {*base, "encoder.table"} | {
        name.replace("_quantized", "_zero_point") for name in base
    }


def test_seven_bits_per_weight_and_one_scale_per_channel(quantised: Path) -> None:
    tensors = {
        tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(str(quantised)).graph.initializer
    }
    for name, value in tensors.items():
        if name.endswith(".weight_quantized"):
            assert np.abs(value.astype(int)).max() <= 64
            assert tensors[name.replace("_quantized", "_scale")].shape == (value.shape[1],)


def test_the_base_moves_into_one_aligned_file_and_nothing_changes(quantised: Path, tmp_path: Path) -> None:
    path = tmp_path / "split.onnx"
    path.write_bytes(quantised.read_bytes())
    split_base(path)
    moved = [t for t in onnx.load(str(path), load_external_data=False).graph.initializer if t.external_data]
    assert {t.name for t in moved} == {t.name for t in onnx.load(str(quantised)).graph.initializer if is_base(t.name)}
    places = [{entry.key: entry.value for entry in tensor.external_data} for tensor in moved]
    assert {place["location"] for place in places} == {BASE_WEIGHTS}
    assert all(int(place["offset"]) % 64 == 0 for place in places)
    assert (tmp_path / BASE_WEIGHTS).stat().st_size % 64 == 0
    ids, mask = batch(9, 2)
    slot = torch.tensor([0, 1])
    before, after = run_onnx(quantised, ids, mask, slot), run_onnx(path, ids, mask, slot)
    assert parity(before, after).max_abs < 1e-6


def test_names_of_the_base() -> None:
    assert is_base_weight("encoder.blocks.0.linears.query.weight")
    assert is_base_weight("encoder.model.layers.0.attn.Wqkv.slotted.weight")
    assert not is_base_weight("encoder.model.layers.0.attn.Wqkv.slotted.bias")
    assert not is_base_weight("encoder.blocks.0.linears.query.lora_a")
    assert not is_base_weight("encoder.blocks.0.attention_norm.weight")
    assert is_base("encoder.blocks.0.linears.query.weight_scale")
    assert is_base("encoder.table")
    assert not is_base("encoder.blocks.0.linears.query.lora_b")
    assert not is_base("heads.inner")


def test_parity_by_hand() -> None:
    left = [np.float32([[1, 0], [3, 4]]), np.float32([[0.5]])]
    right = [np.float32([[1, 0], [4, 3]]), np.float32([[2.0]])]
    found = parity(left, right)
    assert found.max_abs == 1.5
    assert found.min_cosine == pytest.approx(24 / 25)
