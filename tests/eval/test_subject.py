"""What a bundle says it learnt from."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eval.subject import RTPLX_SOURCES, LearntFrom, subject_of


def moderator(folder: Path, document: Any) -> Any:
    (folder / "training.json").write_text(json.dumps(document), encoding="utf-8")
    manifest = SimpleNamespace(name="b", version="2", digest="d" * 64)
    return SimpleNamespace(bundle=SimpleNamespace(manifest=manifest, file=lambda name: folder / name))


@pytest.mark.parametrize("wrapped", [True, False])
def test_the_configuration_inside_the_bundle_is_read(tmp_path: Path, wrapped: bool) -> None:
    config = {"data": {"licences": ["open", "sa"], "without_sources": ["x"], "ads": "a.jsonl", "folds": 5}}
    subject = subject_of(moderator(tmp_path, {"config": config} if wrapped else config))
    assert (subject.name, subject.digest) == ("b@2", "d" * 64)
    assert subject.learnt_from == LearntFrom(licences=("open", "sa"), without_sources=("x",), ads="a.jsonl")


@pytest.mark.parametrize("document", [[], {"data": 5}, {"data": {"licences": 3}}, "text"])
def test_an_unreadable_configuration_is_named(tmp_path: Path, document: object) -> None:
    with pytest.raises(ValueError, match=r"training\.json"):
        subject_of(moderator(tmp_path, document))


def test_whether_rtplx_was_seen() -> None:
    assert LearntFrom().saw_rtplx
    assert LearntFrom(without_sources=RTPLX_SOURCES[:2]).saw_rtplx
    assert not LearntFrom(without_sources=RTPLX_SOURCES).saw_rtplx
    assert not LearntFrom(licences=("sa",)).saw_rtplx
    assert LearntFrom(licences=(), also_sources=RTPLX_SOURCES[:1]).saw_rtplx
