"""What is held against what: groups of tasks over the graphs of one precision, all on texts of the same tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from eval.bench.branches_graphs import ADAPTER, LORA, PLAIN, LoadedGraph, Sizes, branches
from eval.bench.branches_rounds import Group, Task

TOKENS = 64
"""Of a text, special tokens included, unless lengths are compared."""
BATCH, WIDE_BATCH, SOME = 20, 64, 8
"""Texts of a batch whose regions are mixed, of the one that has room for more of them, and of the other groups."""
DISTINCT, DISTINCT_WIDE = (1, 2, 5, 10, 20), (1, 8, 64)
"""Distinct regions in either batch."""
LOADED = (1, 4, 16, 64)
"""Slots beside the base that are loaded, one of them asked for."""
BRANCHES = (1, 2, 4, 8, 16, 32, 64)
"""Branches of one text."""
HEADS = (1, 2, 4, 8, 16, 32)
LENGTHS = (16, 32, 64, 128, 256, 512)
LENGTH_TOKENS = 512
"""Tokens of a batch whose texts have one of those lengths."""
AD_BRANCHES = 6
"""Of one ad: three regions, topics, products, and the plain vector."""
MERGED = 4
"""Merged models that are loaded: each run of one throws the others' weights out of the caches, as twenty would."""
ALL = ("vector", "logits")
"""Outputs where the heads are asked for, too."""

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Graphs:
    """The graphs of one precision, loaded."""

    sizes: Sizes
    plain: LoadedGraph
    """The encoder alone."""
    by_layers: Mapping[int, LoadedGraph]
    """Upper layers m -> the serving graph, with `LOADED[-1]` slots and the bundle's number of heads."""
    merged: Sequence[LoadedGraph]
    """The encoder alone, in sessions of their own: a model of one region merged with its adapter costs the same."""
    lora: LoadedGraph
    """One adapter per run."""
    adapters: Sequence[onnxruntime.LoraAdapter]
    """For `lora`."""
    stream: Ids
    """Token ids that texts are cut from, `[tokens]`."""

    @property
    def served(self) -> LoadedGraph:
        """Return the serving graph with the bundle's own m."""
        return self.by_layers[self.sizes.served]

    def texts(self, n: int, tokens: int = TOKENS) -> Ids:
        """Return n texts `[n, tokens]`."""
        return np.resize(self.stream, (n, tokens))


def load_graphs(folder: Path, weights: str, sizes: Sizes, stream: Ids) -> Graphs:
    """Return the graphs of one precision in a folder."""
    load = partial(LoadedGraph, folder, weights=weights, sizes=sizes)
    adapters = [onnxruntime.LoraAdapter() for _ in range(BATCH)]
    for adapter in adapters:
        adapter.Load(str(folder / ADAPTER))
    return Graphs(
        sizes=sizes,
        plain=load(PLAIN),
        by_layers={m: load(branches(m)).holding(slots=1 + LOADED[-1]) for m in sizes.counts},
        merged=[load(PLAIN) for _ in range(MERGED)],
        lora=load(LORA),
        adapters=adapters,
        stream=stream,
    )


def mixed(n: int, distinct: int) -> list[int]:
    """Return the slots of n texts under so many distinct regions, in turn."""
    return [1 + i % distinct for i in range(n)]


def all_groups(graphs: Graphs) -> Iterator[Group]:
    """Yield the groups of one precision; their names are those of the functions."""
    for make in GROUPS:
        yield Group(make.__name__, make(graphs))


def batch(graphs: Graphs) -> dict[str, Task]:
    """Return a batch under 1 to 20 regions, and with 1 to 64 loaded slots, beside the plain pass on the same tokens."""
    ids, served = graphs.texts(BATCH), graphs.served
    tasks: dict[str, Task] = {"plain": partial(graphs.plain.read, ids)}
    for k in DISTINCT:
        tasks[f"regions_{k}"] = partial(served.read, ids, slots=mixed(BATCH, k), outputs=ALL)
    for k in LOADED:
        tasks[f"slots_{k}"] = partial(served.holding(slots=1 + k).read, ids, slots=[1] * BATCH, outputs=ALL)
    return tasks


def wide_batch(graphs: Graphs) -> dict[str, Task]:
    """Return a larger batch under up to as many regions as it has texts, beside the plain pass."""
    ids = graphs.texts(WIDE_BATCH)
    tasks: dict[str, Task] = {"plain": partial(graphs.plain.read, ids)}
    for k in DISTINCT_WIDE:
        tasks[f"regions_{k}"] = partial(graphs.served.read, ids, slots=mixed(WIDE_BATCH, k), outputs=ALL)
    return tasks


