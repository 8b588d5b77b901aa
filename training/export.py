"""From trained torch modules to one ONNX graph: export, int8 for the base, one file of base weights, parity checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import external_data_helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn

from retrieval_shared.bundle import BASE_WEIGHTS
from retrieval_shared.torch_families import AnySlotEncoder
from training.heads import AttentionHeads

INPUTS = ("input_ids", "attention_mask", "slot")


class StatesGraph(nn.Module):
    """Token states and sentence vector: what the second training stage caches."""

    def __init__(self, encoder: AnySlotEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor, slot: Tensor) -> tuple[Tensor, Tensor]:
        """Return token states `[b, t, d]` and the unit vector `[b, d]`."""
        states = self.encoder(input_ids, attention_mask, slot)
        return states, self.encoder.vector(input_ids, attention_mask, states)


class ServingGraph(nn.Module):
    """What is served: the sentence vector, the heads' logits and where each head looked."""

    def __init__(self, encoder: AnySlotEncoder, heads: AttentionHeads) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = heads

    def forward(self, input_ids: Tensor, attention_mask: Tensor, slot: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the unit vector `[b, d]`, logits `[b, H]` and attention `[b, H, t]`."""
        states = self.encoder(input_ids, attention_mask, slot)
        vector = self.encoder.vector(input_ids, attention_mask, states)
        logits, attention = self.heads(states, attention_mask, vector)
        return vector, logits, attention


def export_onnx(module: nn.Module, path: Path, outputs: Sequence[str]) -> None:
    """Write `module` as a float32 ONNX graph with free batch and token axes."""
    ids = torch.ones(2, 7, dtype=torch.int64)
    mask = torch.ones(2, 7, dtype=torch.int64)
    mask[1, 4:] = 0
    slot = torch.zeros(2, dtype=torch.int64)
    batch, tokens = torch.export.Dim("batch", min=1), torch.export.Dim("tokens", min=1)
    program = torch.onnx.export(
        module.eval(),
        (ids, mask, slot),
        input_names=list(INPUTS),
        output_names=list(outputs),
        dynamic_shapes=({0: batch, 1: tokens}, {0: batch, 1: tokens}, {0: batch}),
        dynamo=True,
        verbose=False,
    )
    if program is None:  # only the legacy exporter returns nothing
        raise RuntimeError("torch.onnx.export returned no program")
    path.parent.mkdir(parents=True, exist_ok=True)
    program.save(str(path))


def quantise(source: Path, target: Path) -> None:
    """Write the graph with its base MatMuls in int8 (dynamic activations, one weight scale per output channel).

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


def is_base_weight(name: str) -> bool:
    """Return whether an initialiser is a linear weight of the base, by the name the exporter keeps."""
    # `blocks.0.linears.query.weight` in a `SlotEncoder`, `....query_proj.slotted.weight` in a `FamilyEncoder`.
    return name.endswith(".weight") and (".linears." in name or ".slotted." in name)


def is_base(name: str) -> bool:
    """Return whether an initialiser (of a quantised graph) belongs to the base and not to an adapter or head."""
    return name.startswith("encoder.") and ".lora_" not in name


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
    """Return how far two lists of outputs are apart; outputs pair up by position and share their shapes."""
    gap = max(float(np.abs(a - b).max()) for a, b in zip(left, right, strict=True))
    a, b = left[0].reshape(-1, left[0].shape[-1]), right[0].reshape(-1, right[0].shape[-1])
    cosine = (a * b).sum(-1) / np.maximum(np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1), 1e-12)
    return Parity(max_abs=gap, min_cosine=float(cosine.min()))


def run_onnx(path: Path, ids: Tensor, mask: Tensor, slot: Tensor) -> list[NDArray[np.float32]]:
    """Return all outputs of the graph at `path` for int64 inputs."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feeds = {name: value.numpy() for name, value in zip(INPUTS, (ids, mask, slot), strict=True)}
    return list(session.run(None, feeds))
