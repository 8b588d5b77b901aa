from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

import training.states
from training.states import CachedStates, JoinedStates, cache_states, padded_states

DIM = 2


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A graph whose state of a token is (id, slot), and whose vector is that of the first: plain to see."""
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["ids"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["ids", "last"], ["column"]),
        helper.make_node("Cast", ["slot"], ["slots"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["slots", "both"], ["wide"]),
        helper.make_node("Mul", ["column", "zero"], ["zeros"]),
        helper.make_node("Add", ["zeros", "wide"], ["slot_column"]),
        helper.make_node("Concat", ["column", "slot_column"], ["states"], axis=2),
        helper.make_node("Gather", ["states", "first"], ["vector"], axis=1),
        helper.make_node("Identity", ["attention_mask"], ["unused"]),
    ]
    tokens = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "t"]) for name in ("input_ids", "attention_mask")
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "toy",
            [*tokens, helper.make_tensor_value_info("slot", TensorProto.INT64, ["b"])],
            [
                helper.make_tensor_value_info("states", TensorProto.FLOAT, ["b", "t", DIM]),
                helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["b", DIM]),
                helper.make_tensor_value_info("unused", TensorProto.INT64, ["b", "t"]),
            ],
            [
                helper.make_tensor("last", TensorProto.INT64, [1], [2]),
                helper.make_tensor("first", TensorProto.INT64, [], [0]),
                helper.make_tensor("both", TensorProto.INT64, [2], [1, 2]),
                helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    onnx.save(model, str(tmp_path / "toy.onnx"))
    return tmp_path / "toy.onnx"


ROWS = [[5, 6, 7], [8], [9, 10], [11, 12, 13, 14], [15], [16, 17]]


def cache(graph: Path, folder: Path, rows: list[list[int]] = ROWS) -> CachedStates:
    return cache_states(graph, rows, folder=folder, dim=DIM, slot=1, threads=1, budget=4)


def test_every_row_holds_the_states_of_its_own_tokens(graph: Path, tmp_path: Path) -> None:
    cached = cache(graph, tmp_path / "states")
    assert cached.states.dtype == np.float16
    assert cached.lengths.tolist() == [3, 1, 2, 4, 1, 2]
    assert cached.states[:, 0].tolist() == [token for row in ROWS for token in row]
    assert set(cached.states[:, 1].tolist()) == {1.0}
    assert cached.vectors.tolist() == [[row[0], 1] for row in ROWS]


def test_a_batch_is_padded_with_zeros(graph: Path, tmp_path: Path) -> None:
    states, mask, vectors = padded_states(cache(graph, tmp_path / "states"), np.array([2, 4, 0]))
    assert vectors.tolist() == [[9, 1], [15, 1], [5, 1]]
    assert states.dtype == torch.float32
    assert states[..., 0].tolist() == [[9, 10, 0], [15, 0, 0], [5, 6, 7]]
    assert mask.tolist() == [[1, 1, 0], [1, 0, 0], [1, 1, 1]]


def test_rows_of_several_caches_read_as_one(graph: Path, tmp_path: Path) -> None:
    parts = (cache(graph, tmp_path / "a", ROWS[:2]), cache(graph, tmp_path / "b", ROWS[2:]))
    joined = JoinedStates(parts=parts, part=np.array([1, 0, 0, 1]), place=np.array([1, 1, 0, 0]))
    assert joined.dim == DIM
    assert joined.lengths.tolist() == [4, 1, 3, 2]
    states, mask, vectors = padded_states(joined, np.array([3, 0]))
    assert vectors.tolist() == [[9, 1], [11, 1]]
    assert states[..., 0].tolist() == [[9, 10, 0, 0], [11, 12, 13, 14]]
    assert mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]


def test_a_stopped_run_resumes_after_the_last_noted_row(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.states, "SHARD_ROWS", 2)
    folder = tmp_path / "states"
    cache(graph, folder)
    (folder / "states.json").write_text(json.dumps({"shape": [13, DIM], "rows": 4}), encoding="utf-8")
    states = np.memmap(folder / "states.f16", dtype=np.float16, mode="r+", shape=(13, DIM))
    states[:4] = 99  # rows 0 and 1: noted, so not computed again
    states[10:] = 0  # rows 4 and 5: lost
    states.flush()
    del states
    vectors = np.memmap(folder / "vectors.f16", dtype=np.float16, mode="r+", shape=(6, DIM))
    vectors[:2], vectors[4:] = 99, 0
    vectors.flush()
    del vectors
    resumed = cache(graph, folder)
    assert resumed.vectors[:, 0].tolist() == [99, 99, 9, 11, 15, 16]
    assert resumed.states[:, 0].tolist() == [99] * 4 + [9, 10, 11, 12, 13, 14, 15, 16, 17]


def test_a_finished_cache_is_not_computed_again(graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache(graph, tmp_path / "states")

    def never(*_: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", never)
    assert cache(graph, tmp_path / "states").states[0, 0] == 5


def test_a_cache_without_vectors_is_computed_again(graph: Path, tmp_path: Path) -> None:
    cache(graph, tmp_path / "states")
    (tmp_path / "states" / "vectors.f16").unlink()
    assert cache(graph, tmp_path / "states").vectors[:, 0].tolist() == [row[0] for row in ROWS]


def test_a_cache_of_other_rows_is_replaced(graph: Path, tmp_path: Path) -> None:
    cache(graph, tmp_path / "states")
    assert cache(graph, tmp_path / "states", [[1], [2, 3]]).states[:, 0].tolist() == [1, 2, 3]
