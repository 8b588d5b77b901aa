"""sentence-transformers as its README shows it: `encode` of the float32 MiniLM; it sorts what one call holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eval.peers.measure import Job, Stack, measure_stack, run
from eval.peers.minilm import folder
from eval.peers.orders import ARRIVAL, SORTED, in_batches

PACKAGES = ("sentence-transformers", "torch", "transformers", "tokenizers", "numpy")


def load(job: Job) -> Stack:
    """Return the stack; `batch_size` texts go into one run, in the `order` of the job (`sorted` if it names none)."""
    import torch
    from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found,unused-ignore]

    torch.set_num_threads(1)
    return stack_of(SentenceTransformer(str(folder()), device="cpu"), job, packages=PACKAGES)


def stack_of(model: Any, job: Job, *, packages: tuple[str, ...]) -> Stack:  # noqa: ANN401 - a SentenceTransformer
    """Return the stack of a loaded model.

    In arrival order it is called with one batch at a time; sorted, once with all texts, which it then sorts itself.
    """
    size, order = int(job["batch_size"]), str(job.get("order", SORTED))

    def encode(texts: Sequence[str]) -> Any:  # noqa: ANN401 - float32 [n, d]
        return model.encode(list(texts), batch_size=size, show_progress_bar=False, normalize_embeddings=True)

    many = in_batches(encode, size=size, order=ARRIVAL) if order == ARRIVAL else encode
    return Stack(one=lambda text: encode([text]), many=many, packages=packages, vectors=encode)


if __name__ == "__main__":
    run(lambda job: measure_stack(load(job), job))
