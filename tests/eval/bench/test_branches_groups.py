from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.bench.branches_graphs import read_sizes
from eval.bench.branches_groups import (
    AD_BRANCHES,
    BATCH,
    MERGED,
    Graphs,
    all_groups,
    fan_out,
    head_adapters,
    load_graphs,
    many_regions,
    mixed,
    one_ad,
    one_by_one,
)

STREAM = np.arange(5, 105)


@pytest.fixture(scope="module")
def graphs(tiny_graphs: Path) -> Graphs:
    sizes = read_sizes(tiny_graphs)
    assert sizes is not None
    return load_graphs(tiny_graphs, "int8", sizes, STREAM)


def rows_of(found: Any) -> list[Any]:
    """The first output of every run of a task, however it nests them."""
    if isinstance(found[0], np.ndarray):
        return [found[0]]
    return [row for each in found for row in rows_of(each)]


def test_regions_take_turns() -> None:
    assert mixed(5, 2) == [1, 2, 1, 2, 1]
    assert mixed(3, 3) == [1, 2, 3]
    assert mixed(3, 1) == [1, 1, 1]


def test_texts_are_cut_from_the_stream(graphs: Graphs) -> None:
    assert graphs.texts(2, 3).tolist() == [[5, 6, 7], [8, 9, 10]]
    assert graphs.texts(3).shape == (3, 64)
    assert graphs.texts(3)[1, 36] == 5  # round and round


def test_one_by_one_reads_each_text_alone() -> None:
    read: list[list[list[int]]] = []
    one_by_one(lambda ids: read.append(ids.tolist()), np.array([[1, 2], [3, 4]]))()
    assert read == [[[1, 2]], [[3, 4]]]


def test_every_group_has_something_to_be_held_against(graphs: Graphs) -> None:
    groups = {group.name: list(group.tasks) for group in all_groups(graphs)}
    assert list(groups) == [
        "batch", "fan_out", "one_text", "heads", "length", "many_regions", "one_ad", "head_adapters", "wide_batch",
    ]  # fmt: skip
    assert all(any(key.startswith("plain") for key in keys) for keys in groups.values())
    assert groups["batch"][1:] == [
        "regions_1", "regions_2", "regions_5", "regions_10", "regions_20", "slots_1", "slots_4", "slots_16", "slots_64",
    ]  # fmt: skip
    assert groups["fan_out"] == ["plain", "layers_1", "layers_2"]
    assert groups["one_text"][-1] == "branches_64"
    assert "tokens_256" in groups["length"]
    assert "tokens_512" not in groups["length"]  # the tiny encoder has 320 positions


def test_the_ways_to_read_many_regions_read_the_same_texts(graphs: Graphs) -> None:
    tasks = many_regions(graphs)
    read = {key: rows_of(task()) for key, task in tasks.items()}
    assert {key: len(rows) for key, rows in read.items()} == {
        "plain": 1, "mixed": 1, "mixed_heads": 1, "merged": BATCH, "lora": BATCH,
    }  # fmt: skip
    for rows in read.values():
        assert np.concatenate(rows).shape == (BATCH, 32)
    # A merged model is measured as the plain encoder, run by run.
    assert np.abs(np.concatenate(read["merged"]) - read["plain"][0]).max() < 1e-5
    assert len(graphs.merged) == MERGED


def test_an_ad_has_as_many_branches_as_it_has_passes(graphs: Graphs) -> None:
    texts = 4
    read = {key: rows_of(task()) for key, task in one_ad(graphs).items()}
    assert [len(rows) for rows in read.values()] == [texts, texts, AD_BRANCHES * texts, AD_BRANCHES * texts]
    assert all(rows.shape == (AD_BRANCHES, 32) for rows in read["mixed"])
    for key in ("layers_1", "layers_2"):
        assert all(rows.shape == (AD_BRANCHES, 32) for rows in rows_of(fan_out(graphs)[key]()))


def test_heads_inside_the_encoder_take_a_branch_or_a_pass_each(graphs: Graphs) -> None:
    read = {key: rows_of(task()) for key, task in head_adapters(graphs).items()}
    assert [len(rows) for rows in read.values()] == [2, 2, 2, 2 * graphs.sizes.heads]
    assert [rows[0].shape for rows in read.values()] == [(1, 32), (1, 32), (graphs.sizes.heads, 32), (1, 32)]


def test_every_task_runs_and_gives_finite_values(graphs: Graphs) -> None:
    for group in all_groups(graphs):
        for name, task in group.tasks.items():
            for rows in rows_of(task()):
                assert np.isfinite(rows).all(), f"{group.name}: {name}"
                assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-4, f"{group.name}: {name}"
