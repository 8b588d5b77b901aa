"""From trained torch modules to one ONNX graph: export, int8 for the base, one file of base weights, parity checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import external_data_helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn

from retrieval_shared.bundle import BASE_WEIGHTS
from retrieval_shared.head import HEADS_PREFIX
from retrieval_shared.torch_encoder import SlotEncoder
from retrieval_shared.torch_families import AnySlotEncoder
from retrieval_shared.torch_rows import mean_pool
from training.heads import FoldedHeads
from training.resident import make_resident
from training.row_scales import scale_rows

INPUTS = ("input_ids", "attention_mask", "branch_row", "slot")
OUTPUTS = ("vector", "logits", "attention")
"""Of the served graph."""

Feeds = dict[str, NDArray[Any]]


class TrunkGraph(nn.Module):
    """What of a text no adapter touches: the trunk's states and the static path's vector."""

    def __init__(self, encoder: SlotEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the trunk's states `[b, t, d]` and the static vectors `[b, d]`."""
        return self.encoder.trunk(input_ids, attention_mask), self.encoder.static(input_ids, attention_mask)


class BranchGraph(nn.Module):
    """What a slot makes of the trunk's states: token states and sentence vectors."""

    def __init__(self, encoder: SlotEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, trunk: Tensor, static: Tensor, attention_mask: Tensor, slot: Tensor) -> tuple[Tensor, Tensor]:
        """Return token states `[b, t, d]` and unit vectors `[b, d]`, one branch per text."""
        rows = torch.arange(trunk.shape[0])
        states = self.encoder.branch(trunk, attention_mask, rows, slot)
        transformer = mean_pool(states, attention_mask)
        return states, self.encoder.paths.join(transformer, static) if self.encoder.paths else transformer


class StatesGraph(nn.Module):
    """Token states and sentence vectors of an encoder that has no trunk of its own, one branch per text."""

    def __init__(self, encoder: AnySlotEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor, slot: Tensor) -> tuple[Tensor, Tensor]:
        """Return token states `[b, t, d]` and the unit vectors `[b, d]`."""
        rows = torch.arange(input_ids.shape[0])
        states = self.encoder(input_ids, attention_mask, rows, slot)
        return states, self.encoder.vector(input_ids, attention_mask, rows, states)


