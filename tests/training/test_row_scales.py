"""One scale per token row, on small graphs in the form that `quantize_dynamic` writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from training.row_scales import LEVELS, TINY, scale_rows

Floats = NDArray[np.float32]


def quantised(folder: Path, weights: Mapping[str, Floats]) -> onnx.ModelProto:
    """Return int8 products `y_<name> = x W` `[n, t, out]` of one input `x` `[n, t, in]`, a scale for the whole run."""
    width = len(next(iter(weights.values())))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", name], [f"y_{name}"], name=f"product_{name}") for name in weights],
        "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "t", width])],
        [helper.make_tensor_value_info(f"y_{name}", TensorProto.FLOAT, ["n", "t", None]) for name in weights],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(folder / "float32.onnx"))
    quantize_dynamic(
        folder / "float32.onnx", folder / "int8.onnx", per_channel=True, reduce_range=True, weight_type=QuantType.QInt8
    )
    return onnx.load(str(folder / "int8.onnx"))


def scaled(folder: Path, weights: Mapping[str, Floats]) -> onnx.ModelProto:
    model = quantised(folder, weights)
    scale_rows(model)
    return model


def run(model: onnx.ModelProto, x: Floats) -> list[Floats]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"x": x}))


def tensors(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def held(model: onnx.ModelProto, name: str) -> NDArray[np.float64]:
    """Return what the int8 weights stand for."""
    found = tensors(model)
    values: NDArray[np.float64] = found[f"{name}_quantized"].astype(np.float64) * found[f"{name}_scale"]
    return values


@pytest.fixture
def weights() -> dict[str, Floats]:
    """Two matrices `[16, 8]` and `[16, 4]` whose columns are of very different size."""
    rng = np.random.default_rng(0)
    return {
        name: (rng.normal(size=(16, out)) * 10.0 ** np.linspace(-2, 2, out)).astype(np.float32)
        for name, out in (("w", 8), ("v", 4))
    }


def rows(*magnitudes: float, seed: int = 1) -> Floats:
    """Return states `[1, t, 16]` whose row i has values of about `magnitudes[i]`."""
    x = np.random.default_rng(seed).normal(size=(1, len(magnitudes), 16)) * np.array(magnitudes)[:, None]
    return np.asarray(x, dtype=np.float32)


def test_one_row_by_hand(tmp_path: Path) -> None:
    model = scaled(tmp_path, {"w": np.array([[1.0, 100.0], [0.5, 0.0], [-0.25, -50.0]], dtype=np.float32)})
    (found,) = run(model, np.array([[[1.9, -2.0, 0.5]]], dtype=np.float32))
    # Columns of the weights in 64ths of their largest value: 64, 32, -16 of 1/64 and 64, 0, -32 of 100/64.
    # The row in 127ths of 2: 120.65 -> 121, -127, 31.75 -> 32.
    first = 2 / 127 / 64 * (121 * 64 - 127 * 32 - 32 * 16)
    second = 2 / 127 * 100 / 64 * (121 * 64 - 32 * 32)
    np.testing.assert_allclose(found, [[[first, second]]], rtol=1e-6)


def test_a_batch_equals_its_parts_where_one_scale_per_run_does_not(tmp_path: Path, weights: dict[str, Floats]) -> None:
    """The scale of a run moves with the largest value in it, and so do all its rows."""
    per_run, per_row = quantised(tmp_path, weights), scaled(tmp_path, weights)
    x = rows(1.0, 5.0, 0.2, 1.0, 3.0)
    gap = {}
    for name, model in (("run", per_run), ("row", per_row)):
        whole = run(model, x)
        parts = [run(model, x[:, i : i + 1]) for i in range(x.shape[1])]
        gap[name] = max(
            float(np.abs(y[:, i] - part[k][:, 0]).max() / np.abs(y[:, i]).max())
            for k, y in enumerate(whole)
            for i, part in enumerate(parts)
        )
    assert gap["row"] < 1e-5
    assert gap["run"] > 1e-3


def test_a_row_of_zeros_stays_zero_and_its_neighbours_stay_what_they_are(
    tmp_path: Path, weights: dict[str, Floats]
) -> None:
    model = scaled(tmp_path, weights)
    x = rows(1.0, 0.0, 1.0)
    for together, alone in zip(run(model, x), run(model, x[:, [0, 2]]), strict=True):
        assert not together[:, 1].any()
        np.testing.assert_allclose(together[:, [0, 2]], alone, rtol=1e-5, atol=1e-5)
    assert not any(y.any() for y in run(model, np.zeros((2, 3, 16), dtype=np.float32)))


def test_a_small_row_keeps_its_digits_beside_an_extreme_one(tmp_path: Path, weights: dict[str, Floats]) -> None:
    """Every value is off by half a level of its own row at most, whatever lies beside it."""
    per_run, per_row = quantised(tmp_path, weights), scaled(tmp_path, weights)
    x = rows(1e-9, 1e15, 1.0, 1e-3, 1e6)
    within = {}
    for name, model in (("run", per_run), ("row", per_row)):
        for k, (matrix, y) in enumerate(zip(weights, run(model, x), strict=True)):
            exact = x.astype(np.float64) @ held(model, matrix)
            allowed = np.abs(x).max(-1, keepdims=True) / LEVELS / 2 * np.abs(held(model, matrix)).sum(0)
            within[name, k] = (np.abs(y - exact) <= 1.001 * allowed).all(-1)[0].tolist()
    assert within["row", 0] == within["row", 1] == [True] * 5
    assert within["run", 0] == [False, True, False, False, False]


def test_a_row_below_the_smallest_magnitude_becomes_zero_not_noise(tmp_path: Path, weights: dict[str, Floats]) -> None:
    for y in run(scaled(tmp_path, weights), rows(TINY / 1e6)):
        assert not y.any()


def test_the_bytes_of_the_weights_and_their_scales_stay(tmp_path: Path, weights: dict[str, Floats]) -> None:
    before = {tensor.name: tensor.SerializeToString() for tensor in quantised(tmp_path, weights).graph.initializer}
    after = {tensor.name: tensor.SerializeToString() for tensor in scaled(tmp_path, weights).graph.initializer}
    assert {name: after.get(name) for name in before} == before
    added = {name: value for name, value in tensors(scaled(tmp_path, weights)).items() if name not in before}
    assert sum(value.size for value in added.values()) == 4  # constants, whatever the sizes of the weights


def test_no_scale_of_a_run_is_left_and_what_products_share_is_rounded_once(
    tmp_path: Path, weights: dict[str, Floats]
) -> None:
    model = scaled(tmp_path, weights)
    onnx.checker.check_model(model)
    types = [node.op_type for node in model.graph.node]
    assert not {"DynamicQuantizeLinear", "MatMulInteger", "Cast"} & set(types)
    assert types.count("QuantizeLinear") == 1
    assert types.count("MatMulIntegerToFloat") == len(weights)


def test_a_graph_without_quantised_products_computes_as_before(tmp_path: Path, weights: dict[str, Floats]) -> None:
    quantised(tmp_path, weights)
    model = onnx.load(str(tmp_path / "float32.onnx"))
    before = run(model, rows(1.0, 2.0))
    scale_rows(model)
    for left, right in zip(before, run(model, rows(1.0, 2.0)), strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_product_in_another_form_is_refused(tmp_path: Path, weights: dict[str, Floats]) -> None:
    model = quantised(tmp_path, {"w": weights["w"]})
    rescale = next(node for node in model.graph.node if node.output[0] == "y_w")
    rescale.op_type = "Add"
    with pytest.raises(ValueError, match="product_w.*: found MatMulInteger -> Cast -> Add, expected MatMulInteger"):
        scale_rows(model)


def test_a_product_that_is_read_twice_is_refused(tmp_path: Path, weights: dict[str, Floats]) -> None:
    model = quantised(tmp_path, {"w": weights["w"]})
    cast = next(node for node in model.graph.node if node.op_type == "Cast")
    model.graph.node.append(helper.make_node("Neg", [cast.output[0]], ["negative"], name="second"))
    with pytest.raises(ValueError, match="found MatMulInteger -> Cast -> Mul -> Neg, expected"):
        scale_rows(model)


def test_a_rounded_input_that_something_else_reads_is_refused(tmp_path: Path, weights: dict[str, Floats]) -> None:
    model = quantised(tmp_path, {"w": weights["w"]})
    source = next(node for node in model.graph.node if node.op_type == "DynamicQuantizeLinear")
    model.graph.node.append(helper.make_node("DequantizeLinear", list(source.output), ["again"], name="second"))
    with pytest.raises(ValueError, match="second: found DequantizeLinear, expected"):
        scale_rows(model)
