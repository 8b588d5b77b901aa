"""The check between PEFT, the float32 graph and the int8 graph: it passes what agrees and refuses what does not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from retrieval_shared.bundle import GRAPH, Bundle
from retrieval_shared.errors import AdapterError
from retrieval_shared.torch_families import slot_encoder
from training.base_model import BaseModel, load_base_model, round_to_int8
from training.config import ModerationConfig
from training.examples import HEADS
from training.export import OUTPUTS, ServingGraph, export_onnx
from training.heads import FoldedHeads, PooledHeads
from training.parity import FLOAT_GRAPH, MAX_EXPORT_GAP, PARITY_TEXTS, check_parity, parity_inputs
from training.pooling import pooling_block

SLOTS = ("task:moderation", "region:ID")
ADAPTER = Path("adapters") / "region-ID"
HEAD = Path("heads") / HEADS[-1]


@pytest.fixture(scope="module")
def base(tiny_config: ModerationConfig) -> BaseModel:
    base = load_base_model(tiny_config.base_model)
    round_to_int8(base)
    return base


@pytest.fixture(scope="module")
def float_graph(
    base: BaseModel, tiny_config: ModerationConfig, tmp_path_factory: pytest.TempPathFactory
) -> onnx.ModelProto:
    """The graph that the tiny bundle's int8 graph was made from; it takes the bundle's adapters and heads as inputs."""
    path = tmp_path_factory.mktemp("float") / FLOAT_GRAPH
    encoder = slot_encoder(base.model, [{}], rank=1, branch_layers=tiny_config.adapter.layers)
    heads = FoldedHeads(PooledHeads(pooling_block(base.model), len(HEADS), hidden=8))
    export_onnx(ServingGraph(encoder, heads), path, OUTPUTS)
    return onnx.load(str(path))


@pytest.fixture
def unfinished(tiny_bundle: Bundle, float_graph: onnx.ModelProto, tmp_path: Path) -> Path:
    """A folder as the check finds it: the tiny bundle with both graphs."""
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle.path, folder)
    onnx.save(float_graph, str(folder / FLOAT_GRAPH))
    return folder


def test_every_slot_and_head_of_the_tiny_bundle_agrees_in_one_mixed_batch(unfinished: Path, base: BaseModel) -> None:
    before = {name: value.clone() for name, value in base.model.state_dict().items()}
    checks = check_parity(unfinished, base, SLOTS)
    assert checks["peft_max_abs"] <= MAX_EXPORT_GAP == 1e-4
    assert checks["int8_min_cosine"] > 0.99
    assert checks["int8_max_abs"] < 0.1
    assert not (unfinished / FLOAT_GRAPH).exists()
    after = base.model.state_dict()
    assert set(after) == set(before)  # PEFT wrapped a copy
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_the_slots_may_stand_in_any_order(unfinished: Path, base: BaseModel) -> None:
    assert check_parity(unfinished, base, SLOTS[::-1])["peft_max_abs"] <= MAX_EXPORT_GAP


def change(path: Path, name: str, changed: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change one initialiser of the graph at `path`."""
    model = onnx.load(str(path), load_external_data=False)
    tensor = next(each for each in model.graph.initializer if each.name == name)
    tensor.CopyFrom(numpy_helper.from_array(changed(numpy_helper.to_array(tensor)), name))
    onnx.save(model, str(path))


def described_otherwise(folder: Path) -> None:
    """Have PEFT leave out one adapted layer, whose matrices serving finds in the file."""
    path = folder / "adapter_config.json"
    described = json.loads(path.read_text(encoding="utf-8"))
    described["target_modules"] = [name for name in described["target_modules"] if not name.endswith("value")]
    path.write_text(json.dumps(described), encoding="utf-8")


