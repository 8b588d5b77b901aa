"""infinity's engine with its torch backend, without its server: the float32 MiniLM behind its queue, in process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np

from eval.peers.measure import Job, Stack, measure_stack, run
from eval.peers.minilm import folder
from eval.peers.orders import ARRIVAL, SORTED, in_batches

PACKAGES = ("infinity_emb", "sentence-transformers", "torch", "transformers", "tokenizers", "numpy")


def load(job: Job) -> Stack:
    """Return the stack; `batch_size` texts go into one run, in the `order` of the job (`sorted` if it names none).

    In arrival order the queue is given one batch at a time. Sorted, it is given all texts at once, sorted already, for
    it only sorts four batches among themselves.
    """
    import torch
    from infinity_emb import AsyncEmbeddingEngine, EngineArgs  # type: ignore[import-not-found,unused-ignore]

    torch.set_num_threads(1)
    size, order = int(job["batch_size"]), str(job.get("order", SORTED))
    settings = EngineArgs(
        model_name_or_path=str(folder()),
        engine="torch",
        device="cpu",
        batch_size=size,
        model_warmup=False,  # every stack is warmed up alike
        trust_remote_code=False,
    )
    engine = AsyncEmbeddingEngine.from_args(settings)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(engine.astart())

    def encode(texts: Sequence[str]) -> Any:  # noqa: ANN401 - float32 [n, d]
        vectors, _ = loop.run_until_complete(engine.embed(sentences=list(texts)))
        return np.stack(vectors)

    def close() -> None:
        loop.run_until_complete(engine.astop())  # its threads would outlive the measurement
        loop.close()

    many = in_batches(encode, size=size if order == ARRIVAL else None, order=order)
    return Stack(one=lambda text: encode([text]), many=many, packages=PACKAGES, vectors=encode, close=close)


if __name__ == "__main__":
    run(lambda job: measure_stack(load(job), job))
