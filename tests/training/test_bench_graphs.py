"""The bench's graphs of the tiny encoder against torch, and against each other."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

import training.bench_graphs
import training.cli
from eval.bench.branches_graphs import INDEX, Sizes, check_graphs, write_sizes
from eval.bench.branches_peft import load_models, read_torch
from retrieval_shared.adapters import LORA_A, LORA_B
from training.base_model import load_base_model
from training.bench_graphs import write_bench_graphs
from training.examples import HEADS

if TYPE_CHECKING:
    from retrieval_shared.bundle import Bundle

DIM, ATTENTION_HEADS = 32, 4
IDS = np.random.default_rng(1).integers(5, 120, (3, 9))
FEEDS = {"input_ids": IDS, "attention_mask": np.ones_like(IDS)}
BRANCHES = {**FEEDS, "branch_row": np.arange(3), "slot": np.array([1, 1, 1])}


@pytest.fixture(scope="module")
def folder(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graphs of the tiny bundle's encoder."""
    folder = tmp_path_factory.mktemp("bench")
    write_bench_graphs(tiny_bundle.path, folder)
    return folder


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def resident(graph: onnxruntime.InferenceSession, *, slots: int = 2) -> dict[str, NDArray[np.float32]]:
    """Random adapters in all slots but 0, and random heads."""
    sizes = {"slots": slots, "rank": 2, "heads": len(HEADS), "looks": len(HEADS) * ATTENTION_HEADS}
    rng = np.random.default_rng(2)
    found = {}
    for each in graph.get_inputs():
        if each.name.startswith(("lora_", "heads.")):
            found[each.name] = rng.standard_normal([sizes.get(n, n) for n in each.shape]).astype(np.float32) / 4
            if each.name.startswith("lora_"):
                found[each.name][0] = 0
    return found


def test_everything_is_there_and_says_whose_it_is(folder: Path, tiny_bundle: Bundle) -> None:
    sizes = check_graphs(folder, encoder=tiny_bundle.sha256("base.int8.bin"))
    assert sizes == Sizes(
        encoder=tiny_bundle.sha256("base.int8.bin"), layers=2, counts=(1, 2), served=1, rank=2, heads=len(HEADS),
        hidden=32, attention_heads=ATTENTION_HEADS, positions=320,
    )  # fmt: skip
    assert {path.name for path in folder.iterdir()} == {*sizes.files, INDEX}


def test_the_plain_graph_is_the_encoder_alone(folder: Path, tiny_bundle: Bundle) -> None:
    base = load_base_model(str(tiny_bundle.path))
    ids, mask = torch.from_numpy(IDS), torch.ones(IDS.shape, dtype=torch.int64)
    with torch.no_grad():
        expected = base.vector(ids, mask, base.model(input_ids=ids, attention_mask=mask).last_hidden_state)
    graph = session(folder / "plain.float32.onnx")
    assert [each.name for each in graph.get_inputs()] == ["input_ids", "attention_mask"]
    assert np.abs(graph.run(["vector"], FEEDS)[0] - expected.numpy()).max() < 1e-5
    (rounded,) = session(folder / "plain.int8.onnx").run(["vector"], FEEDS)
    assert (rounded * expected.numpy()).sum(1).min() > 0.99
    assert not any("lora" in node.name for node in onnx.load(str(folder / "plain.float32.onnx")).graph.node)


@pytest.mark.parametrize("m", [1, 2])
def test_slot_0_of_every_serving_graph_is_the_plain_graph(folder: Path, m: int) -> None:
    graph = session(folder / f"branches-{m}.float32.onnx")
    held = resident(graph)
    plain = session(folder / "plain.float32.onnx").run(["vector"], FEEDS)[0]
    base, adapted = (graph.run(["vector"], {**BRANCHES, "slot": np.full(3, k), **held})[0] for k in (0, 1))
    assert np.abs(base - plain).max() < 1e-5
    assert np.abs(adapted - plain).max() > 0.01
    assert len([name for name in held if name.startswith("lora_a")]) == 6 * m


