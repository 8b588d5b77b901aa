"""Both changes on graphs small enough to be worked out by hand."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from training.bench_surgery import free_heads, one_adapter_per_run

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64


def value(name: str, *shape: int | str, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def session(changed: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(changed.SerializeToString(), providers=["CPUExecutionProvider"])


def with_lora() -> onnx.ModelProto:
    """`(x A[slot]) B[slot]`, and the number of texts read off the slots as the exporter does."""
    nodes = [
        helper.make_node("Gather", ["lora_a.m", "slot"], ["a"]),
        helper.make_node("Gather", ["lora_b.m", "slot"], ["b"]),
        helper.make_node("MatMul", ["x", "a"], ["inner"]),
        helper.make_node("MatMul", ["inner", "b"], ["y"]),
        helper.make_node("Shape", ["slot"], ["n"]),
    ]
    return model(
        nodes,
        [
            value("input_ids", "b", "t", kind=INT), value("x", "b", "t", 2), value("slot", "b", kind=INT),
            value("lora_a.m", "slots", 2, "rank"), value("lora_b.m", "slots", "rank", 2),
        ],
        [value("y", "b", "t", 2), value("n", 1, kind=INT)],
    )  # fmt: skip


def test_the_matrices_are_those_of_the_whole_run() -> None:
    changed = with_lora()
    one_adapter_per_run(changed, rank=1)
    run = session(changed).run
    x = np.array([[[1, 2]], [[3, 4]]], dtype=np.float32)
    feeds = {"input_ids": np.zeros((2, 1), dtype=np.int64), "x": x}
    assert np.all(run(["y"], feeds)[0] == 0)
    matrices = {"lora_a.m": np.float32([[1], [10]]), "lora_b.m": np.float32([[1, -1]])}
    found, n = run(["y", "n"], {**feeds, **matrices})
    assert found.tolist() == [[[21, -21]], [[43, -43]]]
    assert n.tolist() == [2]
    assert [each.name for each in session(changed).get_inputs()] == ["input_ids", "x"]  # no slots


def test_nothing_is_gathered_any_more() -> None:
    changed = with_lora()
    one_adapter_per_run(changed, rank=3)
    assert [node.op_type for node in changed.graph.node] == ["MatMul", "MatMul", "Shape"]
    shapes = {each.name: numpy_helper.to_array(each).shape for each in changed.graph.initializer}
    assert shapes == {"lora_a.m": (2, 3), "lora_b.m": (3, 2)}


def with_heads(first: str = "Reshape") -> onnx.ModelProto:
    """What 2 heads with 2 attention heads found in states of width 1, judged: 2 heads stand in the reshape."""
    nodes = [
        helper.make_node(first, ["pooled", "shape"] if first == "Reshape" else ["pooled"], ["split"]),
        helper.make_node("Transpose", ["split"], ["turned"], perm=[1, 0, 2]),
        helper.make_node("MatMul", ["turned", "heads.found"], ["judged"]),
        helper.make_node("Transpose", ["judged"], ["logits"], perm=[1, 0, 2]),
        helper.make_node("Identity", ["heads.look"], ["looked"]),
    ]
    if first == "Reshape":
        nodes[0].attribute.append(helper.make_attribute("allowzero", 1))
    inputs = [value("pooled", "n", "p", 1), value("heads.look", 4, 1), value("heads.found", 2, 2, 1)]
    made = model(nodes, inputs, [value("logits", "n", 2, 1), value("looked", "p", 1)])
    made.graph.initializer.append(numpy_helper.from_array(np.array([-1, 2, 2]), "shape"))
    return made


def test_the_number_of_heads_becomes_free() -> None:
    """The logit of a head is here the sum of what its two attention heads found, times the head's number."""
    changed = with_heads()
    free_heads(changed)
    found = np.array([[[1], [1]], [[2], [2]], [[3], [3]]], dtype=np.float32)  # [H, A*d, hidden]
    pooled = np.array([[[1], [2], [3], [4], [5], [6]]], dtype=np.float32)  # [n, H*A, d]
    feeds = {"pooled": pooled, "heads.found": found, "heads.look": np.zeros((6, 1), dtype=np.float32)}
    (logits,) = session(changed).run(["logits"], feeds)
    assert logits.tolist() == [[[3], [14], [33]]]
    shapes = {each.name: each.shape for each in session(changed).get_inputs()}
    assert shapes["heads.found"] == ["heads", 2, 1]
    assert shapes["heads.look"] == ["looks", 1]


def test_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match="found Identity -> Transpose before it, expected Reshape -> Transpose"):
        free_heads(with_heads("Identity"))
