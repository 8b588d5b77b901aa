"""Plain ONNX Runtime: tokenizers, the float32 MiniLM graph, mean over tokens; one by one or in padded batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.peers.measure import Job, Stack, measure_stack, run
from eval.peers.minilm import GRAPH, MAX_TOKENS, TOKENIZER
from eval.peers.orders import ARRIVAL, in_batches

PACKAGES = ("onnxruntime", "tokenizers", "numpy")


def load(job: Job) -> Stack:
    """Return the stack; `batch_size` texts go into one run, in the `order` of the job (`arrival` if it names none)."""
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    folder = Path(job["minilm"])
    session = onnxruntime.InferenceSession(str(folder / GRAPH), options, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding()
    encode = in_batches(
        lambda texts: _encode(session, tokenizer, texts),
        size=int(job["batch_size"]),
        order=str(job.get("order", ARRIVAL)),
    )
    return Stack(one=lambda text: encode([text]), many=encode, packages=PACKAGES, vectors=encode)


def _encode(session: Any, tokenizer: Any, texts: Sequence[str]) -> Any:  # noqa: ANN401 - of libraries without types
    encodings = tokenizer.encode_batch(list(texts))
    ids = np.array([encoding.ids for encoding in encodings], dtype=np.int64)  # [n, t]
    mask = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)  # [n, t]
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    (states,) = session.run(["states"], feeds)  # [n, t, d]
    total = np.where(mask[:, :, None] > 0, states, 0.0).sum(axis=1)  # [n, d]
    return total / np.linalg.norm(total, axis=1, keepdims=True)


if __name__ == "__main__":
    run(lambda job: measure_stack(load(job), job))
