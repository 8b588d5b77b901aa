"""What is swapped while serving, as inputs: on a small graph named as an exported one is."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from training.resident import make_resident

OURS, THEIRS = "blocks.0.linears.query", "encoder.layer.0.attention.self.query"
BASE, A, B = f"encoder.{OURS}.weight", f"encoder.{OURS}.lora_a", f"encoder.{OURS}.lora_b"
INPUT_A, INPUT_B = f"lora_a.{THEIRS}", f"lora_b.{THEIRS}"
IN, OUT, RANK = 3, 4, 2


def values() -> dict[str, NDArray[np.float32]]:
    """Return the initialisers of a graph with two slots and one head."""
    rng = np.random.default_rng(0)
    shapes = {
        BASE: (IN, OUT), A: (2, IN, RANK), B: (2, RANK, OUT), "heads.outer": (OUT, 1), "heads.bias": (1,),
        "row_scale": (1,),
    }  # fmt: skip
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def plain() -> onnx.ModelProto:
    """`y = (x W + (x A[slot]) B[slot]) outer + bias`, and `again`, which reads A once more."""
    nodes = [
        ("MatMul", ["x", BASE], "base"), ("Gather", [A, "slot"], "a"), ("Gather", [B, "slot"], "b"),
        ("MatMul", ["x", "a"], "xa"), ("MatMul", ["xa", "b"], "xab"), ("Add", ["base", "xab"], "sum"),
        ("MatMul", ["sum", "heads.outer"], "logit"), ("Add", ["logit", "heads.bias"], "shifted"),
        ("Mul", ["shifted", "row_scale"], "y"), ("ReduceSum", [A], "again"),
    ]  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, [output], name=output) for kind, inputs, output in nodes],
        "linear",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "t", IN]),
            helper.make_tensor_value_info("slot", TensorProto.INT64, ["n"]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "t", 1]),
            helper.make_tensor_value_info("again", TensorProto.FLOAT, [1, 1, 1]),
        ],
        [numpy_helper.from_array(value, name) for name, value in values().items()],
        value_info=[helper.make_tensor_value_info("xa", TensorProto.FLOAT, [2, "t", RANK])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.fixture
def resident(plain: onnx.ModelProto) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.CopyFrom(plain)
    make_resident(model, {OURS: THEIRS})
    onnx.checker.check_model(model)
    return model


def run(model: onnx.ModelProto, slot: list[int], **inputs: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    x = np.random.default_rng(1).normal(size=(len(slot), 5, IN)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"x": x, "slot": np.array(slot), **inputs}))


def fed() -> dict[str, Any]:
    own = values()
    return {INPUT_A: own[A], INPUT_B: own[B], "heads.outer": own["heads.outer"], "heads.bias": own["heads.bias"]}


def test_adapters_and_heads_become_inputs_named_after_the_hugging_face_model(resident: onnx.ModelProto) -> None:
    session = onnxruntime.InferenceSession(resident.SerializeToString(), providers=["CPUExecutionProvider"])
    assert {each.name: each.shape for each in session.get_inputs()} == {
        "x": ["n", "t", IN],
        "slot": ["n"],
        INPUT_A: ["slots", IN, "rank"],
        INPUT_B: ["slots", "rank", OUT],
        "heads.outer": [OUT, 1],
        "heads.bias": [1],
    }
    assert {each.type for each in session.get_inputs()} == {"tensor(float)", "tensor(int64)"}


def test_other_initialisers_stay(plain: onnx.ModelProto, resident: onnx.ModelProto) -> None:
    before = {tensor.name: tensor.SerializeToString() for tensor in plain.graph.initializer}
    after = {tensor.name: tensor.SerializeToString() for tensor in resident.graph.initializer}
    assert after == {name: before[name] for name in (BASE, "row_scale")}


def test_fed_with_what_it_held_the_graph_computes_what_it_did(
    plain: onnx.ModelProto, resident: onnx.ModelProto
) -> None:
    for left, right in zip(run(plain, [0, 1]), run(resident, [0, 1], **fed()), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("slots", "rank"), [(1, 1), (3, 2), (20, 7)])
def test_any_number_of_slots_and_any_rank_may_be_fed(resident: onnx.ModelProto, slots: int, rank: int) -> None:
    """Shapes that the exporter noted for its own example are gone."""
    assert not resident.graph.value_info
    rng = np.random.default_rng(2)
    a, b = (rng.normal(size=(slots, *s)).astype(np.float32) for s in ((IN, rank), (rank, OUT)))
    slot = [slots - 1, 0]
    y, again = run(resident, slot, **fed() | {INPUT_A: a, INPUT_B: b})
    x = np.random.default_rng(1).normal(size=(2, 5, IN)).astype(np.float32)
    own = values()
    states = x @ own[BASE] + x @ a[slot] @ b[slot]
    np.testing.assert_allclose(
        y, (states @ own["heads.outer"] + own["heads.bias"]) * own["row_scale"], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(again.item(), a.sum(), rtol=1e-4, atol=1e-5)


def test_a_linear_layer_that_carries_no_slots_stays_in_the_graph(plain: onnx.ModelProto) -> None:
    """Only what the encoder says it adapts is swapped, whatever its name."""
    make_resident(plain, {"blocks.1.linears.query": "encoder.layer.1.attention.self.query"})
    assert {A, B} <= {tensor.name for tensor in plain.graph.initializer}
    assert [each.name for each in plain.graph.input] == ["x", "slot", "heads.outer", "heads.bias"]
