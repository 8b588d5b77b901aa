from __future__ import annotations

import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from eval.peers.infinity_engine import load
from eval.peers.minilm import folder

TEXTS = ["bb", "a", "dddd", "ccc"]


class FakeEngine:
    """Gives every text its length; keeps what it was asked."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.running = False
        self.calls: list[list[str]] = []

    def from_args(self, settings: dict[str, Any]) -> FakeEngine:
        self.settings = settings
        return self

    async def astart(self) -> None:
        self.running = True

    async def astop(self) -> None:
        self.running = False

    async def embed(self, *, sentences: Sequence[str]) -> tuple[list[Any], int]:
        assert self.running
        self.calls.append(list(sentences))
        return [np.array([len(text), 1.0], dtype=np.float32) for text in sentences], 0


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    made = FakeEngine()
    package = SimpleNamespace(AsyncEmbeddingEngine=made, EngineArgs=lambda **settings: settings)
    monkeypatch.setitem(sys.modules, "infinity_emb", package)
    return made


def test_the_torch_engine_reads_the_local_folder_on_one_thread_and_is_stopped(
    engine: FakeEngine, torch_threads: list[int]
) -> None:
    stack = load({"batch_size": 2})
    assert stack.close is not None
    assert engine.running
    stack.close()
    assert not engine.running
    assert engine.settings["model_name_or_path"] == str(folder())
    assert [engine.settings[name] for name in ("engine", "device", "batch_size")] == ["torch", "cpu", 2]
    assert engine.settings["trust_remote_code"] is False
    assert torch_threads == [1]


@pytest.mark.usefixtures("torch_threads")
@pytest.mark.parametrize(
    ("order", "calls"),
    [("arrival", [["bb", "a"], ["dddd", "ccc"]]), ("sorted", [["dddd", "ccc", "bb", "a"]])],
)
def test_its_queue_gets_a_batch_at_a_time_or_all_texts_sorted(
    engine: FakeEngine, order: str, calls: list[list[str]]
) -> None:
    stack = load({"batch_size": 2, "order": order})
    found: Any = stack.many(TEXTS)
    assert stack.close is not None
    stack.close()
    assert engine.calls == calls
    assert found[:, 0].tolist() == [2, 1, 4, 3]