def fan_out(graphs: Graphs) -> dict[str, Task]:
    """Return one ad at a time in all its branches, for each number of upper layers, beside one plain pass of it."""
    ids = graphs.texts(SOME)
    tasks: dict[str, Task] = {"plain": one_by_one(graphs.plain.read, ids)}
    for m, graph in graphs.by_layers.items():
        tasks[f"layers_{m}"] = one_by_one(_under(graph, AD_BRANCHES, ALL), ids)
    return tasks


def one_text(graphs: Graphs) -> dict[str, Task]:
    """Return one text in 1 to 64 branches, each under a region of its own, beside its plain pass."""
    ids = graphs.texts(1)
    tasks: dict[str, Task] = {"plain": partial(graphs.plain.read, ids)}
    for n in BRANCHES:
        tasks[f"branches_{n}"] = partial(_under(graphs.served, n, ALL), ids)
    return tasks


def heads(graphs: Graphs) -> dict[str, Task]:
    """Return a batch under one region with 1 to 32 heads, beside the plain pass."""
    ids = graphs.texts(SOME)
    tasks: dict[str, Task] = {"plain": partial(graphs.plain.read, ids)}
    for h in HEADS:
        graph = graphs.served.holding(slots=2, heads=h)
        tasks[f"heads_{h}"] = partial(graph.read, ids, slots=[1] * SOME, outputs=ALL)
    return tasks


def length(graphs: Graphs) -> dict[str, Task]:
    """Return batches of the same tokens in texts of 16 to 512, under one region with all heads, and plain."""
    tasks: dict[str, Task] = {}
    for t in LENGTHS:
        if t <= graphs.sizes.positions:
            ids = graphs.texts(LENGTH_TOKENS // t, t)
            tasks[f"plain_{t}"] = partial(graphs.plain.read, ids)
            tasks[f"tokens_{t}"] = partial(graphs.served.read, ids, slots=[1] * len(ids), outputs=ALL)
    return tasks


def many_regions(graphs: Graphs) -> dict[str, Task]:
    """Return the other ways to read a batch whose every text has a region of its own: a run per region."""
    ids = graphs.texts(BATCH)
    read = partial(graphs.served.read, ids, slots=mixed(BATCH, BATCH))
    return {
        "plain": partial(graphs.plain.read, ids),
        "mixed": partial(read, outputs=("vector",)),
        "mixed_heads": partial(read, outputs=ALL),
        "merged": lambda: [model.read(row[None]) for model, row in zip(cycle(graphs.merged), ids, strict=False)],
        "lora": lambda: [_adapted(graphs, i, row[None]) for i, row in enumerate(ids)],
    }


def one_ad(graphs: Graphs) -> dict[str, Task]:
    """Return the other ways to read an ad under six adapters: a whole pass for each."""
    ids = graphs.texts(SOME // 2)
    return {
        "plain": one_by_one(graphs.plain.read, ids),
        "mixed": one_by_one(_under(graphs.served, AD_BRANCHES, ("vector",)), ids),
        "merged": one_by_one(lambda row: [model.read(row) for model in islice(cycle(graphs.merged), AD_BRANCHES)], ids),
        "lora": one_by_one(lambda row: [_adapted(graphs, i, row) for i in range(AD_BRANCHES)], ids),
    }


def head_adapters(graphs: Graphs) -> dict[str, Task]:
    """Return the other ways to give each head a LoRA: inside the last layer, a branch each, or a pass for each."""
    ids = graphs.texts(SOME // 4)
    h = graphs.sizes.heads
    merged = graphs.merged
    return {
        "plain": one_by_one(graphs.plain.read, ids),
        "pooled": one_by_one(_under(graphs.served, 1, ALL), ids),
        "last_layer": one_by_one(_under(graphs.by_layers[1], h, ("vector",)), ids),
        "passes": one_by_one(lambda row: [model.read(row) for model in islice(cycle(merged), h)], ids),
    }


GROUPS: tuple[Callable[[Graphs], dict[str, Task]], ...] = (
    batch, fan_out, one_text, heads, length, many_regions, one_ad, head_adapters, wide_batch,
)  # fmt: skip


def one_by_one(read: Callable[[Ids], object], ids: Ids) -> Task:
    """Return the task that reads each text `[1, t]` by itself."""
    return lambda: [read(row[None]) for row in ids]


def _under(graph: LoadedGraph, n: int, outputs: Sequence[str]) -> Callable[[Ids], object]:
    """Return what reads one text in n branches, each in a slot of its own."""
    return partial(graph.read, rows=[0] * n, slots=range(1, 1 + n), outputs=outputs)


def _adapted(graphs: Graphs, number: int, ids: Ids) -> object:
    options = onnxruntime.RunOptions()
    options.add_active_adapter(graphs.adapters[number])
    return graphs.lora.read(ids, options=options)