def retrained(folder: Path, *, encoder: str | None = None, broken: bool = False) -> None:
    """Write an adapter's or a head's file anew, over another encoder or with a value that is not finite."""
    path = folder / "adapter_model.safetensors"
    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(str(path))
    if broken:
        next(iter(tensors.values())).view(-1)[0] = torch.nan
    save_file(tensors, str(path), metadata=metadata | ({"wardline.encoder": encoder} if encoder else {}))


@pytest.mark.parametrize("tampered", ["graph", "adapter", "head", "not a number"])
def test_a_float_graph_that_is_not_what_peft_computes_is_refused(
    unfinished: Path, base: BaseModel, tampered: str
) -> None:
    """Adapters and heads are read by PEFT and by serving from the same files; each must read the same out of them."""
    if tampered == "graph":
        change(unfinished / FLOAT_GRAPH, "encoder.blocks.1.output_norm.bias", lambda bias: bias + np.float32(1e-3))
    elif tampered == "adapter":
        described_otherwise(unfinished / ADAPTER)
    elif tampered == "head":
        described_otherwise(unfinished / HEAD)
    else:
        change(unfinished / FLOAT_GRAPH, "encoder.position", lambda rows: np.full_like(rows, np.nan))
    with pytest.raises(ValueError, match=r"parity: found \{'peft_max_abs': .*allowed max_abs 0.0001, int8 cosine 0.95"):
        check_parity(unfinished, base, SLOTS)
    assert (unfinished / FLOAT_GRAPH).exists()


def test_an_int8_graph_that_is_not_near_the_float_graph_is_refused(unfinished: Path, base: BaseModel) -> None:
    change(unfinished / GRAPH, "row_scale", np.ones_like)  # of a row, little more than its signs is left
    with pytest.raises(ValueError, match=r"parity: found \{'peft_max_abs': [0-9.e-]+, 'int8_min_cosine': 0\.[0-8]"):
        check_parity(unfinished, base, SLOTS)


@pytest.mark.parametrize("folder", [ADAPTER, HEAD], ids=["adapter", "head"])
def test_an_adapter_or_a_head_of_another_encoder_is_refused(unfinished: Path, base: BaseModel, folder: Path) -> None:
    retrained(unfinished / folder, encoder="0" * 64)
    with pytest.raises(AdapterError, match="0000"):
        check_parity(unfinished, base, SLOTS)


@pytest.mark.parametrize("folder", [ADAPTER, HEAD], ids=["adapter", "head"])
def test_a_value_that_is_not_finite_is_refused(unfinished: Path, base: BaseModel, folder: Path) -> None:
    retrained(unfinished / folder, broken=True)
    with pytest.raises(AdapterError, match="a value is not finite"):
        check_parity(unfinished, base, SLOTS)


def test_a_slot_without_an_adapter_is_refused(unfinished: Path, base: BaseModel) -> None:
    with pytest.raises(AdapterError, match="region-FR: cannot be read"):
        check_parity(unfinished, base, (*SLOTS, "region:FR"))


def test_the_inputs_hold_every_text_under_every_slot(base: BaseModel) -> None:
    feeds, n = parity_inputs(base.tokenizer, slots=3), len(PARITY_TEXTS)
    ids, mask = feeds["input_ids"], feeds["attention_mask"]
    lengths = [len(base.tokenizer.encode(text).ids) for text in PARITY_TEXTS]
    assert mask.sum(1).tolist() == lengths
    assert len(set(lengths)) > 2  # of many lengths
    assert ids.shape == mask.shape == (n, max(lengths))
    for row, text in enumerate(PARITY_TEXTS):
        assert ids[row][mask[row] > 0].tolist() == base.tokenizer.encode(text).ids
    assert not ids[mask == 0].any()
    branches = list(zip(feeds["branch_row"].tolist(), feeds["slot"].tolist(), strict=True))
    assert sorted(branches) == [(text, slot) for text in range(n) for slot in range(3)]
    assert {value.dtype for value in feeds.values()} == {np.dtype(np.int64)}
