"""A bundle's record of its encoder's training: read whole, refused in part, missing in older bundles."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eval.training_record import training_record
from retrieval_shared.bundle import ENCODER_RECORD

RECORD: dict[str, Any] = {
    "config": {"seed": 1},
    "data": {"sentences": 2, "pairs": 1, "sha256": "a", "languages": {"de": 1}, "sources": {"x": 1}},
    "teacher": {"name": "t", "sha256": "b"},
    "curves": [{"stage": "s", "steps": 3, "points": [[3, 0.5]]}],
}


def read(folder: Path, record: Any) -> Any:
    (folder / ENCODER_RECORD).write_text(json.dumps(record), encoding="utf-8")
    return training_record(SimpleNamespace(path=folder))  # type: ignore[arg-type]


def test_a_record_is_read_and_an_older_bundle_has_none(tmp_path: Path) -> None:
    assert training_record(SimpleNamespace(path=tmp_path)) is None  # type: ignore[arg-type]
    assert read(tmp_path, RECORD) == RECORD


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": None}, "config: found nothing in encoder.json, expected an object"),
        ({"data": {"pairs": 1}}, "data: found pairs in encoder.json, expected an object with sentences, pairs"),
        ({"teacher": []}, "teacher: found nothing .* with name, sha256"),
        ({"curves": None}, "curves: found a NoneType in encoder.json, expected a list"),
        ({"curves": [{"stage": "s"}]}, "curves: found stage .* with stage, steps, points"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, {**RECORD, **changes})
