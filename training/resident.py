"""What is swapped while serving, as inputs of the graph: LoRA matrices per slot, and the violation heads.

As an initialiser a tensor is fixed with its session. As an input it is a pointer to memory that the caller keeps, so a
session serves any number of slots, and a swap is another pointer.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import TensorProto, helper

from retrieval_shared.adapters import LORA_A, LORA_B
from retrieval_shared.head import HEADS_PREFIX

_ENCODER = "encoder."
_FREE = {
    ".lora_a": ("slots", None, "rank"),
    ".lora_b": ("slots", "rank", None),
}
"""Names of the free axes; None keeps the size."""


def make_resident(model: onnx.ModelProto, lora_paths: Mapping[str, str]) -> None:
    """Turn, in place, the adapters' and heads' initialisers of an exported graph into inputs.

    Args:
        model: a graph as exported, whose initialisers are named after the module's parameters.
        lora_paths: path of an adapted linear layer inside the encoder -> inside the Hugging Face model, whose path
            names the input.
    """
    names: dict[str, tuple[str, tuple[str | None, ...]]] = {}
    for ours, theirs in lora_paths.items():
        for ending, start in ((".lora_a", LORA_A), (".lora_b", LORA_B)):
            names[_ENCODER + ours + ending] = start + theirs, _FREE[ending]
    graph = model.graph
    kept = []
    renamed: dict[str, str] = {}
    for tensor in graph.initializer:
        free: tuple[str | None, ...] = ()
        if tensor.name in names:
            renamed[tensor.name], free = names[tensor.name]
        elif not tensor.name.startswith(HEADS_PREFIX):
            kept.append(tensor)
            continue
        shape = [free[i] or size if free else size for i, size in enumerate(tensor.dims)]
        name = renamed.get(tensor.name, tensor.name)
        graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]  # shapes noted for the number of slots at export
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
