"""How batches are made, and what int8 gains: over the bench's own texts, of many lengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.bench.branches_graphs import LoadedGraph, open_session
from eval.bench.branches_groups import ALL
from eval.bench.branches_rounds import Group, Task
from retrieval_shared.adapters import LORA_A, LORA_B, Layout, stack_adapters
from retrieval_shared.batching import pad, token_budget_batches
from retrieval_shared.bundle import BASE_WEIGHTS, GRAPH, HEADS, Bundle
from retrieval_shared.head import read_heads
from retrieval_shared.onnx_encoder import TOKEN_BUDGET, OnnxEncoder

ARRIVAL_BATCH = 32
"""Texts of a batch that is padded in the order in which they came."""

Rows = Sequence[Sequence[int]]
"""Token ids of each text, or of each chunk of one that is too long."""


def token_rows(encoder: OnnxEncoder, texts: Sequence[str]) -> list[tuple[int, ...]]:
    """Return the token ids of the texts' chunks, special tokens included."""
    return [chunk.ids for chunk in encoder.chunks(texts)]


def weights_group(rows: Rows, plain: Mapping[str, LoadedGraph], served: Mapping[str, LoadedGraph]) -> Group:
    """Return the same texts in int8 and in float32, in batches as serving makes them.

    Args:
        rows: the texts.
        plain: precision -> the encoder alone.
        served: precision -> the serving graph, which is read under one region with all heads.
    """
    batches = [pad([rows[i] for i in batch]) for batch in token_budget_batches(_lengths(rows), budget=TOKEN_BUDGET)]
    tasks: dict[str, Task] = {}
    for weights in plain:
        tasks[f"plain_{weights}"] = _reading(plain[weights], batches, adapted=False)
        tasks[f"served_{weights}"] = _reading(served[weights], batches, adapted=True)
    return Group("weights", tasks)


def batching_group(bundle: Bundle, encoder: OnnxEncoder, texts: Sequence[str]) -> Group:
    """Return what the bundle's encoder does with all texts at once, with one at a time, and what padding would cost.

    Args:
        bundle: its graph reads the batches padded in the order of the texts, which `OnnxEncoder` makes none of.
        encoder: of the bundle.
        texts: in the order in which they came.
    """
    slot = encoder.slots[-1]
    read = arrival_reader(bundle, encoder)
    return Group(
        "batching",
        {
            "budget": lambda: encoder.encode(texts, slot=slot),
            "one_by_one": lambda: [encoder.encode([text], slot=slot) for text in texts],
            "arrival": lambda: [
                read(texts[start : start + ARRIVAL_BATCH]) for start in range(0, len(texts), ARRIVAL_BATCH)
            ],
        },
    )


def arrival_reader(bundle: Bundle, encoder: OnnxEncoder) -> Callable[[Sequence[str]], list[NDArray[np.float32]]]:
    """Return what reads texts in one run, padded to the longest, under the last slot: tokens, vectors and logits."""
    session = open_session(bundle.file(GRAPH))
    shapes = {each.name: each.shape for each in session.get_inputs()}
    linears = {
        name.removeprefix(LORA_A): (shape[1], shapes[LORA_B + name.removeprefix(LORA_A)][2])
        for name, shape in shapes.items()
        if name.startswith(LORA_A)
    }
    base = bundle.sha256(BASE_WEIGHTS)
    slots = stack_adapters(encoder.adapters, Layout(base, linears))
    heads = read_heads(bundle.path / HEADS, bundle.manifest.heads, encoder=base)

    def read(texts: Sequence[str]) -> list[NDArray[np.float32]]:
        ids, mask = pad(token_rows(encoder, texts))
        feeds: dict[str, NDArray[Any]] = {
            "input_ids": ids,
            "attention_mask": mask,
            "branch_row": np.arange(len(ids), dtype=np.int64),
            "slot": np.full(len(ids), len(slots.names) - 1, dtype=np.int64),
            **slots.inputs,
            **heads.inputs,
        }
        found: list[NDArray[np.float32]] = session.run(list(ALL), feeds)
        return found

    return read


def padding(rows: Rows) -> dict[str, float]:
    """Return how many tokens each way of batching reads for one that is there: 1 is no padding."""
    lengths = _lengths(rows)
    budget = sum(len(batch) * int(lengths[batch].max()) for batch in token_budget_batches(lengths, budget=TOKEN_BUDGET))
    parts = [lengths[start : start + ARRIVAL_BATCH] for start in range(0, len(lengths), ARRIVAL_BATCH)]
    arrival = sum(len(part) * int(part.max()) for part in parts)
    real = int(lengths.sum())
    return {"budget": budget / real, "one_by_one": 1.0, "arrival": arrival / real}


def _lengths(rows: Rows) -> NDArray[np.int64]:
    return np.array([len(row) for row in rows], dtype=np.int64)


def _reading(
    graph: LoadedGraph, batches: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]], *, adapted: bool
) -> Task:
    outputs = ALL if adapted else ALL[:1]
    return lambda: [
        graph.read(ids, mask=mask, slots=[int(adapted)] * len(ids), outputs=outputs) for ids, mask in batches
    ]
