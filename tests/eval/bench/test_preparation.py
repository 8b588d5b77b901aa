from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eval.bench import preparation
from eval.bench.environment import ENVIRONMENTS, ONNX, PEERS
from eval.bench.machine import Machine
from eval.bench.preparation import export_peers, prepare_peers
from eval.peers.minilm import GRAPH
from eval.peers.quantised_sentence_transformers import graph_file

VNNI = Machine("Some Processor", 2, ("avx2", "avx512f", "avx512_vnni"), 24.0, "Linux x86_64", "3.11.7", None)
PLAIN = Machine("Another", 2, ("avx2",), 24.0, "Linux x86_64", "3.11.7", None)


class Exporting:
    """Stands in for the processes: writes what a peer would, and notes who was asked."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, object]] = []

    def run(self, module: str, job: dict[str, Any], *, timeout_s: float, environment: object) -> None:
        assert timeout_s > 0
        self.runs.append((module, environment))
        graph = Path(job["out"]) / (graph_file(job["configuration"]) if "configuration" in job else GRAPH)
        graph.parent.mkdir(parents=True, exist_ok=True)
        graph.touch()


def test_every_environment_is_made_and_named_by_its_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Path, str | None]] = []

    def prepare(folder: Path, *, torch_index: str | None, requirements: Path) -> Path:
        assert requirements.is_file()
        asked.append((folder, torch_index))
        return folder / "bin" / "python"

    seen: list[tuple[str, int, int]] = []
    monkeypatch.setattr(preparation, "prepare", prepare)
    pythons = prepare_peers("https://cpu.example/simple", lambda *call: seen.append(call))
    assert asked == [(each.folder, "https://cpu.example/simple") for each in ENVIRONMENTS]
    assert pythons == {each: each.folder / "bin" / "python" for each in ENVIRONMENTS}
    assert [call[1:] for call in seen] == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_graphs_are_exported_once_and_the_quantised_one_again_for_another_processor(tmp_path: Path) -> None:
    processes: Any = Exporting()
    folders = {"minilm": tmp_path / "minilm", "quantised": tmp_path / "int8"}
    export_peers(processes, VNNI, **folders)
    both = [("eval.peers.minilm", PEERS), ("eval.peers.quantised_sentence_transformers", ONNX)]
    assert processes.runs == both
    export_peers(processes, VNNI, **folders)
    assert processes.runs == both
    export_peers(processes, PLAIN, **folders)
    assert processes.runs == [*both, both[1]]
