"""The encoder as it is served: one ONNX graph, any number of texts, any length."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from retrieval_shared.bundle import GRAPH, TOKENIZER, Bundle
from retrieval_shared.chunking import chunk_spans
from retrieval_shared.errors import BundleError, ScoringError

CHUNK_OVERLAP = 32
"""Tokens that two neighbouring chunks of a long text share."""


@dataclass(frozen=True)
class Chunk:
    """A stretch of one text that fits the graph."""

    text: int
    """Number of the text it belongs to."""
    ids: tuple[int, ...]
    """Token ids, special tokens included."""
    spans: tuple[tuple[int, int], ...]
    """Where each token stands in the text, in code points; (0, 0) for special tokens."""


@dataclass(frozen=True)
class Encoded:
    """What the graph says about n texts."""

    vectors: NDArray[np.float32]
    """`[n, d]`, unit length; of a chunked text the normalised mean over its chunks."""
    logits: NDArray[np.float32]
    """`[n, H]`; of a chunked text the maximum over its chunks."""
    tokens: int
    """Tokens read, special tokens not counted."""
    chunked: NDArray[np.bool_]
    """`[n]`, true where a text was longer than one pass."""


class OnnxEncoder:
    """A bundle's graph in one ONNX Runtime session; thread-safe. A text's result never depends on its neighbours."""

    def __init__(self, bundle: Bundle, *, threads: int | None = None) -> None:
        """Load the graph.

        Args:
            bundle: a verified bundle.
            threads: chunks read at the same time, one core each; None takes `WARDLINE_THREADS` from the environment,
                else 1 (a worker per core serves more than a worker with two threads).

        Raises:
            ValueError: `WARDLINE_THREADS` is no whole number from 1.
            BundleError: the graph or the tokenizer cannot be loaded.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Workers that share cores must sleep, not spin, between requests.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                str(bundle.file(GRAPH)), options, providers=["CPUExecutionProvider"]
            )
            self._tokenizer: Tokenizer = Tokenizer.from_file(str(bundle.file(TOKENIZER)))
        except Exception as error:  # both libraries raise bare exceptions of their own
            raise BundleError(f"bundle {bundle.path}: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._prefix, self._suffix = _special_ids(self._tokenizer)
        self._pool = ThreadPoolExecutor(threads or _threads_named(), thread_name_prefix="encode")
        self.slots = bundle.manifest.slots
        self.max_tokens = bundle.manifest.max_tokens

    def encode(self, texts: Sequence[str], *, slot: str = "base") -> Encoded:
        """Return vectors and logits of `texts`, in their order.

        Args:
            texts: n texts of any length.
            slot: adapter slot, one of `slots`.

        Raises:
            ValueError: no such slot.
            ScoringError: the runtime failed or its output is not finite.
        """
        chunks = self.chunks(texts)
        outputs = self._run(chunks, self._slot_number(slot), ("vector", "logits"))
        owner = np.array([chunk.text for chunk in chunks], dtype=np.int64)
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        logits = np.full((len(texts), self.heads), -np.inf, dtype=np.float32)
        if chunks:
            np.add.at(vectors, owner, np.stack([row[0] for row in outputs]))
            np.maximum.at(logits, owner, np.stack([row[1] for row in outputs]))
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        special = len(self._prefix) + len(self._suffix)
        return Encoded(
            vectors=(vectors / np.where(norms > 0, norms, 1.0)).astype(np.float32),
            logits=logits,
            tokens=sum(len(chunk.ids) - special for chunk in chunks),
            chunked=np.bincount(owner, minlength=len(texts)) > 1,
        )

    def attention(self, text: str, *, slot: str) -> list[tuple[Chunk, NDArray[np.float32]]]:
        """Return each chunk of `text` with its heads' attention `[H, t]` over the chunk's tokens."""
        chunks = self.chunks([text])
        outputs = self._run(chunks, self._slot_number(slot), ("attention",))
        return [(chunk, row[0][:, : len(chunk.ids)]) for chunk, row in zip(chunks, outputs, strict=True)]

    @property
    def dim(self) -> int:
        """Return the width d of a vector."""
        return int(self._shape("vector")[1])

    @property
    def heads(self) -> int:
        """Return the number H of logits."""
        return int(self._shape("logits")[1])

    def chunks(self, texts: Sequence[str]) -> list[Chunk]:
        """Return the chunks of all texts, in order; every text has at least one."""
        return [chunk for i, encoding in enumerate(self._encodings(texts)) for chunk in self._split(i, encoding)]

    def _encodings(self, texts: Sequence[str]) -> list[Encoding]:
        whole = [
            text.encode("utf-8", "replace").decode("utf-8") for text in texts
        ]  # the tokenizer refuses lone surrogates
        return self._tokenizer.encode_batch(whole, add_special_tokens=False)  # type: ignore[no-any-return]

    def _split(self, text: int, encoding: Encoding) -> list[Chunk]:
        size = self.max_tokens - len(self._prefix) - len(self._suffix)
        before, after = ((0, 0),) * len(self._prefix), ((0, 0),) * len(self._suffix)
        ids, offsets = encoding.ids, encoding.offsets  # each access copies the whole list
        return [
            Chunk(
                text=text,
                ids=(*self._prefix, *ids[start:end], *self._suffix),
                spans=(*before, *offsets[start:end], *after),
            )
            for start, end in chunk_spans(len(ids), size=size, overlap=CHUNK_OVERLAP) or ((0, 0),)
        ]

    def _run(
        self, chunks: Sequence[Chunk], slot: int, outputs: tuple[str, ...]
    ) -> list[tuple[NDArray[np.float32], ...]]:
        """Return the outputs of each chunk, each from a run of its own.

        The activations of an int8 graph share one scale per run, so a chunk's neighbours in a batch would move its
        probabilities, and a decision could not be replayed alone. Reading one at a time costs a CPU nothing beyond
        64 tokens (serving report) and pads nothing.
        """

        def run(chunk: Chunk) -> tuple[NDArray[np.float32], ...]:
            ids = np.array([chunk.ids], dtype=np.int64)
            feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "slot": np.array([slot], dtype=np.int64)}
            try:
                values = self._session.run(list(outputs), feeds)
            except Exception as error:  # the runtime's own exceptions derive from Exception alone
                raise ScoringError(f"the encoder failed on {ids.size} tokens: {error}") from error
            if not all(np.isfinite(value).all() for value in values):
                raise ScoringError(f"the encoder gave a value that is not finite on {ids.size} tokens")
            return tuple(value[0] for value in values)

        # A single chunk, the common case of a request, needs no other thread.
        return [run(chunk) for chunk in chunks] if len(chunks) < 2 else list(self._pool.map(run, chunks))

    def _slot_number(self, slot: str) -> int:
        if slot not in self.slots:
            raise ValueError(f"slot: found {slot!r}, allowed {', '.join(self.slots)}")
        return self.slots.index(slot)

    def _shape(self, output: str) -> Sequence[int | str]:
        return next(o.shape for o in self._session.get_outputs() if o.name == output)


def _threads_named() -> int:
    """Return what `WARDLINE_THREADS` says, 1 where it says nothing."""
    named = os.environ.get("WARDLINE_THREADS") or "1"
    if not named.isdecimal() or int(named) < 1:
        raise ValueError(f"WARDLINE_THREADS: found {named!r}, allowed a whole number from 1")
    return int(named)


def _special_ids(tokenizer: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the ids the tokenizer puts before and after a text."""
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    full = tokenizer.encode("a").ids
    start = next(i for i in range(len(full)) if full[i : i + len(plain)] == plain)
    return tuple(full[:start]), tuple(full[start + len(plain) :])
