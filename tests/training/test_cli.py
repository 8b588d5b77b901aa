from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import training.cli
from training.cli import app


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the commands would have trained: configuration, run."""
    found: list[Any] = []

    def moderation(config: Any, run: Any) -> Any:  # noqa: ANN401
        found.extend([config, run])
        return SimpleNamespace(manifest=SimpleNamespace(name="m", version="1", digest="d" * 64), path=run.out)

    monkeypatch.setattr(training.cli, "train_moderation", moderation)
    monkeypatch.setattr(training.cli, "train_encoder", lambda config, run: found.extend([config, run]))
    monkeypatch.delenv("WARDLINE_DATA", raising=False)
    return found


def test_another_encoder_is_named_on_the_command_line(asked: list[Any], tmp_path: Path) -> None:
    arguments = ["moderation", "--data", str(tmp_path), "--out", str(tmp_path)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    plain = asked[0]
    assert CliRunner().invoke(app, [*arguments, "--base-model", "runs/encoder"]).exit_code == 0
    assert asked[2] == dataclasses.replace(plain, base_model="runs/encoder", base_sha256="")


def test_the_encoder_is_trained_where_one_says(asked: list[Any], tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["encoder", "--data", str(tmp_path), "--device", "cpu"])
    assert (found.exit_code, asked[1].device, asked[1].data) == (0, "cpu", tmp_path)
    assert "encoder ->" in found.output


def test_an_unknown_device_is_refused(asked: list[Any], tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["encoder", "--data", str(tmp_path), "--device", "abacus"])
    assert isinstance(found.exception, ValueError)
    assert "--device: found 'abacus', allowed here auto, cpu" in str(found.exception)
    assert asked == []


@pytest.mark.parametrize("command", ["encoder", "moderation"])
def test_without_data_the_commands_say_what_they_want(asked: list[Any], command: str) -> None:
    found = CliRunner().invoke(app, [command])
    assert isinstance(found.exception, ValueError)
    assert "WARDLINE_DATA" in str(found.exception)
    assert asked == []
