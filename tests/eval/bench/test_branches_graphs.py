from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from eval.bench.branches_graphs import (
    INDEX,
    LORA,
    PLAIN,
    LoadedGraph,
    Sizes,
    branches,
    check_graphs,
    graph_file,
    read_sizes,
    write_sizes,
)
from retrieval_shared.errors import WardlineError

if TYPE_CHECKING:
    from retrieval_shared.bundle import Bundle

SIZES = Sizes(
    encoder="e" * 64, layers=6, counts=(1, 2), served=2, rank=8, heads=16, hidden=32, attention_heads=12, positions=512
)
IDS = np.arange(5, 15).reshape(2, 5)


def test_the_index_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_sizes(tmp_path, SIZES)
    assert read_sizes(tmp_path) == SIZES


@pytest.mark.parametrize("text", ["", "[]", '{"counts": [1]}', '{"layers": 6}'])
def test_an_index_of_another_form_is_none(tmp_path: Path, text: str) -> None:
    assert read_sizes(tmp_path) is None
    (tmp_path / INDEX).write_text(text, encoding="utf-8")
    assert read_sizes(tmp_path) is None


def test_every_graph_lies_there_in_both_weights() -> None:
    assert SIZES.names == ("plain", "branches-1", "branches-2", "lora")
    assert graph_file(branches(2), "int8") == "branches-2.int8.onnx"
    assert len(SIZES.files) == 11


def test_missing_graphs_and_those_of_another_encoder_are_refused(
    tiny_graphs: Path, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    base = tiny_bundle.sha256("base.int8.bin")
    assert check_graphs(tiny_graphs, encoder=base).encoder == base
    with pytest.raises(WardlineError, match=f"found no {INDEX}; `python wardline.py train bench-graphs` writes it"):
        check_graphs(tmp_path, encoder=base)
    with pytest.raises(WardlineError, match="found those of base weights .*, the bundle has eeeeeeeeeeee"):
        check_graphs(tiny_graphs, encoder="e" * 64)
    shutil.copy(tiny_graphs / INDEX, tmp_path)
    with pytest.raises(WardlineError, match="found no plain.int8.onnx"):
        check_graphs(tmp_path, encoder=base)


@pytest.fixture(scope="module")
def served(tiny_graphs: Path) -> LoadedGraph:
    sizes = read_sizes(tiny_graphs)
    assert sizes is not None
    return LoadedGraph(tiny_graphs, branches(1), "int8", sizes)


def test_branches_are_read_as_they_are_named(served: LoadedGraph) -> None:
    held = served.holding(slots=4)
    vector, logits = held.read(IDS, rows=[1, 0, 1], slots=[3, 3, 2], outputs=("vector", "logits"))
    assert (vector.shape, logits.shape) == ((3, 32), (3, 16))
    alone = held.read(IDS[1:], slots=[3], outputs=("vector", "logits"))
    assert np.abs(vector[0] - alone[0][0]).max() < 1e-5
    assert np.abs(logits[0] - alone[1][0]).max() < 1e-4


def test_a_graph_holds_any_number_of_slots_and_heads_over_one_session(served: LoadedGraph) -> None:
    for slots, heads in ((2, 1), (65, 32)):
        (logits,) = served.holding(slots=slots, heads=heads).read(IDS, slots=[slots - 1] * 2, outputs=("logits",))
        assert logits.shape == (2, heads)


def test_graphs_without_slots_take_the_same_call(tiny_graphs: Path, served: LoadedGraph) -> None:
    sizes = dataclasses.replace(read_sizes(tiny_graphs) or SIZES)
    for name in (PLAIN, LORA):
        (vector,) = LoadedGraph(tiny_graphs, name, "float32", sizes).read(IDS)
        assert vector.shape == (2, 32)
    mask = np.array([[1] * 5, [1, 1, 1, 0, 0]])
    held = served.holding(slots=2)
    padded = held.read(np.where(mask > 0, IDS, 0), mask=mask)[0]
    assert np.abs(padded[1] - held.read(IDS[1:, :3])[0][0]).max() < 1e-5
