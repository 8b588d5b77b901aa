from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

import training.states
from training.states import (
    CachedStates,
    Compute,
    JoinedStates,
    SomeStates,
    cache_states,
    from_tokens,
    from_trunk,
    padded_states,
    session_of,
)

DIM = 2
ROWS = [[5, 6, 7], [8], [9, 10], [11, 12, 13, 14], [15], [16, 17]]


class Interrupted(Exception):
    """Stops a run as a power cut would."""


class Toy:
    """The state of a token is (id, 1), the vector of a row that of its first token; padding is 99."""

    def __init__(self, rows: Sequence[Sequence[int]], *, stop_at: int | None = None) -> None:
        self.rows, self.stop_at, self.seen = rows, stop_at, list[int]()

    def __call__(self, rows: NDArray[np.intp]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if self.stop_at in rows:
            raise Interrupted
        self.seen += rows.tolist()
        states = np.full((len(rows), max(len(self.rows[row]) for row in rows), DIM), 99, dtype=np.float32)
        for i, row in enumerate(rows):
            states[i, : len(self.rows[row])] = [(token, 1) for token in self.rows[row]]
        return states, states[:, 0]


def cache(
    folder: Path, rows: Sequence[Sequence[int]] = ROWS, *, compute: Compute | None = None, budget: int = 4
) -> CachedStates:
    lengths = [len(row) for row in rows]
    return cache_states(compute or Toy(rows), lengths, folder=folder, dim=DIM, title="toy", budget=budget)


Nodes = Sequence[tuple[str, Sequence[str], str]]
"""Operation, inputs, output."""
Inputs = Mapping[str, tuple[int, Sequence[str | int]]]
"""Name -> type and shape."""


def save_graph(path: Path, nodes: Nodes, inputs: Inputs) -> Path:
    """Write a graph with the outputs `states` `[b, t, 2]` and `vector` `[b, 2]`."""
    made = [helper.make_node(kind, names, [out], name=out) for kind, names, out in nodes]
    constants = [
        helper.make_tensor("last", TensorProto.INT64, [1], [-1]),
        helper.make_tensor("both", TensorProto.INT64, [2], [1, 2]),
        helper.make_tensor("first", TensorProto.INT64, [], [0]),
        helper.make_tensor("twice", TensorProto.INT64, [3], [1, 1, DIM]),
    ]
    for node in made:
        if node.op_type == "Cast":
            node.attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
        if node.op_type == "Gather":
            node.attribute.append(helper.make_attribute("axis", 1))
    values = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
    outputs = [
        helper.make_tensor_value_info("states", TensorProto.FLOAT, ["b", "t", DIM]),
        helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["b", DIM]),
    ]
    graph = helper.make_graph(made, "toy", values, outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))
    return path


@pytest.fixture
def token_graph(tmp_path: Path) -> Path:
    """"""
    return save_graph(
        tmp_path / "tokens.onnx",
        [
            ("Cast", ["input_ids"], "ids"),
            ("Mul", ["ids", "weight"], "scaled"),
            ("Cast", ["attention_mask"], "mask"),
            ("Add", ["scaled", "mask"], "sum"),
            ("Unsqueeze", ["sum", "last"], "column"),
            ("Tile", ["column", "twice"], "wide"),
            ("Identity", ["wide"], "states"),
            ("Gather", ["states", "first"], "vector"),
        ],
        {
            "input_ids": (TensorProto.INT64, ["b", "t"]),
            "attention_mask": (TensorProto.INT64, ["b", "t"]),
            "weight": (TensorProto.FLOAT, [1]),
        },
    )


