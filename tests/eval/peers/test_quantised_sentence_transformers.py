from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from eval.peers.minilm import folder
from eval.peers.quantised_sentence_transformers import configuration, export, graph_file, load, main

if TYPE_CHECKING:
    from tests.eval.peers.conftest import FakeSentenceTransformer


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("avx2", "avx512f", "avx512_vnni"), "avx512_vnni"),
        (("avx2", "avx512f"), "avx512"),
        (("avx2",), "avx2"),
        (("asimddp", "i8mm"), "arm64"),
        ((), "avx2"),
    ],
)
def test_the_quantisation_is_the_best_made_for_the_processor(flags: tuple[str, ...], expected: str) -> None:
    assert configuration(flags) == expected


@pytest.fixture
def quantiser(monkeypatch: pytest.MonkeyPatch, sentence_transformers: list[FakeSentenceTransformer]) -> list[str]:
    """The configurations that were asked for; `broken` fails."""
    asked: list[str] = []

    def quantise(model: Any, name: str, out: str) -> None:
        assert model is sentence_transformers[-1]
        asked.append(name)
        if name == "broken":
            raise RuntimeError("no such processor")
        (Path(out) / graph_file(name)).write_bytes(b"int8")

    package = sys.modules["sentence_transformers"]
    monkeypatch.setattr(package, "export_dynamic_quantized_onnx_model", quantise, raising=False)
    return asked


@pytest.mark.usefixtures("torch_threads")
def test_the_graph_is_exported_from_the_packaged_weights_and_takes_an_older_ones_place(
    quantiser: list[str], sentence_transformers: list[FakeSentenceTransformer], tmp_path: Path
) -> None:
    out = tmp_path / "int8"
    assert export({"out": str(out), "configuration": "avx2"}) == {"bytes": 4}
    main({"out": str(out), "configuration": "avx512"})
    assert quantiser == ["avx2", "avx512"]
    model = sentence_transformers[0]
    assert (model.path, model.settings["backend"]) == (str(folder()), "onnx")
    assert model.settings["model_kwargs"] == {"export": True}
    assert [path.name for path in out.glob(graph_file("*"))] == ["model_qint8_avx512.onnx"]
    assert [path.name for path in tmp_path.iterdir()] == ["int8"]


@pytest.mark.usefixtures("torch_threads", "quantiser")
def test_an_export_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "int8"
    export({"out": str(out), "configuration": "avx2"})
    with pytest.raises(RuntimeError, match="no such processor"):
        export({"out": str(out), "configuration": "broken"})
    assert (out / graph_file("avx2")).is_file()


@pytest.mark.usefixtures("quantiser")
def test_the_exported_graph_is_read_on_one_thread(
    sentence_transformers: list[FakeSentenceTransformer], torch_threads: list[int], tmp_path: Path
) -> None:
    out = tmp_path / "int8"
    export({"out": str(out), "configuration": "avx2"})
    load({"quantised": str(out), "batch_size": 2, "order": "arrival"}).many(["bb", "a", "dddd"])
    model = sentence_transformers[-1]
    assert (model.path, model.settings["backend"]) == (str(out), "onnx")
    given = model.settings["model_kwargs"]
    assert (given["file_name"], given["provider"]) == (graph_file("avx2"), "CPUExecutionProvider")
    assert given["session_options"].intra_op_num_threads == 1
    assert [texts for texts, _ in model.calls] == [["bb", "a"], ["dddd"]]
    assert set(torch_threads) == {1}
