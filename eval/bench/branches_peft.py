"""PEFT in torch: rows under several adapters by `adapter_names`, beside the same rows in our graph, in one process."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.bench.branches_batching import token_rows
from eval.bench.branches_graphs import HUGGING_FACE, PEFT, PLAIN, LoadedGraph, branches, check_graphs
from eval.bench.branches_groups import BATCH, TOKENS, mixed
from eval.bench.branches_rounds import Allowance, Group, Task
from eval.bench.stacks import FLOAT32
from eval.peers.measure import Figures, Job, run, versions
from retrieval_shared.bundle import BASE_WEIGHTS, load_bundle
from retrieval_shared.onnx_encoder import OnnxEncoder

ROWS = (8, 32)
"""Texts of a batch."""
PACKAGES = ("torch", "peft", "transformers", "onnxruntime")


def measure(job: Job) -> Figures:
    """Return seconds of processor time of each task in each round; every row has an adapter of its own, up to 20.

    Args:
        job: `bundle`, `graphs` (their folder), `ads` (single texts), `rounds`, `peft_limit_s` (seconds for all rounds).
    """
    import torch

    torch.set_num_threads(1)
    bundle = load_bundle(job["bundle"])
    folder = Path(job["graphs"])
    sizes = check_graphs(folder, encoder=bundle.sha256(BASE_WEIGHTS))
    rows = token_rows(OnnxEncoder(bundle, threads=1), job["ads"])
    stream = np.array([token for row in rows for token in row], dtype=np.int64)
    plain = LoadedGraph(folder, PLAIN, FLOAT32, sizes)
    served = LoadedGraph(folder, branches(sizes.served), FLOAT32, sizes).holding(slots=1 + BATCH)
    torch_plain, torch_adapted = load_models(folder)
    tasks: dict[str, Task] = {}
    for n in ROWS:
        ids = np.resize(stream, (n, TOKENS))
        slots = mixed(n, min(n, BATCH))
        tasks |= {
            f"torch_plain_{n}": partial(read_torch, torch_plain, ids),
            f"torch_mixed_{n}": partial(read_torch, torch_adapted, ids, adapters=slots),
            f"ours_plain_{n}": partial(plain.read, ids),
            f"ours_mixed_{n}": partial(served.read, ids, slots=slots),
        }
    times = Allowance(job["peft_limit_s"], groups=1, rounds=job["rounds"]).time(Group("peft", tasks))
    return {"times": times, "versions": versions(PACKAGES)}


def load_models(folder: Path) -> tuple[Any, Any]:
    """Return the encoder as transformers reads it, and another with `BATCH` adapters named `1`, `2`, ..."""
    from peft import PeftModel
    from transformers import AutoModel

    def load() -> Any:  # noqa: ANN401 - a transformers model
        return AutoModel.from_pretrained(str(folder / HUGGING_FACE), add_pooling_layer=False).eval()

    adapted = PeftModel.from_pretrained(load(), str(folder / PEFT), adapter_name="1")
    for number in range(2, 1 + BATCH):
        adapted.load_adapter(str(folder / PEFT), str(number))
    return load(), adapted.eval()


def read_torch(model: Any, ids: NDArray[np.int64], *, adapters: list[int] | None = None) -> Any:  # noqa: ANN401 - of torch
    """Return the token states `[b, t, d]`, each row under its adapter (None: there are none)."""
    import torch

    given = {} if adapters is None else {"adapter_names": [str(number) for number in adapters]}
    with torch.inference_mode():
        tensor = torch.from_numpy(ids)
        return model(input_ids=tensor, attention_mask=torch.ones_like(tensor), **given).last_hidden_state


if __name__ == "__main__":
    run(measure)