@pytest.fixture
def branch_graph(tmp_path: Path) -> Path:
    """A graph whose states are `weight * trunk + mask + slot`, and whose vectors are the static ones plus the slot."""
    return save_graph(
        tmp_path / "branch.onnx",
        [
            ("Mul", ["trunk", "weight"], "scaled"),
            ("Cast", ["attention_mask"], "mask"),
            ("Unsqueeze", ["mask", "last"], "column"),
            ("Add", ["scaled", "column"], "sum"),
            ("Cast", ["slot"], "slots"),
            ("Unsqueeze", ["slots", "both"], "wide"),
            ("Add", ["sum", "wide"], "states"),
            ("Unsqueeze", ["slots", "last"], "own"),
            ("Add", ["static", "own"], "vector"),
        ],
        {
            "trunk": (TensorProto.FLOAT, ["b", "t", DIM]),
            "static": (TensorProto.FLOAT, ["b", DIM]),
            "attention_mask": (TensorProto.INT64, ["b", "t"]),
            "slot": (TensorProto.INT64, ["b"]),
            "weight": (TensorProto.FLOAT, [1]),
        },
    )


WEIGHT = {"weight": np.array([2.0], dtype=np.float32)}


def test_every_row_holds_the_states_of_its_own_tokens(tmp_path: Path) -> None:
    cached = cache(tmp_path / "states")
    assert cached.dim == DIM
    assert cached.states.dtype == cached.vectors.dtype == np.float16
    assert cached.lengths.tolist() == [3, 1, 2, 4, 1, 2]
    assert cached.states[:, 0].tolist() == [token for row in ROWS for token in row]
    assert set(cached.states[:, 1].tolist()) == {1.0}  # no padding among them
    assert cached.vectors.tolist() == [[row[0], 1] for row in ROWS]


def test_a_batch_is_padded_with_zeros(tmp_path: Path) -> None:
    states, mask, vectors = padded_states(cache(tmp_path / "states"), np.array([2, 4, 0]))
    assert vectors.tolist() == [[9, 1], [15, 1], [5, 1]]
    assert states.dtype == vectors.dtype == torch.float32
    assert mask.dtype == torch.int64
    assert states[..., 0].tolist() == [[9, 10, 0], [15, 0, 0], [5, 6, 7]]
    assert mask.tolist() == [[1, 1, 0], [1, 0, 0], [1, 1, 1]]


def test_some_rows_have_numbers_of_their_own(tmp_path: Path) -> None:
    some = SomeStates(cache(tmp_path / "states"), np.array([3, 1, 3]))
    assert some.dim == DIM
    assert some.lengths.tolist() == [4, 1, 4]
    assert some.row(0).tolist() == some.row(2).tolist() == [[11, 1], [12, 1], [13, 1], [14, 1]]
    assert some.vector(1).tolist() == [8, 1]
    fewer = SomeStates(some, np.array([1]))
    assert (fewer.lengths.tolist(), fewer.row(0).tolist()) == ([1], [[8, 1]])


def test_rows_of_several_caches_read_as_one(tmp_path: Path) -> None:
    parts = (cache(tmp_path / "a", ROWS[:2]), cache(tmp_path / "b", ROWS[2:]))
    joined = JoinedStates(parts=parts, part=np.array([1, 0, 0, 1]), place=np.array([1, 1, 0, 0]))
    assert joined.dim == DIM
    assert joined.lengths.tolist() == [4, 1, 3, 2]
    states, mask, vectors = padded_states(joined, np.array([3, 0]))
    assert vectors.tolist() == [[9, 1], [11, 1]]
    assert states[..., 0].tolist() == [[9, 10, 0, 0], [11, 12, 13, 14]]
    assert mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]


def test_a_stopped_run_computes_only_the_shards_it_had_not_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.states, "SHARD_ROWS", 2)
    first = Toy(ROWS, stop_at=4)
    with pytest.raises(Interrupted):
        cache(tmp_path / "states", compute=first)
    assert sorted(first.seen) == [0, 1, 2, 3]
    second = Toy(ROWS)
    resumed = cache(tmp_path / "states", compute=second)
    assert sorted(second.seen) == [4, 5]
    direct = cache(tmp_path / "direct", budget=99)
    np.testing.assert_array_equal(resumed.states, direct.states)
    np.testing.assert_array_equal(resumed.vectors, direct.vectors)
    third = Toy(ROWS)
    np.testing.assert_array_equal(cache(tmp_path / "states", compute=third).states, direct.states)
    assert third.seen == []


