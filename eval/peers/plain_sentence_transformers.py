"""sentence-transformers as its README shows it: `encode` of the float32 MiniLM, 32 texts a batch, sorted by length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eval.peers.measure import Job, Stack, measure_stack, run
from eval.peers.minilm import folder

PACKAGES = ("sentence-transformers", "torch", "transformers", "tokenizers", "numpy")


def load(job: Job) -> Stack:
    """Return the stack; `batch_size` texts of the job go into one run."""
    import torch
    from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found,unused-ignore]

    torch.set_num_threads(1)
    model = SentenceTransformer(str(folder()), device="cpu")
    size = int(job["batch_size"])

    def encode(texts: Sequence[str]) -> Any:  # noqa: ANN401 - float32 [n, d]
        return model.encode(list(texts), batch_size=size, show_progress_bar=False, normalize_embeddings=True)

    return Stack(one=lambda text: encode([text]), many=encode, packages=PACKAGES, vectors=encode)


if __name__ == "__main__":
    run(lambda job: measure_stack(load(job), job))
