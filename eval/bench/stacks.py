"""What is measured, in the order of every round: our service, our classes in process, and the peers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from eval.bench.environment import INFINITY, ONNX, PEERS, Environment
from eval.peers.orders import ARRIVAL, SORTED

HTTP, WARDLINE = "http", "wardline"
"""Keys of our two stacks: over HTTP, and the same classes in process."""
INT8, FLOAT32 = "int8", "float32"
BATCH = 32
"""Texts of a peer's batch: the default of sentence-transformers and of infinity."""


@dataclass(frozen=True)
class Stack:
    """One way to read the texts; each measurement is a process of its own."""

    key: str
    """Names it in the report."""
    title: str
    """Names it to a reader."""
    what: str
    """What one text goes through."""
    module: str
    """Run with `python -m`."""
    weights: str
    """`int8` or `float32`."""
    batches: str
    """How the batch is read."""
    environment: Environment | None = None
    """The peers' environment it runs in; None is our own."""
    settings: Mapping[str, int | str] = field(default_factory=dict)
    """Added to its job."""
    single: bool = True
    """Whether texts are read one by one, too."""

    @property
    def is_peer(self) -> bool:
        """Return whether it is somebody else's."""
        return self.environment is not None


@dataclass(frozen=True)
class Peer:
    """A stack of somebody else's that is measured in both shapes of a batch."""

    key: str
    """Begins the keys of both."""
    title: str
    """Begins the titles of both."""
    what: str
    """What one text goes through."""
    module: str
    """Run with `python -m`."""
    weights: str
    """`int8` or `float32`."""
    environment: Environment
    """The peers' environment it runs in."""
    single: bool = True
    """Whether it reads single texts, too: once, beside the sorted batch."""

    def shapes(self) -> tuple[Stack, Stack]:
        """Return its two stacks: batches in arrival order, and sorted by length."""
        in_order = self._stack(f"{self.key}_{ARRIVAL}", ARRIVAL, "in arrival order")
        by_length = self._stack(self.key if self.single else f"{self.key}_{SORTED}", SORTED, "sorted")
        return replace(in_order, single=False), replace(by_length, single=self.single)

    def _stack(self, key: str, order: str, shape: str) -> Stack:
        return Stack(
            key,
            f"{self.title}, {BATCH} {shape}",
            self.what,
            self.module,
            weights=self.weights,
            batches=f"{BATCH} {shape}",
            environment=self.environment,
            settings={"batch_size": BATCH, "order": order},
        )


OURS = (
    Stack(
        HTTP,
        "Wardline over HTTP",
        "POST /v1/ads:moderate on loopback, one worker, one client on one open connection: tokens, encoder, 16 heads, "
        "policy, decision log, JSON; the batch in requests of 256 items",
        "eval.bench.http_client",
        weights=INT8,
        batches="requests of 256",
    ),
    Stack(
        WARDLINE,
        "Wardline in process",
        "single: Moderator.moderate (encoder, 16 heads, policy); batch: Moderator.probabilities (encoder and 16 heads)",
        "eval.bench.inprocess",
        weights=INT8,
        batches="all in one call",
    ),
)
ONNX_RUNTIME = Stack(
    "onnxruntime",
    "ONNX Runtime fp32, one by one",
    "tokens and the float32 encoder, mean over tokens; no heads",
    "eval.peers.plain_onnxruntime",
    weights=FLOAT32,
    batches="one by one",
    environment=PEERS,
    settings={"batch_size": 1},
)
PEERS_IN_BATCHES = (
    Peer(
        "onnxruntime",
        "ONNX Runtime fp32",
        "the same in padded batches; arrival order is what a queue in front of a model often does",
        "eval.peers.plain_onnxruntime",
        weights=FLOAT32,
        environment=PEERS,
        single=False,  # measured one by one already
    ),
    Peer(
        "sentence_transformers",
        "sentence-transformers fp32",
        "SentenceTransformer.encode of the float32 encoder, which sorts what one call holds; no heads",
        "eval.peers.plain_sentence_transformers",
        weights=FLOAT32,
        environment=PEERS,
    ),
    Peer(
        "sentence_transformers_int8",
        "sentence-transformers ONNX int8",
        "the same on its ONNX backend, quantised by its own export_dynamic_quantized_onnx_model; no heads",
        "eval.peers.quantised_sentence_transformers",
        weights=INT8,
        environment=ONNX,
    ),
    Peer(
        "infinity",
        "infinity fp32",
        "AsyncEmbeddingEngine.embed, torch backend, in process: the float32 encoder behind its queue, which tokenises "
        "on a thread of its own; no heads, no HTTP",
        "eval.peers.infinity_engine",
        weights=FLOAT32,
        environment=INFINITY,
    ),
)
STACKS = (*OURS, ONNX_RUNTIME, *(stack for peer in PEERS_IN_BATCHES for stack in peer.shapes()))