@pytest.mark.parametrize("lost", ["states.f16", "vectors.f16", "states.json"])
def test_a_cache_that_lost_a_file_is_computed_again(tmp_path: Path, lost: str) -> None:
    cache(tmp_path / "states")
    (tmp_path / "states" / lost).unlink()
    with pytest.raises(Interrupted):
        cache(tmp_path / "states", compute=Toy(ROWS, stop_at=0))  # stopped before the first shard was noted
    again = cache(tmp_path / "states")
    assert again.states[:, 0].tolist() == [token for row in ROWS for token in row]
    assert again.vectors[:, 0].tolist() == [row[0] for row in ROWS]


@pytest.mark.parametrize("other", [[[1], [2, 3]], [[i] for i in range(13)]], ids=["fewer", "as many tokens"])
def test_a_cache_of_other_rows_is_replaced(tmp_path: Path, other: list[list[int]]) -> None:
    cache(tmp_path / "states")
    assert cache(tmp_path / "states", other).states[:, 0].tolist() == [token for row in other for token in row]


def test_rows_of_tokens_are_read_through_a_graph(token_graph: Path, tmp_path: Path) -> None:
    compute = from_tokens(session_of(token_graph, threads=1), ROWS, WEIGHT, slot=None)
    states, vectors = compute(np.array([2, 3]))
    assert states[..., 0].tolist() == [[19, 21, 0, 0], [23, 25, 27, 29]]  # 2 id + mask; padding is id 0, mask 0
    assert vectors.tolist() == [[19, 19], [23, 23]]
    cached = cache(tmp_path / "states", compute=compute)
    assert cached.states[:, 0].tolist() == [2 * token + 1 for row in ROWS for token in row]


def test_a_graph_with_slots_is_told_the_slot_of_every_row() -> None:
    told: dict[str, NDArray[np.generic]] = {}

    class Session:
        def run(self, _: None, feeds: dict[str, NDArray[np.generic]]) -> list[NDArray[np.float32]]:
            told.update(feeds)
            return [np.zeros((2, 4, DIM), dtype=np.float32), np.zeros((2, DIM), dtype=np.float32)]

    from_tokens(Session(), ROWS, WEIGHT, slot=1)(np.array([2, 3]))
    assert told.keys() == {"input_ids", "attention_mask", "slot", "weight"}
    assert told["slot"].tolist() == [1, 1]
    assert told["slot"].dtype == np.int64


def test_the_trunks_states_are_carried_on_through_a_slot(branch_graph: Path, tmp_path: Path) -> None:
    trunk = SomeStates(cache(tmp_path / "trunk"), np.array([3, 0, 1]))
    compute = from_trunk(session_of(branch_graph, threads=1), trunk, WEIGHT, slot=7)
    states, vectors = compute(np.array([1, 0]))
    # 2 trunk + mask + slot: the first column of the trunk is the id, the second 1.
    assert states[..., 0].tolist() == [[18, 20, 22, 7], [30, 32, 34, 36]]
    assert states[..., 1].tolist() == [[10, 10, 10, 7], [10, 10, 10, 10]]
    assert vectors.tolist() == [[12, 8], [18, 8]]
    lengths = trunk.lengths.tolist()
    cached = cache_states(compute, lengths, folder=tmp_path / "branch", dim=DIM, title="toy", budget=4)
    assert cached.states[:, 0].tolist() == [30, 32, 34, 36, 18, 20, 22, 24]
    assert cached.vectors[:, 0].tolist() == [18, 12, 15]
