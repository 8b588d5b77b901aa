"""All rows as training reads them: token ids, cut, and the trunk's states of each, computed once for every adapter."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from retrieval_shared.torch_encoder import SlotEncoder
from retrieval_shared.torch_families import AnySlotEncoder, slot_encoder
from training.adapter import read_matrices
from training.base_model import BaseModel
from training.branch import Branch, TokenBranch, TrunkBranch
from training.config import AdapterConfig
from training.examples import Examples
from training.export import BranchGraph, StatesGraph, TrunkGraph, export_onnx, quantise
from training.states import (
    CachedStates,
    JoinedStates,
    SomeStates,
    TokenStates,
    cache_states,
    from_tokens,
    from_trunk,
    session_of,
)

MAX_STATE_TOKENS = 96
"""Tokens of a row that is learnt from, where the configuration does not cut it sooner: so much is cached of each."""


@dataclass(frozen=True)
class Texts:
    """n rows in token ids, and the trunk's states of them where the encoder has a trunk."""

    base: BaseModel
    encoder: AnySlotEncoder
    """The base with one slot, at zero."""
    token_ids: tuple[list[int], ...]
    trunk: TokenStates | None
    """States and static vectors of all n rows; None: the encoder is of a family that is not cut in two."""
    layers: int
    """Upper layers that carry LoRA."""
    graphs: Path
    """Folder of the graphs, which are the same for every adapter."""

    def branch(self, rows: NDArray[np.intp]) -> Branch:
        """Return some rows, for training an adapter."""
        if self.trunk is None:
            return TokenBranch([self.token_ids[i] for i in rows], self.base)
        paths = self.base.two_paths.paths if self.base.two_paths else None
        return TrunkBranch(SomeStates(self.trunk, rows), self.layers, paths)

    def whole(self, rows: NDArray[np.intp]) -> TokenBranch:
        """Return some rows, for training the whole encoder."""
        return TokenBranch([self.token_ids[i] for i in rows], self.base)

    def states(
        self, adapter: Path, *, folder: Path, threads: int, rows: NDArray[np.intp] | None = None
    ) -> CachedStates:
        """Return states and vectors under an adapter that PEFT saved, cached in `folder`.

        Args:
            adapter: PEFT's folder.
            folder: where the cache lies; one folder per adapter.
            threads: threads of the runtime.
            rows: some rows, which the result numbers from 0; None: all.
        """
        chosen = np.arange(len(self.token_ids)) if rows is None else rows
        token_ids = [self.token_ids[i] for i in chosen]
        resident = read_matrices(adapter, list(self.encoder.lora_paths().values()))
        stacked = {name: np.stack([0 * value, value]) for name, value in resident.items()}
        if self.trunk is None:
            graph = int8_graph(StatesGraph(self.encoder), self.graphs / "states.onnx", ("states", "vector"))
            compute = from_tokens(session_of(graph, threads=threads), token_ids, stacked, slot=1)
        else:
            graph = int8_graph(BranchGraph(_cut(self.encoder)), self.graphs / "branch.onnx", ("states", "vector"))
            session = session_of(graph, threads=threads)
            compute = from_trunk(session, SomeStates(self.trunk, chosen), stacked, slot=1)
        name = hashlib.sha256(repr(token_ids).encode()).hexdigest()[:12]
        lengths = [len(ids) for ids in token_ids]
        return cache_states(
            compute, lengths, folder=folder / f"states-{name}", dim=self.base.dim, title="states under the adapter"
        )


def read_texts(
    base: BaseModel, examples: Examples, config: AdapterConfig, *, runs: Path, threads: int, shared: NDArray[np.bool_]
) -> Texts:
    """Return all examples as training reads them; the trunk's states come from caches in `runs`, or go there.

    Args:
        base: the encoder, rounded.
        examples: n examples.
        config: how many layers stand above the trunk, and where rows are cut.
        runs: folder of the caches.
        threads: threads of the runtime.
        shared: `[n]`, rows that other configurations read, too, and find in a cache of their own.
    """
    encodings = base.tokenizer.encode_batch(list(examples.texts))
    longest = min(config.max_tokens, MAX_STATE_TOKENS)
    token_ids = tuple(_cut_ids(encoding.ids, longest) for encoding in encodings)
    encoder = slot_encoder(base.model, [{}], rank=config.rank, branch_layers=config.layers, two_paths=base.two_paths)
    graphs = runs / f"branch-{base.identity[:12]}-{config.layers}-{config.rank}"
    trunk = None
    if isinstance(encoder, SlotEncoder):
        folder = runs / f"trunk-{base.identity[:12]}-{encoder.shape.layers - config.layers}"
        graph = int8_graph(TrunkGraph(encoder), folder / "trunk.onnx", ("trunk", "static"))
        trunk = _trunk(graph, token_ids, shared, dim=base.dim, threads=threads)
    return Texts(base, encoder, token_ids, trunk, config.layers, graphs)


def int8_graph(module: nn.Module, path: Path, outputs: tuple[str, ...]) -> Path:
    """Return the int8 form of a graph, exporting it once."""
    if not path.is_file():
        plain, unfinished = path.with_suffix(".float32.onnx"), path.with_suffix(".unfinished.onnx")
        export_onnx(module, plain, outputs)
        quantise(plain, unfinished)
        plain.unlink()
        unfinished.rename(path)
    return path


def _cut_ids(ids: list[int], longest: int) -> list[int]:
    return ids if len(ids) <= longest else [*ids[: longest - 1], ids[-1]]


def _trunk(
    graph: Path, token_ids: tuple[list[int], ...], shared: NDArray[np.bool_], *, dim: int, threads: int
) -> JoinedStates:
    parts: list[CachedStates] = []
    part, place = (np.zeros(len(token_ids), dtype=np.int64) for _ in range(2))
    session = session_of(graph, threads=threads)
    for rows in (np.flatnonzero(shared), np.flatnonzero(~shared)):
        if not len(rows):
            continue
        part[rows], place[rows] = len(parts), np.arange(len(rows))
        some = [token_ids[i] for i in rows]
        folder = graph.parent / f"states-{hashlib.sha256(repr(some).encode()).hexdigest()[:12]}"
        compute = from_tokens(session, some, {}, slot=None)
        lengths = [len(ids) for ids in some]
        parts.append(cache_states(compute, lengths, folder=folder, dim=dim, title="trunk states"))
    return JoinedStates(parts=tuple(parts), part=part, place=place)


def _cut(encoder: AnySlotEncoder) -> SlotEncoder:
    if not isinstance(encoder, SlotEncoder):
        raise TypeError(f"a {type(encoder).__name__} has no trunk")
    return encoder
