"""What adapters cost: mixed batches, branches of one ad, heads, memory, and what else one could do, in one process.

Everything runs on one thread, in rounds that interleave what is held against each other; times are processor time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from eval.bench.branches_batching import batching_group, padding, token_rows, weights_group
from eval.bench.branches_graphs import FOLDER, PLAIN, WEIGHTS, LoadedGraph, Sizes, branches, check_graphs
from eval.bench.branches_groups import GROUPS, all_groups, load_graphs
from eval.bench.branches_memory import measure_memory
from eval.bench.branches_rounds import Allowance, Times
from eval.peers.measure import Figures, Job, run
from retrieval_shared.bundle import BASE_WEIGHTS, load_bundle
from retrieval_shared.errors import WardlineError
from retrieval_shared.onnx_encoder import OnnxEncoder

MODULES = ("eval.bench.branches", "eval.bench.branches_peft")
"""Each is a process of its own."""
ROUNDS, LIMIT_S, PEFT_LIMIT_S = 5, 165, 35
TIMEOUT_S = 600
"""Of either process: loading, and a machine so slow that one round of each group takes longer than the limit."""
WEIGHTS_TEXTS, BATCHING_TEXTS = 64, 96
"""Of the bench's texts, how many are read for int8 beside float32, and for the ways to make batches."""


def job_of(ads: Sequence[str], texts: Sequence[str], *, bundle: Path, graphs: Path = FOLDER) -> Job:
    """Return what both processes are told.

    Args:
        ads: single texts.
        texts: texts of many lengths.
        bundle: folder of the bundle.
        graphs: folder of the graphs.
    """
    return {
        "bundle": str(bundle),
        "graphs": str(graphs.resolve()),
        "ads": list(ads),
        "texts": list(texts),
        "rounds": ROUNDS,
        "limit_s": LIMIT_S,
        "peft_limit_s": PEFT_LIMIT_S,
    }


def measure(job: Job) -> Figures:
    """Return seconds of each task in each round, precision by precision, and memory.

    Args:
        job: what `job_of` returns.

    Raises:
        WardlineError: graphs are missing, they are of another encoder, or the bundle has no adapter.
    """
    started = time.monotonic()
    bundle, folder = load_bundle(job["bundle"]), Path(job["graphs"])
    sizes = check_graphs(folder, encoder=bundle.sha256(BASE_WEIGHTS))
    encoder = OnnxEncoder(bundle, threads=1)
    if not encoder.adapters:
        raise WardlineError(f"bundle {bundle.path}: found no adapter, expected at least one to measure")
    memory = measure_memory(encoder, folder, sizes)  # first: what was freed hides what comes next
    stream = np.array([token for row in token_rows(encoder, job["ads"]) for token in row], dtype=np.int64)
    time_left = Allowance(job["limit_s"], groups=len(WEIGHTS) * len(GROUPS) + 2, rounds=job["rounds"])
    times: dict[str, dict[str, Times]] = {}
    for weights in WEIGHTS:
        graphs = load_graphs(folder, weights, sizes, stream)
        times[weights] = {group.name: time_left.time(group) for group in all_groups(graphs)}
    texts = job["texts"][:BATCHING_TEXTS]
    rows = token_rows(encoder, texts)
    return {
        "sizes": asdict(sizes),
        "memory": memory,
        "times": times,
        "weights": time_left.time(weights_group(rows[:WEIGHTS_TEXTS], *_both(folder, sizes))),
        "batching": time_left.time(batching_group(bundle, encoder, texts)),
        "batching_texts": len(texts),
        "padding": padding(rows),
        "took_s": time.monotonic() - started,
    }


def _both(folder: Path, sizes: Sizes) -> tuple[dict[str, LoadedGraph], dict[str, LoadedGraph]]:
    """Return the encoder alone and the serving graph in both precisions."""
    plain = {weights: LoadedGraph(folder, PLAIN, weights, sizes) for weights in WEIGHTS}
    served = {weights: LoadedGraph(folder, branches(sizes.served), weights, sizes) for weights in WEIGHTS}
    return plain, {weights: graph.holding(slots=2) for weights, graph in served.items()}


if __name__ == "__main__":
    run(measure)
