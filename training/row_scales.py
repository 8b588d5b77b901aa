"""One activation scale per token row in an int8 graph, in place of one per run.

ONNX Runtime's dynamic quantisation takes the scale of an activation from the whole tensor of a run, so that a text's
numbers move with its neighbours in the batch, and one large value anywhere coarsens all rows. Here each row is divided
by its own largest magnitude before it is rounded, and multiplied by it after the product.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

LEVELS, ZERO = 127, 128
"""An activation is rounded to `ZERO` plus a whole number of `LEVELS`-ths of its row's largest magnitude."""
TINY = 1e-12
"""Stands in for the magnitude of a row of zeros."""
_MICROSOFT = "com.microsoft"
_CONSTANTS = {
    "row_scale": np.float32(1 / LEVELS),
    "row_zero": np.uint8(ZERO),
    "row_tiny": np.float32(TINY),
    "row_axis": np.array([-1], dtype=np.int64),
}


def scale_rows(model: onnx.ModelProto) -> None:
    """Replace, in place, every per-run scale of a graph from `quantize_dynamic` by one per row.

    With `m = max |x|` of a row, `q = round(127 x / m) + 128` in uint8 and int8 weights `W` with a scale w per output
    channel, the product is `m / 127 * w * ((q - 128) W)`. The weights' bytes stay as they are.

    Raises:
        ValueError: a quantised product of the graph is not in the form `quantize_dynamic` writes.
    """
    graph = model.graph
    scaled = {node.output[0]: node for node in graph.node if node.op_type == "DynamicQuantizeLinear"}
    users: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    dropped: set[str] = set()
    replaced: dict[str, list[NodeProto]] = {}
    for quantised, source in scaled.items():
        replaced[source.name] = list(_quantise(source.input[0], quantised))
        for product in users[quantised]:
            cast, rescale = _tail(product, users)
            magnitude = _magnitude(source.input[0])
            replaced[product.name] = list(_product(product, rescale, magnitude))
            both_scales = next(name for name in rescale.input if name != cast.output[0])
            dropped |= {cast.name, rescale.name, next(n.name for n in graph.node if both_scales in n.output)}
    kept = [new for node in graph.node if node.name not in dropped for new in replaced.get(node.name, [node])]
    _write(model, kept)


def _magnitude(x: str) -> str:
    return f"{x}_row_magnitude"


def _quantise(x: str, quantised: str) -> Iterator[NodeProto]:
    """Yield the nodes that give `x`'s rows in uint8 and their magnitudes."""
    made = [f"{x}_row_{name}" for name in ("abs", "max", "unit")]
    yield helper.make_node("Abs", [x], [made[0]], name=made[0])
    yield helper.make_node("ReduceMax", [made[0], "row_axis"], [made[1]], name=made[1], keepdims=1)
    yield helper.make_node("Max", [made[1], "row_tiny"], [_magnitude(x)], name=_magnitude(x))
    yield helper.make_node("Div", [x, _magnitude(x)], [made[2]], name=made[2])
    yield helper.make_node("QuantizeLinear", [made[2], "row_scale", "row_zero"], [quantised], name=quantised)


def _tail(product: NodeProto, users: dict[str, list[NodeProto]]) -> tuple[NodeProto, NodeProto]:
    """Return the cast and the multiplication by both scales that follow an integer product."""
    following = users.get(product.output[0], [])
    after = users.get(following[0].output[0], []) if len(following) == 1 else []
    form = (product.op_type, *(node.op_type for node in (*following, *after)))
    if form != ("MatMulInteger", "Cast", "Mul"):
        raise ValueError(f"{product.name}: found {' -> '.join(form)}, expected MatMulInteger -> Cast -> Mul")
    return following[0], after[0]


def _product(product: NodeProto, rescale: NodeProto, magnitude: str) -> Iterator[NodeProto]:
    weights, zero = product.input[1], product.input[3]
    per_channel = weights.removesuffix("_quantized") + "_scale"
    unit = f"{rescale.output[0]}_row_unit"
    yield helper.make_node(
        "MatMulIntegerToFloat", [product.input[0], weights, "row_scale", per_channel, "row_zero", zero], [unit],
        name=product.name, domain=_MICROSOFT,
    )  # fmt: skip
    yield helper.make_node("Mul", [unit, magnitude], [rescale.output[0]], name=rescale.name)


def _write(model: onnx.ModelProto, nodes: list[NodeProto]) -> None:
    graph = model.graph
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in _CONSTANTS.items())
    if _MICROSOFT not in {each.domain for each in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(_MICROSOFT, 1))
