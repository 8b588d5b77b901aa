"""Graphs that show what adapters cost, all of one bundle's encoder; `eval.bench.branches` measures them.

Their adapters and heads are random: a run costs the same whatever the values are.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime
import structlog
import torch
from peft import get_peft_model
from torch import Tensor, nn

from eval.bench.branches_graphs import (
    ADAPTER,
    HUGGING_FACE,
    INDEX,
    LORA,
    PEFT,
    PLAIN,
    Sizes,
    branches,
    graph_file,
    read_sizes,
    write_sizes,
)
from eval.bench.stacks import FLOAT32, INT8
from retrieval_shared.bundle import CONFIG, read_manifest
from retrieval_shared.torch_encoder import SlotEncoder, from_hugging_face
from retrieval_shared.torch_rows import mean_pool
from training.adapter import lora_config, read_matrices
from training.base_model import BaseModel, load_base_model, round_to_int8
from training.bench_surgery import free_heads, one_adapter_per_run
from training.config import AdapterConfig
from training.export import OUTPUTS, ServingGraph, StatesGraph, export_onnx, quantise
from training.heads import FoldedHeads, PooledHeads
from training.pooling import pooling_block

log = structlog.get_logger()

MOST_LAYERS = 3
"""Serving graphs are made for this many upper layers and fewer, and for the bundle's own number."""
_PART = "part.onnx"

Change = Callable[[onnx.ModelProto], None]


class PlainGraph(nn.Module):
    """The encoder alone: every layer once per text, no slots, no heads."""

    def __init__(self, encoder: SlotEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the unit vectors `[b, d]`."""
        transformer = mean_pool(self.encoder.trunk(input_ids, attention_mask), attention_mask)
        if self.encoder.paths is None:
            return transformer
        return self.encoder.paths.join(transformer, self.encoder.static(input_ids, attention_mask))


@dataclass(frozen=True)
class BenchGraphs:
    """What the graphs are made from, and where they go."""

    base: BaseModel
    """The bundle's encoder, rounded."""
    sizes: Sizes
    folder: Path


def write_bench_graphs(bundle: Path, out: Path) -> Sizes:
    """Write the graphs of a bundle's encoder, unless they are there, and return what they were made with.

    What an earlier bundle's encoder left in `out` is replaced.

    Raises:
        BundleError: the bundle is missing or malformed.
        ValueError: its encoder cannot be read back (`shipped_base`).
    """
    heads = len(read_manifest(bundle).heads)
    base = load_base_model(str(bundle))
    round_to_int8(base)
    work = BenchGraphs(base, _sizes(bundle, base, heads=heads), out)
    out.mkdir(parents=True, exist_ok=True)
    if (found := read_sizes(out)) != work.sizes:
        _remove(out, found)
        write_sizes(out, work.sizes)
    torch.manual_seed(0)
    _write_plain(work)
    for m in work.sizes.counts:
        _write_branches(work, m)
    _write_lora(work)
    return work.sizes


def _sizes(bundle: Path, base: BaseModel, *, heads: int) -> Sizes:
    own = json.loads((bundle / CONFIG).read_text(encoding="utf-8"))["config"]
    adapter = own["adapter"]
    config = base.model.config
    layers = int(config.num_hidden_layers)  # type: ignore[union-attr, arg-type]
    return Sizes(
        encoder=base.sha256,
        layers=layers,
        counts=tuple(sorted({*range(1, min(MOST_LAYERS, layers) + 1), adapter["layers"]})),
        served=adapter["layers"],
        rank=adapter["rank"],
        heads=heads,
        hidden=own["heads"]["hidden"],
        attention_heads=int(config.num_attention_heads),  # type: ignore[union-attr, arg-type]
        positions=base.max_tokens,
    )


def _remove(folder: Path, sizes: Sizes | None) -> None:
    """Remove the graphs that an index names; without one there may be halves of any that are made now."""
    (folder / INDEX).unlink(missing_ok=True)
    for name in sizes.files if sizes else ():
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _write_plain(work: BenchGraphs) -> None:
    _write_graph(work.folder, PLAIN, lambda: PlainGraph(_encoder(work, branch_layers=0)), ["vector"])


def _write_branches(work: BenchGraphs, m: int) -> None:
    def module() -> nn.Module:
        heads = PooledHeads(pooling_block(work.base.model), work.sizes.heads, hidden=work.sizes.hidden)
        return ServingGraph(_encoder(work, branch_layers=m), FoldedHeads(heads))

    _write_graph(work.folder, branches(m), module, OUTPUTS, change=free_heads)


def _write_lora(work: BenchGraphs) -> None:
    """Write the alternatives: one adapter per run for ONNX Runtime, and encoder and adapter for PEFT."""
    m, rank, folder = work.sizes.served, work.sizes.rank, work.folder
    _write_graph(
        folder, LORA, lambda: StatesGraph(_encoder(work, branch_layers=m)), ["states", "vector"],
        change=lambda model: one_adapter_per_run(model, rank=rank),
    )  # fmt: skip
    if not (folder / HUGGING_FACE).is_dir():
        part = folder / f"{HUGGING_FACE}.part"
        work.base.model.save_pretrained(str(part))  # type: ignore[operator]
        part.rename(folder / HUGGING_FACE)
    if not (folder / PEFT).is_dir():
        part = folder / f"{PEFT}.part"
        model = copy.deepcopy(work.base.model)
        get_peft_model(model, lora_config(AdapterConfig(layers=m, rank=rank, alpha=2 * rank), model)).save_pretrained(
            str(part)
        )
        part.rename(folder / PEFT)
    if not (folder / ADAPTER).is_file():
        paths = _encoder(work, branch_layers=m).lora_paths().values()
        matrices = read_matrices(folder / PEFT, list(paths))
        written = onnxruntime.AdapterFormat()
        written.set_adapter_version(1)
        written.set_model_version(1)
        written.set_parameters({name: onnxruntime.OrtValue.ortvalue_from_numpy(v) for name, v in matrices.items()})
        written.export_adapter(str(folder / ADAPTER))


def _encoder(work: BenchGraphs, *, branch_layers: int) -> SlotEncoder:
    """Return the encoder, its upper layers with one slot at zero."""
    return from_hugging_face(
        work.base.model, [{}], rank=work.sizes.rank, branch_layers=branch_layers, two_paths=work.base.two_paths
    )


def _write_graph(
    folder: Path, name: str, module: Callable[[], nn.Module], outputs: tuple[str, ...] | list[str],
    *, change: Change | None = None,
) -> None:  # fmt: skip
    """Write a graph in float32 and in int8; a file that is there is whole, and stays."""
    plain, int8, part = folder / graph_file(name, FLOAT32), folder / graph_file(name, INT8), folder / _PART
    if not plain.is_file():
        export_onnx(module(), part, outputs)
        if change is not None:
            model = onnx.load(str(part))
            change(model)
            part.write_bytes(model.SerializeToString())
        os.replace(part, plain)
    if not int8.is_file():
        quantise(plain, part)
        os.replace(part, int8)
    log.info("graph", name=name, float32=plain.stat().st_size, int8=int8.stat().st_size)
