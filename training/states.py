"""Token states and vectors of all rows, computed once through the int8 graph and kept as half-precision memory maps.

No adapter touches the trunk, so its states are computed once for every adapter that is ever trained; what a slot makes
of them, once for all heads. Heads trained on cached states cost a seventh of training through the encoder, and meet in
training the rounded states they will meet in serving.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
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
class SomeStates:
    """Some rows of cached states, under numbers of their own."""

    of: TokenStates
    rows: NDArray[np.intp]
    """`[n]`, their numbers in `of`; a row may stand there more than once."""

    @property
    def dim(self) -> int:
        """Return the width d of a state."""
        return self.of.dim

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the tokens of each row, `[n]`."""
        return self.of.lengths[self.rows]

    def row(self, number: int) -> NDArray[np.float16]:
        """Return the states `[t, d]` of one row."""
        return self.of.row(int(self.rows[number]))

    def vector(self, number: int) -> NDArray[np.float16]:
        """Return the unit vector `[d]` of one row."""
        return self.of.vector(int(self.rows[number]))


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


Compute = Callable[[NDArray[np.intp]], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Rows -> their states `[b, t, d]`, padded to the longest of them, and vectors `[b, d]`."""


def session_of(graph: Path, *, threads: int) -> onnxruntime.InferenceSession:
    """Return a session over a graph on disk."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def from_tokens(
    session: onnxruntime.InferenceSession,
    token_ids: Sequence[Sequence[int]],
    resident: Mapping[str, NDArray[np.float32]],
    *,
    slot: int | None,
) -> Compute:
    """Return what reads rows of token ids through a graph whose outputs are states and vectors.

    Args:
        session: over the graph.
        token_ids: ids of each row, special tokens included.
        resident: the graph's other inputs.
        slot: adapter slot of every row; None: the graph knows no slots.
    """

    def compute(rows: NDArray[np.intp]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        ids, mask = pad([token_ids[i] for i in rows])
        slots = {} if slot is None else {"slot": np.full(len(rows), slot, dtype=np.int64)}
        states, vectors = session.run(None, {"input_ids": ids, "attention_mask": mask, **slots, **resident})
        return states, vectors

    return compute


def from_trunk(
    session: onnxruntime.InferenceSession,
    trunk: TokenStates,
    resident: Mapping[str, NDArray[np.float32]],
    *,
    slot: int,
) -> Compute:
    """Return what carries cached trunk states on through one slot of a `BranchGraph`."""

    def compute(rows: NDArray[np.intp]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        states, mask, static = (value.numpy() for value in padded_states(trunk, rows))
        slots = np.full(len(rows), slot, dtype=np.int64)
        feeds = {"trunk": states, "static": static, "attention_mask": mask, "slot": slots, **resident}
        found, vectors = session.run(None, feeds)
        return found, vectors

    return compute


def cache_states(
    compute: Compute, lengths: Sequence[int], *, folder: Path, dim: int, title: str, budget: int = 2_048
) -> CachedStates:
    """Return the states and vectors of all rows, computing those that `folder` does not hold yet.

    Args:
        compute: gives the states and vectors of some rows.
        lengths: tokens of each row.
        folder: where the memory maps and the note of progress lie.
        dim: width d.
        title: what the progress bar says.
        budget: padded tokens of one call.
    """
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    folder.mkdir(parents=True, exist_ok=True)
    path, note = folder / "states.f16", folder / "states.json"
    shape, of_vectors = (int(offsets[-1]), dim), (len(lengths), dim)
    done = _done(note, {path: shape, folder / "vectors.f16": of_vectors})
    if not done:
        note.unlink(missing_ok=True)  # else a run that stops before its first note would leave that of other maps
    mode: Literal["r+", "w+"] = "r+" if done else "w+"
    states = np.memmap(path, dtype=np.float16, mode=mode, shape=shape)
    vectors = np.memmap(folder / "vectors.f16", dtype=np.float16, mode=mode, shape=of_vectors)
    for start in track(range(done, len(lengths), SHARD_ROWS), description=title):
        shard = range(start, min(start + SHARD_ROWS, len(lengths)))
        for batch in token_budget_batches([lengths[i] for i in shard], budget=budget):
            rows = batch + start
            output, vectors[rows] = compute(rows)
            for k, row in enumerate(rows):
                states[offsets[row] : offsets[row + 1]] = output[k, : lengths[row]]
        states.flush()
        vectors.flush()
        note.write_text(json.dumps({"shape": shape, "rows": shard.stop}), encoding="utf-8")
        log.info(title, rows=shard.stop, of=len(lengths))
    return CachedStates(states=states, vectors=vectors, offsets=offsets)


def _done(note: Path, maps: Mapping[Path, tuple[int, int]]) -> int:
    """Return the rows already computed; 0 when a map is missing, or of other rows."""
    sizes = [path.stat().st_size // np.dtype(np.float16).itemsize if path.is_file() else -1 for path in maps]
    if not note.is_file() or sizes != [rows * dim for rows, dim in maps.values()]:
        return 0
    return int(json.loads(note.read_text(encoding="utf-8"))["rows"])