class ServingGraph(nn.Module):
    """What is served: per branch the sentence vector, the heads' logits and where each head looked."""

    def __init__(self, encoder: AnySlotEncoder, heads: FoldedHeads) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = heads

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, branch_row: Tensor, slot: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the unit vectors `[n, d]`, logits `[n, H]` and attention `[n, H, t]` of n branches."""
        states = self.encoder(input_ids, attention_mask, branch_row, slot)
        vector = self.encoder.vector(input_ids, attention_mask, branch_row, states)
        logits, attention = self.heads(states, attention_mask.index_select(0, branch_row), vector)
        return vector, logits, attention


def example_inputs(module: nn.Module) -> tuple[dict[str, Tensor], dict[str, dict[int, Any]]]:
    """Return inputs a module is traced with, by the names of its arguments, and which of their axes are free."""
    batch, branches, tokens = (torch.export.Dim(name, min=1) for name in ("batch", "branches", "tokens"))
    mask = torch.ones(2, 7, dtype=torch.int64)
    mask[1, 4:] = 0
    inputs = {"input_ids": torch.ones(2, 7, dtype=torch.int64), "attention_mask": mask}
    axes: dict[str, dict[int, Any]] = {"input_ids": {0: batch, 1: tokens}, "attention_mask": {0: batch, 1: tokens}}
    if isinstance(module, BranchGraph):
        d = module.encoder.shape.dim
        inputs = {"trunk": torch.ones(2, 7, d), "static": torch.ones(2, d), "attention_mask": mask}
        axes = {"trunk": {0: batch, 1: tokens}, "static": {0: batch}, "attention_mask": {0: batch, 1: tokens}}
    if isinstance(module, ServingGraph):
        inputs["branch_row"], axes["branch_row"] = torch.tensor([0, 1, 1]), {0: branches}
        inputs["slot"], axes["slot"] = torch.zeros(3, dtype=torch.int64), {0: branches}
    if isinstance(module, BranchGraph | StatesGraph):
        inputs["slot"], axes["slot"] = torch.zeros(2, dtype=torch.int64), {0: batch}
    return inputs, axes


def export_onnx(module: nn.Module, path: Path, outputs: Sequence[str]) -> None:
    """Write `module`, one of the graphs above, as a float32 ONNX graph with free axes for texts, branches and tokens.

    What is swapped while serving becomes inputs (`make_resident`): LoRA matrices and heads.
    """
    inputs, axes = example_inputs(module)
    with _all_different(module):
        program = torch.onnx.export(
            module.eval(),
            (),
            kwargs=inputs,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=axes,
            dynamo=True,
            verbose=False,
        )
    if program is None:  # only the legacy exporter returns nothing
        raise RuntimeError("torch.onnx.export returned no program")
    path.parent.mkdir(parents=True, exist_ok=True)
    program.save(str(path))
    encoder = cast("AnySlotEncoder", module.encoder)
    model = onnx.load(str(path))
    make_resident(model, encoder.lora_paths())
    path.write_bytes(model.SerializeToString())


@contextmanager
def _all_different(module: nn.Module) -> Iterator[None]:
    """Give every parameter that becomes an input values of its own: equal tensors would be exported as one.

    Neither 0 nor 1 is among them: an optimiser may leave out what adds or multiplies by them.
    """
    inputs = (name for name, _ in module.named_parameters() if ".lora_" in name or name.startswith(HEADS_PREFIX))
    state = {name: module.get_parameter(name).detach().clone() for name in inputs}
    with torch.no_grad():
        try:
            for number, name in enumerate(state):
                module.get_parameter(name).fill_(number + 2.0)
            yield
        finally:
            for name, value in state.items():
                module.get_parameter(name).copy_(value)


def quantise(source: Path, target: Path) -> None:
    """Write the graph with its base MatMuls in int8: one weight scale per output channel, one activation scale per row.

    LoRA, heads and everything else stay in float32: at int8 an adapter's small update would vanish in the rounding.
    Seven-bit weights (`reduce_range`) keep CPUs without VNNI from saturating.
    """
    base = [
        node.name
        for node in onnx.load(str(source), load_external_data=False).graph.node
        if node.op_type == "MatMul" and any(is_base_weight(name) for name in node.input)
    ]
    quantize_dynamic(
        str(source),
        str(target),
        op_types_to_quantize=["MatMul"],
        nodes_to_quantize=base,
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )
    model = onnx.load(str(target))
    scale_rows(model)
    target.write_bytes(model.SerializeToString())


def is_base_weight(name: str) -> bool:
    """Return whether an initialiser is a linear weight of the base, by the name the exporter keeps."""
    # `blocks.0.linears.query.weight` in a `SlotEncoder`, `....query_proj.slotted.weight` in a `FamilyEncoder`.
    return name.endswith(".weight") and (".linears." in name or ".slotted." in name)


def is_base(name: str) -> bool:
    """Return whether an initialiser (of a quantised graph) belongs to the base."""
    return name.startswith("encoder.")


def split_base(path: Path) -> None:
    """Move the base's initialisers of the graph at `path` into `BASE_WEIGHTS` beside it, in the order of their names.

    The order and the bytes depend on the base alone, so that a new adapter or head leaves the file as it is.
    """
    model = onnx.load(str(path))
    _strip(model)
    offset = 0
    with (path.parent / BASE_WEIGHTS).open("wb") as file:
        for tensor in sorted(model.graph.initializer, key=lambda tensor: tensor.name):
            if not is_base(tensor.name):
                continue
            raw = numpy_helper.to_array(tensor).tobytes()
            tensor.raw_data = raw
            for kind in ("float_data", "int32_data", "int64_data"):
                tensor.ClearField(kind)
            external_data_helper.set_external_data(tensor, location=BASE_WEIGHTS, offset=offset, length=len(raw))
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            file.write(raw)
            file.write(b"\0" * (-len(raw) % 64))  # aligned, so that the runtime may map the file
            offset += len(raw) + (-len(raw) % 64)
    path.write_bytes(model.SerializeToString())


def _strip(model: onnx.ModelProto) -> None:
    """Remove what the exporter noted about the machine it ran on: source paths and stack traces."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


@dataclass(frozen=True)
class Parity:
    """How far two forms of one graph are apart on the same inputs."""

    max_abs: float
    """Largest absolute difference of any output."""
    min_cosine: float
    """Smallest cosine between two rows of the first output."""


def parity(left: Sequence[NDArray[np.float32]], right: Sequence[NDArray[np.float32]]) -> Parity:
    """Return how far two lists of outputs are apart; outputs pair up by position and share their shapes.

    Where a value is not a number, neither is the difference.
    """
    gap = float(np.max([np.abs(a - b).max() for a, b in zip(left, right, strict=True)]))
    a, b = left[0].reshape(-1, left[0].shape[-1]), right[0].reshape(-1, right[0].shape[-1])
    cosine = (a * b).sum(-1) / np.maximum(np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1), 1e-12)
    return Parity(max_abs=gap, min_cosine=float(cosine.min()))


def run_onnx(path: Path, feeds: Feeds, resident: Mapping[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Return all outputs of the graph at `path`."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return list(session.run(None, {**feeds, **resident}))
