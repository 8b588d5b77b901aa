"""Anything a report may hold becomes JSON; nothing else slips through."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from eval.document import plain, read_json, write_json


@dataclass(frozen=True)
class Pair:
    """A made-up dataclass."""

    low: float
    high: float


def test_every_kind_of_value() -> None:
    value = {
        "pair": Pair(0.123456789, float("nan")), "array": np.array([[1.0, np.inf]]), "scalar": np.float32(0.5),
        "flag": np.bool_(True), "count": np.int64(3), "none": None, "list": (1, "a"), 5: True,
    }  # fmt: skip
    assert plain(value) == {
        "pair": {"low": 0.12346, "high": None}, "array": [[1.0, None]], "scalar": 0.5,
        "flag": True, "count": 3, "none": None, "list": [1, "a"], "5": True,
    }  # fmt: skip


def test_what_has_no_json_form_is_refused() -> None:
    with pytest.raises(ValueError, match="found a set"):
        plain({"a": {1}})


def test_a_document_comes_back_and_no_part_stays(tmp_path: Path) -> None:
    file = tmp_path / "new" / "a.json"
    write_json(file, {"text": "straße 🔫", "value": 0.5})
    assert read_json(file) == {"text": "straße 🔫", "value": 0.5}
    assert [entry.name for entry in file.parent.iterdir()] == ["a.json"]


def test_missing_and_wrong_documents_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found no file"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match="found a list"):
        read_json(tmp_path / "a.json")
