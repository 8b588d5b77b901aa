"""What the peers need before they are measured: their environments, and the graphs that are exported in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from eval.bench.environment import ENVIRONMENTS, FOLDER, ONNX, PEERS, Environment, prepare
from eval.bench.machine import Machine
from eval.bench.processes import Processes
from eval.peers.minilm import GRAPH
from eval.peers.quantised_sentence_transformers import configuration, graph_file

MINILM = FOLDER / "minilm"
QUANTISED = FOLDER / "minilm-int8"
EXPORT_TIMEOUT_S = 900


def prepare_peers(torch_index: str | None, progress: Callable[[str, int, int], None]) -> dict[Environment, Path]:
    """Return the interpreter of each of the peers' environments, which are made where they are missing.

    Raises:
        WardlineError: pip failed.
    """
    what, pythons = "the peers' environments", {}
    progress(what, 0, len(ENVIRONMENTS))
    for i, environment in enumerate(ENVIRONMENTS, 1):
        pythons[environment] = prepare(
            environment.folder, torch_index=torch_index, requirements=environment.requirements
        )  # fmt: skip
        progress(what, i, len(ENVIRONMENTS))
    return pythons


def export_peers(processes: Processes, machine: Machine, *, minilm: Path = MINILM, quantised: Path = QUANTISED) -> None:
    """Write the graphs that peers read, where they are missing or were made for another kind of processor.

    Raises:
        WardlineError: an export failed.
    """
    if not (minilm / GRAPH).is_file():
        processes.run("eval.peers.minilm", {"out": str(minilm)}, timeout_s=EXPORT_TIMEOUT_S, environment=PEERS)
    name = configuration(machine.flags)
    if not (quantised / graph_file(name)).is_file():
        processes.run(
            "eval.peers.quantised_sentence_transformers",
            {"out": str(quantised), "configuration": name},
            timeout_s=EXPORT_TIMEOUT_S,
            environment=ONNX,
        )
