"""Token states and vectors of all rows, computed once through the int8 graph and kept as half-precision memory maps.

Heads trained on these states cost a seventh of training through the encoder, and meet in training exactly the rounded
states they will meet in serving.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import onnxruntime
import structlog
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from retrieval_shared.batching import pad, token_budget_batches

log = structlog.get_logger()

SHARD_ROWS = 8_192
"""Rows computed between two notes of progress."""


class TokenStates(Protocol):
    """Token states of n rows, wherever they lie."""

    @property
    def dim(self) -> int:
        """Return the width d of a state."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the tokens of each row, `[n]`."""

    def row(self, number: int) -> NDArray[np.float16]:
        """Return the states `[t, d]` of one row."""

    def vector(self, number: int) -> NDArray[np.float16]:
        """Return the unit vector `[d]` of one row."""


@dataclass(frozen=True)
class CachedStates:
    """Token states of n rows in one memory map, one row after the other, and their vectors in another."""

    states: NDArray[np.float16]
    """`[sum of tokens, d]`, a memory map."""
    vectors: NDArray[np.float16]
    """`[n, d]`, a memory map."""
    offsets: NDArray[np.int64]
    """`[n + 1]`; row i holds `states[offsets[i]:offsets[i + 1]]`."""

    @property
    def dim(self) -> int:
        """Return the width d of a state."""
        return int(self.states.shape[1])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the tokens of each row, `[n]`."""
        return np.diff(self.offsets)

    def row(self, number: int) -> NDArray[np.float16]:
        """Return the states `[t, d]` of one row."""
        states: NDArray[np.float16] = self.states[self.offsets[number] : self.offsets[number + 1]]
        return states

    def vector(self, number: int) -> NDArray[np.float16]:
        """Return the unit vector `[d]` of one row."""
        found: NDArray[np.float16] = self.vectors[number]
        return found


@dataclass(frozen=True)
class JoinedStates:
    """Token states of n rows that lie in several caches, so that a run with more rows reuses those of a smaller one."""

    parts: tuple[CachedStates, ...]
    part: NDArray[np.int64]
    """`[n]`, the cache each row lies in."""
    place: NDArray[np.int64]
    """`[n]`, its number there."""

    @property
    def dim(self) -> int:
        """Return the width d of a state."""
        return self.parts[0].dim

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the tokens of each row, `[n]`."""
        lengths = np.zeros(len(self.part), dtype=np.int64)
        for k, part in enumerate(self.parts):
            lengths[self.part == k] = part.lengths[self.place[self.part == k]]
        return lengths

    def row(self, number: int) -> NDArray[np.float16]:
        """Return the states `[t, d]` of one row."""
        return self.parts[int(self.part[number])].row(int(self.place[number]))

    def vector(self, number: int) -> NDArray[np.float16]:
        """Return the unit vector `[d]` of one row."""
        return self.parts[int(self.part[number])].vector(int(self.place[number]))


def padded_states(states: TokenStates, rows: NDArray[np.intp]) -> tuple[Tensor, Tensor, Tensor]:
    """Return states float32 `[b, t, d]` of `rows`, zero on padding, their mask int64 `[b, t]` and vectors `[b, d]`."""
    found = [states.row(int(row)) for row in rows]
    lengths = np.array([len(row) for row in found])
    padded = np.zeros((len(rows), lengths.max(), states.dim), dtype=np.float16)
    for i, row in enumerate(found):
        padded[i, : lengths[i]] = row
    mask = np.arange(lengths.max())[None, :] < lengths[:, None]  # [b, t]
    vectors = np.stack([states.vector(int(row)) for row in rows])
    return torch.from_numpy(padded).float(), torch.from_numpy(mask.astype(np.int64)), torch.from_numpy(vectors).float()


def cache_states(
    graph: Path,
    token_ids: Sequence[Sequence[int]],
    *,
    folder: Path,
    dim: int,
    slot: int,
    threads: int,
    budget: int = 2_048,
) -> CachedStates:
    """Return the states and vectors of all rows, computing those that `folder` does not hold yet.

    Args:
        graph: an ONNX graph with the outputs `states` `[b, t, d]` and `vector` `[b, d]`.
        token_ids: ids of each row, special tokens included.
        folder: where the memory maps and the note of progress lie.
        dim: width d.
        slot: adapter slot of every row.
        threads: threads of the runtime.
        budget: padded tokens of one run.
    """
    offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in token_ids])]).astype(np.int64)
    folder.mkdir(parents=True, exist_ok=True)
    path, note = folder / "states.f16", folder / "states.json"
    shape = (int(offsets[-1]), dim)
    # A cache may be of a time without vectors.
    done = _done(note, shape) if (folder / "vectors.f16").is_file() else 0
    mode: Literal["r+", "w+"] = "r+" if done else "w+"
    states = np.memmap(path, dtype=np.float16, mode=mode, shape=shape)
    vectors = np.memmap(folder / "vectors.f16", dtype=np.float16, mode=mode, shape=(len(token_ids), dim))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    for start in track(range(done, len(token_ids), SHARD_ROWS), description="token states"):
        shard = range(start, min(start + SHARD_ROWS, len(token_ids)))
        for batch in token_budget_batches([len(token_ids[i]) for i in shard], budget=budget):
            rows = batch + start
            ids, mask = pad([token_ids[i] for i in rows])
            feeds = {"input_ids": ids, "attention_mask": mask, "slot": np.full(len(rows), slot, dtype=np.int64)}
            output, vectors[rows] = session.run(["states", "vector"], feeds)
            for k, row in enumerate(rows):
                states[offsets[row] : offsets[row + 1]] = output[k, : len(token_ids[row])]
        states.flush()
        vectors.flush()
        note.write_text(json.dumps({"shape": shape, "rows": shard.stop}), encoding="utf-8")
        log.info("token states", rows=shard.stop, of=len(token_ids))
    return CachedStates(states=states, vectors=vectors, offsets=offsets)


def _done(note: Path, shape: tuple[int, int]) -> int:
    """Return the rows already computed; 0 when the map on disk is of other rows."""
    if not note.is_file():
        return 0
    state = json.loads(note.read_text(encoding="utf-8"))
    return int(state["rows"]) if tuple(state["shape"]) == shape else 0
