"""Stand-ins for the packages that only the peers' environments hold."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest


class FakeSentenceTransformer:
    """Gives every text its length; keeps how it was made and called."""

    made: list[FakeSentenceTransformer]

    def __init__(self, path: str, **settings: Any) -> None:
        self.path = path
        self.settings = settings
        self.calls: list[tuple[list[str], dict[str, Any]]] = []
        self.made.append(self)

    def encode(self, texts: Sequence[str], **settings: Any) -> Any:
        self.calls.append((list(texts), settings))
        return np.array([[len(text), 0.0] for text in texts], dtype=np.float32)

    def save_pretrained(self, folder: str) -> None:
        (Path(folder) / "onnx").mkdir(parents=True)
        (Path(folder) / "onnx" / "model.onnx").write_bytes(b"float32")


@pytest.fixture
def sentence_transformers(monkeypatch: pytest.MonkeyPatch) -> list[FakeSentenceTransformer]:
    """The models that were made, in order."""
    made: list[FakeSentenceTransformer] = []
    monkeypatch.setattr(FakeSentenceTransformer, "made", made, raising=False)
    package = SimpleNamespace(SentenceTransformer=FakeSentenceTransformer)
    monkeypatch.setitem(sys.modules, "sentence_transformers", package)
    return made


@pytest.fixture
def torch_threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What torch was told about its threads."""
    import torch

    told: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    return told