@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_an_adapter_of_a_run_is_that_adapter_in_a_slot(folder: Path, tmp_path: Path, weights: str) -> None:
    graph, alone = session(folder / f"branches-1.{weights}.onnx"), session(folder / f"lora.{weights}.onnx")
    held = resident(graph)
    expected = graph.run(["vector"], {**BRANCHES, **held})[0]
    form = onnxruntime.AdapterFormat()
    form.set_parameters(
        {name: onnxruntime.OrtValue.ortvalue_from_numpy(held[name][1]) for name in held if name.startswith("lora_")}
    )
    form.export_adapter(str(tmp_path / "a.onnx_adapter"))
    adapter, options = onnxruntime.LoraAdapter(), onnxruntime.RunOptions()
    adapter.Load(str(tmp_path / "a.onnx_adapter"))
    options.add_active_adapter(adapter)
    assert np.abs(alone.run(["vector"], FEEDS, options)[0] - expected).max() < 1e-4
    assert np.abs(alone.run(["vector"], FEEDS)[0] - expected).max() > 0.01  # without it the matrices are zeros


def test_the_written_adapter_names_every_matrix_of_the_run(folder: Path) -> None:
    written = onnxruntime.AdapterFormat.read_adapter(str(folder / "region.onnx_adapter")).get_parameters()
    taken = session(folder / "lora.int8.onnx")._sess.overridable_initializers
    shapes = {each.name: list(each.shape) for each in taken if each.name.startswith((LORA_A, LORA_B))}
    assert {name: value.shape() for name, value in written.items()} == shapes
    assert len(shapes) == 12


def test_a_serving_graph_takes_any_number_of_heads(folder: Path) -> None:
    graph = session(folder / "branches-1.int8.onnx")
    held = resident(graph)
    outputs = ["logits", "attention"]
    logits, attention = graph.run(outputs, {**BRANCHES, **held})
    few = {
        name: value[: 3 * ATTENTION_HEADS if name == "heads.look" else 3] if name.startswith("heads.") else value
        for name, value in held.items()
    }
    found = graph.run(outputs, {**BRANCHES, **few})
    assert logits.shape == (3, len(HEADS))
    assert np.abs(found[0] - logits[:, :3]).max() < 1e-5
    assert np.abs(found[1] - attention[:, :3]).max() < 1e-6


def test_peft_reads_the_same_encoder(folder: Path, tiny_bundle: Bundle) -> None:
    """Its adapters begin at zero, so that each of them is the base."""
    plain, adapted = load_models(folder)
    base = load_base_model(str(tiny_bundle.path)).model
    expected = read_torch(base, IDS)
    assert torch.abs(read_torch(plain, IDS) - expected).max() < 1e-5
    assert torch.abs(read_torch(adapted, IDS, adapters=[1, 20, 3]) - expected).max() < 1e-5
    names = {name for name, _ in adapted.named_parameters() if ".lora_A.20." in name}
    assert len(names) == 6
    assert all(".layer.1." in name for name in names)  # the upper layer alone, as in the graph


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the graphs that were written by a stand-in."""
    found: list[str] = []
    for name in ("_write_plain", "_write_branches", "_write_lora"):
        monkeypatch.setattr(training.bench_graphs, name, lambda *_, name=name: found.append(name))
    return found


def test_what_is_there_stays(folder: Path, tiny_bundle: Bundle) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    write_bench_graphs(tiny_bundle.path, folder)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_graphs_of_another_encoder_are_replaced_and_nothing_else(
    tiny_bundle: Bundle, tmp_path: Path, written: list[str]
) -> None:
    sizes = write_bench_graphs(tiny_bundle.path, tmp_path)
    assert written == ["_write_plain", "_write_branches", "_write_branches", "_write_lora"]
    write_sizes(tmp_path, dataclasses.replace(sizes, encoder="of another", counts=(1, 3)))
    for name in ("plain.int8.onnx", "branches-3.float32.onnx", "region.onnx_adapter", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "peft").mkdir()
    write_bench_graphs(tiny_bundle.path, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {INDEX, "notes.txt"}
    assert check_index(tmp_path) == sizes


def check_index(folder: Path) -> Sizes | None:
    return training.bench_graphs.read_sizes(folder)


def test_the_command_names_bundle_and_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(training.cli, "write_bench_graphs", lambda bundle, out: asked.extend([bundle, out]))
    done = CliRunner().invoke(training.cli.app, ["bench-graphs", "--bundle", "other", "--out", str(tmp_path)])
    assert done.exit_code == 0
    assert asked == [Path("other"), tmp_path]
    assert "graphs ->" in done.output
