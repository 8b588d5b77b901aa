"""What one more region weighs: as an adapter of a loaded encoder, and as a merged model in a session of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eval.bench.branches_graphs import PLAIN, WEIGHTS, LoadedGraph, Sizes
from eval.peers.measure import Figures, resident_mb
from retrieval_shared.adapters import Adapter
from retrieval_shared.onnx_encoder import OnnxEncoder

REGIONS = 64
"""Adapters that are loaded; the first is not counted."""
TURNS = 3
"""Times that they are loaded, those before kept: the first fill what the process had free, the greatest counts."""
COPIES = 4
"""Merged models that are loaded; the first is not counted, it brings the runtime along."""
_PROBE = np.full((1, 64), 5, dtype=np.int64)


def measure_memory(encoder: OnnxEncoder, folder: Path, sizes: Sizes) -> Figures:
    """Return resident memory per region, 10^6 bytes, and the bytes of one adapter's matrices.

    Args:
        encoder: of the bundle, with at least one adapter.
        folder: of the graphs.
        sizes: theirs.
    """
    like = encoder.adapters[0]
    kept: list[OnnxEncoder] = []
    grown: list[float] = []
    for turn in range(TURNS):
        names = range(turn * REGIONS, (turn + 1) * REGIONS)
        kept.append(_in_use(encoder, made_up(like, names[:1])))
        before = resident_mb()
        # An encoder keeps the matrices it was given beside the stacks it made of them: both count.
        kept.append(_in_use(encoder, [*kept[-1].adapters, *made_up(like, names[1:])]))
        grown.append(resident_mb() - before)
    return {
        "regions": len(kept[-1].adapters),
        "mb_per_region": max(grown) / (REGIONS - 1),
        "bytes_of_matrices": sum(a.nbytes + b.nbytes for a, b in like.matrices.values()),
        "merged_mb": _merged_mb(folder, sizes),
    }


def made_up(like: Adapter, numbers: range) -> list[Adapter]:
    """Return adapters of the same shapes, with values and names of their own."""
    rng = np.random.default_rng(numbers.start)
    return [
        dataclasses.replace(
            like,
            name=f"region:X{i}",
            matrices={
                module: (rng.standard_normal(a.shape, dtype=np.float32), rng.standard_normal(b.shape, dtype=np.float32))
                for module, (a, b) in like.matrices.items()
            },
        )
        for i in numbers
    ]


def _in_use(encoder: OnnxEncoder, adapters: Sequence[Adapter]) -> OnnxEncoder:
    """Return an encoder with these adapters that has read a text."""
    found = encoder.with_adapters(adapters)
    found.encode(["a"], slot=found.slots[-1])
    return found


def _merged_mb(folder: Path, sizes: Sizes) -> dict[str, float]:
    kept: list[LoadedGraph] = []  # all of them until the end, so that none takes what another left
    found = {}
    for weights in WEIGHTS:
        for copy in range(COPIES):
            kept.append(LoadedGraph(folder, PLAIN, weights, sizes))
            kept[-1].read(_PROBE)
            if copy == 0:
                before = resident_mb()
        found[weights] = (resident_mb() - before) / (COPIES - 1)
    return found
