from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eval.adapter_record import adapter_record


def bundle(folder: Path, record: object) -> Any:
    (folder / "training.json").write_text(json.dumps(record), encoding="utf-8")
    return SimpleNamespace(file=lambda name: folder / name)


def test_what_was_recorded_is_returned_and_nothing_else(tmp_path: Path) -> None:
    record = {
        "fit": {"hate": {"pass": 2}},
        "regions": {"region:ID": {"shipped": True}},
        "parity": {"peft_max_abs": 0.0},
    }
    assert adapter_record(bundle(tmp_path, record | {"config": {}})) == record


def test_an_older_bundle_records_nothing(tmp_path: Path) -> None:
    assert adapter_record(bundle(tmp_path, {"config": {}})) == {"fit": {}, "regions": {}, "parity": {}}


@pytest.mark.parametrize("name", ["fit", "regions", "parity"])
def test_a_record_of_another_form_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}: found a list in training\.json"):
        adapter_record(bundle(tmp_path, {name: []}))
