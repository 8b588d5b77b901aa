"""Each text reaches the model once, in this run and the next; order is kept; nonsense is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from eval import scores as module
from eval.scores import Scorer


class Counting:
    """A model whose score is the length of the text."""

    heads = ("length", "constant")

    def __init__(self, *, fault: str = "") -> None:
        self.seen: list[str] = []
        self.fault = fault

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        self.seen += texts
        values = np.array([[len(text) / 100, 0.5] for text in texts], dtype=np.float32)
        if self.fault == "nan":
            values[0, 0] = np.nan
        return values[:, :1] if self.fault == "shape" else values


def test_order_is_kept_and_repeats_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    model = Counting()
    scorer = Scorer(model, identity="a")
    texts = ["aa", "a", "", "aaaa", "a", "🔫"]
    assert scorer(texts)[:, 0] == pytest.approx([0.02, 0.01, 0.0, 0.04, 0.01, 0.01])
    assert sorted(model.seen) == sorted(set(texts))
    scorer(texts[::-1])
    assert len(model.seen) == 5
    assert model.seen[0] == "aaaa", "long texts first"


def test_no_texts() -> None:
    assert Scorer(Counting(), identity="a")([]).shape == (0, 2)


def test_the_next_run_finds_the_scores_but_not_those_of_other_weights(tmp_path: Path) -> None:
    first = Scorer(Counting(), identity="a", folder=tmp_path)(["one", "two \ud800"])
    model, other = Counting(), Counting()
    assert np.array_equal(Scorer(model, identity="a", folder=tmp_path)(["one", "two \ud800"]), first)
    assert model.seen == []
    Scorer(other, identity="b", folder=tmp_path)(["one"])
    assert other.seen == ["one"]
    assert not list(tmp_path.glob("*.part*"))


def test_the_folder_holds_no_text(tmp_path: Path) -> None:
    Scorer(Counting(), identity="a", folder=tmp_path)(["a secret text"])
    [file] = tmp_path.iterdir()
    assert b"secret" not in file.read_bytes()


def test_progress_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    told: list[tuple[str, int, int]] = []
    scorer = Scorer(Counting(), identity="a", progress=lambda *args: told.append(args))
    scorer(["a", "b", "c"], what="dev")
    assert told == [("dev", 2, 3), ("dev", 3, 3)]


@pytest.mark.parametrize(("fault", "message"), [("nan", "outside 0 to 1 or NaN"), ("shape", r"found shape \(1, 1\)")])
def test_nonsense_from_a_model_is_refused(fault: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scorer(Counting(fault=fault), identity="a")(["a"])
