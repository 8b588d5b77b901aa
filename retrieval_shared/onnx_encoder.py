"""The encoder as it is served: one ONNX graph, any number of texts, any length, any mix of adapters in one batch."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from retrieval_shared.adapters import (
    BASE_SLOT,
    LORA_A,
    LORA_B,
    Adapter,
    Layout,
    folder_of,
    read_adapter,
    stack_adapters,
)
from retrieval_shared.batching import pad, token_budget_batches
from retrieval_shared.bundle import ADAPTERS, BASE_WEIGHTS, GRAPH, HEADS, TOKENIZER, Bundle
from retrieval_shared.chunking import chunk_spans
from retrieval_shared.errors import AdapterError, BundleError, ScoringError
from retrieval_shared.head import Heads, read_heads
from retrieval_shared.shared_turns import turns_named
from retrieval_shared.turns import threads_named

CHUNK_OVERLAP = 32
"""Tokens that two neighbouring chunks of a long text share."""
TOKEN_BUDGET = 512
"""Padded tokens of one run: texts of like length share it, and the padding stays at a few percent."""
Branch = tuple[int, str]
"""Number of a text and the adapter slot it is read under."""


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
    """What the graph says about n branches: texts, each under one slot."""

    vectors: NDArray[np.float32]
    """`[n, d]`, unit length; of a chunked text the normalised mean over its chunks."""
    logits: NDArray[np.float32]
    """`[n, H]`; of a chunked text the maximum over its chunks."""
    tokens: int
    """Tokens read, special tokens not counted; a text counts once, however many branches it has."""
    chunked: NDArray[np.bool_]
    """`[n]`, true where a text was longer than one pass."""


class OnnxEncoder:
    """A bundle's graph in one ONNX Runtime session; thread-safe. A text's result does not depend on its neighbours.

    The adapters are not part of the session: they are memory that every run points to. So an encoder with others
    (`with_adapters`) costs what they weigh, and whoever holds the one before goes on with it.
    """

    def __init__(self, bundle: Bundle, *, threads: int | None = None) -> None:
        """Load the graph, the bundle's adapters and its heads.

        Args:
            bundle: a verified bundle.
            threads: batches read at the same time, one core each, by all callers together, and by all workers where
                `serve` started them; None takes `WARDLINE_THREADS` from the environment, else 1.

        Raises:
            ValueError: `WARDLINE_THREADS` is no whole number from 1.
            BundleError: the graph, the tokenizer, an adapter or a head cannot be loaded.
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
        self._layout = Layout(encoder=bundle.sha256(BASE_WEIGHTS), linears=linears_of(self._session))
        try:
            own = [read_adapter(bundle.path / ADAPTERS / folder_of(name)) for name in bundle.manifest.slots[1:]]
            self._slots = stack_adapters(own, self._layout)
            self._heads = read_heads(bundle.path / HEADS, bundle.manifest.heads, encoder=self._layout.encoder)
            _check_heads(self._heads, self._session)
        except AdapterError as error:
            raise BundleError(f"bundle {bundle.path}: {error}") from error
        if self._slots.names != bundle.manifest.slots:
            raise BundleError(f"bundle {bundle.path}: its adapters are not those its manifest names")
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._prefix, self._suffix = _special_ids(self._tokenizer)
        threads = threads or threads_named()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="encode")
        self._turns = turns_named(threads)
        self.max_tokens = bundle.manifest.max_tokens

    @property
    def slots(self) -> tuple[str, ...]:
        """Return the names of the loaded slots; slot 0 is the base."""
        return self._slots.names

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        """Return the loaded adapters, those of the slots from 1."""
        return self._slots.adapters

    @property
    def head_versions(self) -> tuple[str, ...]:
        """Return the version of each head, `[H]`."""
        return self._heads.versions

    def with_adapters(self, adapters: Sequence[Adapter]) -> OnnxEncoder:
        """Return an encoder with these adapters in its slots from 1, over the same session; this one stays as it is.

        Raises:
            AdapterError: an adapter was made for another encoder, adapts what this graph does not, or stands there
                twice.
        """
        other = copy.copy(self)
        other._slots = stack_adapters(adapters, self._layout)
        return other

    def encode(self, texts: Sequence[str], *, slot: str = BASE_SLOT) -> Encoded:
        """Return vectors and logits of `texts` under one slot, in their order.

        Args:
            texts: n texts of any length.
            slot: adapter slot, one of `slots`.

        Raises:
            ValueError: no such slot.
            ScoringError: the runtime failed or its output is not finite.
        """
        self._slots.number(slot)  # also where there is no text
        return self.encode_branches(texts, [(i, slot) for i in range(len(texts))])

    def encode_branches(self, texts: Sequence[str], branches: Sequence[Branch]) -> Encoded:
        """Return vectors and logits of n branches, in their order; what no adapter touches runs once per text.

        Args:
            texts: texts of any length.
            branches: n branches; a text may have any number of them.

        Raises:
            ValueError: a branch names no text, or a slot that is not loaded.
            ScoringError: the runtime failed or its output is not finite.
        """
        for text, slot in branches:
            self._slots.number(slot)
            if not 0 <= text < len(texts):
                raise ValueError(f"branches: found text {text}, allowed 0 to {len(texts) - 1}")
        named = {text for text, _ in branches}
        chunks = [chunk for chunk in self.chunks(texts) if chunk.text in named]
        outputs, owner = self._run(chunks, branches, ("vector", "logits"))
        vectors = np.zeros((len(branches), self.dim), dtype=np.float32)
        logits = np.full((len(branches), self.heads), -np.inf, dtype=np.float32)
        if outputs:
            np.add.at(vectors, owner, np.stack([row[0] for row in outputs]))
            np.maximum.at(logits, owner, np.stack([row[1] for row in outputs]))
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        special = len(self._prefix) + len(self._suffix)
        return Encoded(
            vectors=(vectors / np.where(norms > 0, norms, 1.0)).astype(np.float32),
            logits=logits,
            tokens=sum(len(chunk.ids) - special for chunk in chunks),
            chunked=np.bincount(owner, minlength=len(branches)) > 1,
        )

    def attention(self, text: str, *, slot: str) -> list[tuple[Chunk, NDArray[np.float32]]]:
        """Return each chunk of `text` with its heads' attention `[H, t]` over the chunk's tokens."""
        self._slots.number(slot)
        chunks = self.chunks([text])
        outputs, _ = self._run(chunks, [(0, slot)], ("attention",))
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
        self, chunks: Sequence[Chunk], branches: Sequence[Branch], outputs: tuple[str, ...]
    ) -> tuple[list[tuple[NDArray[np.float32], ...]], NDArray[np.int64]]:
        """Return the outputs of each chunk of each branch, branch by branch, and the branch each belongs to.

        Every chunk's text has a branch. Chunks of like length share a run under `TOKEN_BUDGET`. Activations are
        quantised with a scale per token, so that a chunk's numbers do not move with its neighbours.
        """
        slots = self._slots  # one set of adapters for the whole call, whatever is swapped meanwhile
        of_text: dict[int, list[int]] = {}
        for i, (text, _) in enumerate(branches):
            of_text.setdefault(text, []).append(i)
        numbers = [slots.number(slot) for _, slot in branches]

        def run(batch: NDArray[np.intp]) -> list[tuple[tuple[int, int], tuple[NDArray[np.float32], ...]]]:
            ids, mask = pad([chunks[i].ids for i in batch])
            rows = [(row, branch) for row, i in enumerate(batch) for branch in of_text[chunks[i].text]]
            feeds: dict[str, NDArray[Any]] = {
                "input_ids": ids,
                "attention_mask": mask,
                "branch_row": np.array([row for row, _ in rows], dtype=np.int64),
                "slot": np.array([numbers[branch] for _, branch in rows], dtype=np.int64),
                **slots.inputs,
                **self._heads.inputs,
            }
            values = self._values(feeds, outputs)
            places = [(branch, int(batch[row])) for row, branch in rows]
            return list(zip(places, zip(*values, strict=True), strict=True))

        batches = token_budget_batches([len(chunk.ids) for chunk in chunks], budget=TOKEN_BUDGET)
        # A single batch, the common case of a request, needs no other thread. A run waits for its turn, so that two
        # requests do not slow each other down on one core; between the runs of a long request others have theirs.
        done = map(run, batches) if len(batches) < 2 else self._pool.map(run, batches)
        found = sorted((each for some in done for each in some), key=lambda each: each[0])
        return [row for _, row in found], np.array([branch for (branch, _), _ in found], dtype=np.int64)

    def _values(self, feeds: dict[str, NDArray[Any]], outputs: tuple[str, ...]) -> list[NDArray[np.float32]]:
        options = onnxruntime.RunOptions()
        options.only_execute_path_to_fetches = True  # nobody pays for outputs that were not asked for
        try:
            with self._turns.one():
                values: list[NDArray[np.float32]] = self._session.run(list(outputs), feeds, options)
        except Exception as error:  # the runtime's own exceptions derive from Exception alone
            raise ScoringError(f"the encoder failed on {feeds['input_ids'].size} tokens: {error}") from error
        if not all(np.isfinite(value).all() for value in values):
            raise ScoringError(f"the encoder gave a value that is not finite on {feeds['input_ids'].size} tokens")
        return values

    def _shape(self, output: str) -> Sequence[int | str]:
        return next(o.shape for o in self._session.get_outputs() if o.name == output)


def linears_of(session: onnxruntime.InferenceSession) -> dict[str, tuple[int, int]]:
    """Return which linear layers of the graph carry LoRA, with their sizes (in, out)."""
    shapes = {each.name: each.shape for each in session.get_inputs()}
    return {
        name.removeprefix(LORA_A): (int(shape[1]), int(shapes[LORA_B + name.removeprefix(LORA_A)][2]))
        for name, shape in shapes.items()
        if name.startswith(LORA_A)
    }


def _check_heads(heads: Heads, session: onnxruntime.InferenceSession) -> None:
    """Raise `AdapterError` where the heads are more, fewer or larger than those the graph was exported for."""
    shapes = {each.name: tuple(each.shape) for each in session.get_inputs()}
    for name, value in heads.inputs.items():
        if value.shape != shapes.get(name):
            raise AdapterError(f"heads: {name} is {value.shape}, the graph expects {shapes.get(name)}")


def _special_ids(tokenizer: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the ids the tokenizer puts before and after a text."""
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    full = tokenizer.encode("a").ids
    start = next(i for i in range(len(full)) if full[i : i + len(plain)] == plain)
    return tuple(full[:start]), tuple(full[start + len(plain) :])
