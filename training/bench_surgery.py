"""Changes to exported graphs that only the bench wants: any number of heads, and one adapter per run."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from eval.bench.branches_graphs import HEADS_AXIS, LOOKS_AXIS, SLOT_INPUT
from retrieval_shared.adapters import LORA_A, LORA_B
from retrieval_shared.head import HEADS_PREFIX

_LOOK, _FOUND = f"{HEADS_PREFIX}look", f"{HEADS_PREFIX}found"
_SHAPE = "heads_free_shape"


def free_heads(model: onnx.ModelProto) -> None:
    """Let, in place, an exported serving graph take any number of heads.

    The exporter wrote their number into one reshape, from what all heads found `[n, H*A, d]` to `[n, H, A*d]`; there
    0 keeps n and -1 stands for H.

    Raises:
        ValueError: the product with `heads.found` does not follow a reshape and a transposition.
    """
    graph = model.graph
    made = {name: node for node in graph.node for name in node.output}
    (product,) = (node for node in graph.node if _FOUND in node.input)
    transposed = made[product.input[0]]
    reshape = made[transposed.input[0]]
    if (found := (reshape.op_type, transposed.op_type)) != ("Reshape", "Transpose"):
        raise ValueError(f"{product.name}: found {' -> '.join(found)} before it, expected Reshape -> Transpose")
    width = next(each.type.tensor_type.shape.dim[1].dim_value for each in graph.input if each.name == _FOUND)
    graph.initializer.append(numpy_helper.from_array(np.array([0, -1, width], dtype=np.int64), _SHAPE))
    reshape.input[1] = _SHAPE
    del reshape.attribute[:]  # the exporter wants 0 to mean 0
    for each in graph.input:
        if each.name.startswith(HEADS_PREFIX):
            each.type.tensor_type.shape.dim[0].dim_param = LOOKS_AXIS if each.name == _LOOK else HEADS_AXIS
    for each in graph.output:
        if each.name != "vector":
            each.type.tensor_type.shape.dim[1].dim_param = HEADS_AXIS


def one_adapter_per_run(model: onnx.ModelProto, *, rank: int) -> None:
    """Make, in place, the LoRA matrices of an exported graph those of a whole run, as ONNX Runtime's adapters want it.

    Each becomes an initialiser of zeros, `[in, r]` or `[r, out]`, that a run's active adapter stands in for; nothing is
    gathered, and there are no slots.
    """
    graph = model.graph
    gathers: dict[str, NodeProto] = {node.output[0]: node for node in graph.node if _is_gather(node)}
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name in gathers:
                node.input[i] = gathers[name].input[0]
            elif name == SLOT_INPUT and node.op_type == "Shape":  # the exporter reads the number of texts off it
                node.input[i] = "input_ids"
                del node.attribute[:]
                node.attribute.extend([helper.make_attribute("start", 0), helper.make_attribute("end", 1)])
    inputs = []
    for each in graph.input:
        if each.name == SLOT_INPUT:
            continue
        if each.name.startswith((LORA_A, LORA_B)):
            dims = [dim.dim_value or rank for dim in each.type.tensor_type.shape.dim][1:]
            each = helper.make_tensor_value_info(each.name, onnx.TensorProto.FLOAT, dims)
            graph.initializer.append(numpy_helper.from_array(np.zeros(dims, dtype=np.float32), each.name))
        inputs.append(each)
    kept = _used(graph)
    del graph.node[:], graph.input[:]
    graph.node.extend(kept)
    graph.input.extend(inputs)


def _used(graph: onnx.GraphProto) -> list[NodeProto]:
    """Return the nodes that an output depends on, in their order."""
    wanted = {each.name for each in graph.output}
    kept = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]


def _is_gather(node: NodeProto) -> bool:
    return node.op_type == "Gather" and node.input[0].startswith((LORA_A, LORA_B))
