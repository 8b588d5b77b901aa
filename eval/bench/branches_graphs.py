"""The graphs that show what adapters cost: what lies in their folder, and one of them loaded.

    runs/bench/
    ├── graphs.json                           sizes, and whose encoder it is
    ├── plain.int8.onnx, plain.float32.onnx   the encoder alone: no slots, no heads
    ├── branches-1.int8.onnx, ...             what is served, with the upper 1, 2 or 3 layers above the trunk
    ├── lora.int8.onnx, ...                   one adapter per run, as ONNX Runtime swaps them
    ├── region.onnx_adapter                   such an adapter
    └── hugging_face/, peft/                  the encoder and the same adapter for PEFT

`training.bench_graphs` writes them.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from eval.bench.stacks import FLOAT32, INT8
from retrieval_shared.errors import WardlineError

FOLDER = Path("runs/bench")
COMMAND = "python wardline.py train bench-graphs"
INDEX = "graphs.json"
PLAIN, LORA = "plain", "lora"
ADAPTER, HUGGING_FACE, PEFT = "region.onnx_adapter", "hugging_face", "peft"
WEIGHTS = (INT8, FLOAT32)
HEADS_AXIS, LOOKS_AXIS = "heads", "looks"
"""Free axes of a serving graph's heads: their number H, and H times the attention heads."""
ROWS_INPUT, SLOT_INPUT = "branch_row", "slot"
SPREAD = 0.02
"""Of random matrices: about that of trained ones, so that nothing overflows."""


@dataclass(frozen=True)
class Sizes:
    """What the graphs in a folder were made with."""

    encoder: str
    """Sha256 of the base weights."""
    layers: int
    """Blocks L of the encoder."""
    counts: tuple[int, ...]
    """Numbers m of upper layers for which there is a serving graph."""
    served: int
    """The bundle's own m, one of them."""
    rank: int
    """LoRA rank r."""
    heads: int
    """The bundle's heads H."""
    hidden: int
    """Width of a head's inner layer."""
    attention_heads: int
    """Attention heads of a block."""
    positions: int
    """Longest token sequence."""

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the graphs, each of which lies there in both weights."""
        return (PLAIN, *(branches(m) for m in self.counts), LORA)

    @property
    def files(self) -> tuple[str, ...]:
        """Return what the folder holds beside the index: files, and folders."""
        graphs = (graph_file(name, weights) for name in self.names for weights in WEIGHTS)
        return (*graphs, ADAPTER, HUGGING_FACE, PEFT)


def branches(m: int) -> str:
    """Return the name of the serving graph with the upper m layers above the trunk."""
    return f"branches-{m}"


def graph_file(name: str, weights: str) -> str:
    """Return the name of a graph's file."""
    return f"{name}.{weights}.onnx"


def read_sizes(folder: Path) -> Sizes | None:
    """Return what the index of a folder says; None where there is none, or one of another form."""
    try:
        document = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        return Sizes(**{**document, "counts": tuple(document["counts"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_sizes(folder: Path, sizes: Sizes) -> None:
    """Write the index of a folder."""
    (folder / INDEX).write_text(json.dumps(dataclasses.asdict(sizes), indent=2) + "\n", encoding="utf-8")


def check_graphs(folder: Path, *, encoder: str) -> Sizes:
    """Return the sizes of the graphs in a folder, all of which are there.

    Args:
        folder: theirs.
        encoder: sha256 of the base weights they must have been made from.

    Raises:
        WardlineError: some are missing, or they are of another encoder; the message names the command that writes them.
    """
    sizes = read_sizes(folder)
    missing = [INDEX] if sizes is None else [name for name in sizes.files if not (folder / name).exists()]
    if sizes is None or missing:
        raise WardlineError(f"graphs in {folder}: found no {missing[0]}; `{COMMAND}` writes it")
    if sizes.encoder != encoder:
        raise WardlineError(
            f"graphs in {folder}: found those of base weights {sizes.encoder[:12]}, the bundle has {encoder[:12]}; "
            f"`{COMMAND}` writes them anew"
        )
    return sizes


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """Return a graph in a session of its own on one thread, with the options that serving takes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class LoadedGraph:
    """One of the graphs in a session, with random adapters and heads of the sizes it was made with."""

    def __init__(self, folder: Path, name: str, weights: str, sizes: Sizes) -> None:
        self._session = open_session(folder / graph_file(name, weights))
        self._sizes = sizes
        self._resident: dict[str, NDArray[np.float32]] = {}
        self._fed = {each.name for each in self._session.get_inputs()}

    def holding(self, *, slots: int, heads: int | None = None) -> LoadedGraph:
        """Return the same session with so many random slots, the base's included, and heads (None: the bundle's)."""
        n = self._sizes.heads if heads is None else heads
        axes = {"slots": slots, "rank": self._sizes.rank, HEADS_AXIS: n, LOOKS_AXIS: n * self._sizes.attention_heads}
        rng = np.random.default_rng(slots)
        other = copy.copy(self)
        other._resident = {
            each.name: (SPREAD * rng.standard_normal([axes.get(size, size) for size in each.shape])).astype(np.float32)
            for each in self._session.get_inputs()
            if each.name.startswith(("lora_", "heads."))
        }
        return other

    def read(
        self,
        ids: NDArray[np.int64],
        *,
        mask: NDArray[np.int64] | None = None,
        rows: Sequence[int] | None = None,
        slots: Sequence[int] | None = None,
        outputs: Sequence[str] = ("vector",),
        options: onnxruntime.RunOptions | None = None,
    ) -> list[NDArray[np.float32]]:
        """Return outputs of one run.

        Args:
            ids: int64 `[b, t]`.
            mask: int64 `[b, t]`, 1 = token; None: no padding.
            rows: the text of each of n branches; None: one branch per text.
            slots: the slot of each branch; None: slot 0.
            outputs: names of the outputs asked for; no others are computed.
            options: of the run.
        """
        chosen = list(range(len(ids))) if rows is None else list(rows)
        feeds: dict[str, NDArray[Any]] = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids) if mask is None else mask,
            ROWS_INPUT: np.array(chosen, dtype=np.int64),
            SLOT_INPUT: np.zeros(len(chosen), dtype=np.int64) if slots is None else np.array(slots, dtype=np.int64),
        }
        options = options or onnxruntime.RunOptions()
        options.only_execute_path_to_fetches = True
        fed = {name: value for name, value in feeds.items() if name in self._fed}
        found: list[NDArray[np.float32]] = self._session.run(list(outputs), {**fed, **self._resident}, options)
        return found
