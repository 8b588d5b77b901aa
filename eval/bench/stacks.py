"""What is measured, in the order of every round: our service, our classes in process, and the peers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

HTTP, WARDLINE = "http", "wardline"
"""Keys of our two stacks: over HTTP, and the same classes in process."""


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
    is_peer: bool = False
    """Whether it runs in the peers' environment."""
    settings: Mapping[str, int] = field(default_factory=dict)
    """Added to its job."""
    single: bool = True
    """Whether texts are read one by one, too."""


STACKS = (
    Stack(
        HTTP,
        "Wardline over HTTP",
        "POST /v1/ads:moderate on loopback, one worker, one client on one open connection: tokens, encoder, 16 heads, "
        "policy, decision log, JSON; the batch in requests of 256 items",
        "eval.bench.http_client",
    ),
    Stack(
        WARDLINE,
        "Wardline in process",
        "single: Moderator.moderate (encoder, 16 heads, policy); batch: Moderator.probabilities (encoder and 16 heads)",
        "eval.bench.inprocess",
    ),
    Stack(
        "onnxruntime",
        "ONNX Runtime fp32, one by one",
        "tokens and the float32 encoder, mean over tokens; no heads",
        "eval.peers.plain_onnxruntime",
        is_peer=True,
        settings={"batch_size": 1},
    ),
    Stack(
        "onnxruntime_arrival",
        "ONNX Runtime fp32, 32 in arrival order",
        "the same in batches of 32 as they come, padded to their longest; what a queue in front of a model often does",
        "eval.peers.plain_onnxruntime",
        is_peer=True,
        settings={"batch_size": 32},
        single=False,
    ),
    Stack(
        "sentence_transformers",
        "sentence-transformers fp32, 32 sorted",
        "SentenceTransformer.encode of the float32 encoder, batch_size=32, which sorts by length; no heads",
        "eval.peers.plain_sentence_transformers",
        is_peer=True,
        settings={"batch_size": 32},
    ),
)
