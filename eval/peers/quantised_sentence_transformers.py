"""sentence-transformers with its ONNX backend and its own dynamic int8 of the MiniLM weights, as its pages tell it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from eval.peers.measure import Figures, Job, Stack, measure_stack, run
from eval.peers.minilm import folder
from eval.peers.plain_sentence_transformers import stack_of

PACKAGES = ("sentence-transformers", "optimum-onnx", "onnxruntime", "transformers", "tokenizers", "numpy")
CONFIGURATIONS = {"avx512_vnni": "avx512_vnni", "avx512f": "avx512", "asimddp": "arm64"}
"""Flag of the processor -> the configuration that is made for it; the best first."""
PLAIN = "avx2"
"""The configuration where there is no such flag."""


def configuration(flags: Collection[str]) -> str:
    """Return the configuration of `export_dynamic_quantized_onnx_model` that is made for a processor."""
    return next((name for flag, name in CONFIGURATIONS.items() if flag in flags), PLAIN)


def graph_file(name: str) -> str:
    """Return the path within its folder that the exporter gives the graph of a configuration."""
    return f"onnx/model_qint8_{name}.onnx"


def export(job: Job) -> Figures:
    """Write the quantised model into the folder `out` of the job, for its `configuration`."""
    import torch
    from sentence_transformers import (  # type: ignore[import-not-found,unused-ignore]
        SentenceTransformer,
        export_dynamic_quantized_onnx_model,
    )

    torch.set_num_threads(1)
    out, name = Path(job["out"]), str(job["configuration"])
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    model = SentenceTransformer(str(folder()), device="cpu", backend="onnx", model_kwargs={"export": True})
    model.save_pretrained(str(part))
    export_dynamic_quantized_onnx_model(model, name, str(part))
    size = (part / graph_file(name)).stat().st_size
    shutil.rmtree(out, ignore_errors=True)
    os.replace(part, out)  # last: a folder that is there is whole
    return {"bytes": size}


def load(job: Job) -> Stack:
    """Return the stack; `batch_size` texts go into one run, in the `order` of the job.

    Args:
        job: besides these, `quantised`, the folder that `export` wrote.
    """
    import onnxruntime
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)  # the mean over tokens is torch's
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    quantised = Path(job["quantised"])
    (graph,) = quantised.glob(graph_file("*"))
    given: dict[str, Any] = {
        "file_name": str(graph.relative_to(quantised)),
        "provider": "CPUExecutionProvider",
        "session_options": options,
    }
    model = SentenceTransformer(str(quantised), device="cpu", backend="onnx", model_kwargs=given)
    return stack_of(model, job, packages=PACKAGES)


def main(job: Job) -> Figures:
    """Return what the job asks for: the export where it names `out`, else the figures."""
    return export(job) if "out" in job else measure_stack(load(job), job)


if __name__ == "__main__":
    run(main)
