from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import training.cli
from training.cli import CONFIGS, app
from training.config import ModerationConfig, load_config


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the commands would have trained: configuration, run."""
    found: list[Any] = []

    def moderation(config: Any, run: Any) -> Any:  # noqa: ANN401
        found.extend([config, run])
        return SimpleNamespace(manifest=SimpleNamespace(name="m", version="1", digest="d" * 64), path=run.out)

    monkeypatch.setattr(training.cli, "train_moderation", moderation)
    monkeypatch.setattr(training.cli, "train_encoder", lambda config, run: found.extend([config, run]))
    monkeypatch.setattr(training.cli, "compare_layers", lambda *given, rows: found.extend([*given, rows]))
    monkeypatch.setattr(training.cli, "compare_balances", lambda *given, rows: found.extend([*given, rows]))
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


def test_balances_are_compared_on_as_many_rows_as_one_says(asked: list[Any], tmp_path: Path) -> None:
    arguments = ["balance", "--data", str(tmp_path), "--out", str(tmp_path / "balance.json"), "--threads", "1"]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0
    assert "balance.json" in found.output
    config, run, rows = asked
    assert (config.adapter.balance, rows) == ("static", 6_000)
    assert (run.data, run.out, run.threads) == (tmp_path, tmp_path / "balance.json", 1)
    assert CliRunner().invoke(app, [*arguments, "--rows", "50"]).exit_code == 0
    assert asked[-1] == 50
    assert CliRunner().invoke(app, [*arguments, "--rows", "0"]).exit_code == 2


def test_an_unknown_device_is_refused(asked: list[Any], tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["encoder", "--data", str(tmp_path), "--device", "abacus"])
    assert isinstance(found.exception, ValueError)
    assert "--device: found 'abacus', allowed here auto, cpu" in str(found.exception)
    assert asked == []


def test_numbers_of_layers_are_compared(asked: list[Any], tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["layers", "--data", str(tmp_path)]).exit_code == 0
    config, run, *compared = asked
    assert (run.data, run.out, compared) == (tmp_path, Path("eval/reports/layers.json"), [[1, 2, 3], 20_000])
    assert config == load_config(CONFIGS / "moderation.yaml", ModerationConfig)
    arguments = ["--out", str(tmp_path / "l.json"), "--runs", str(tmp_path), "--counts", "2, 4", "--threads", "1"]
    found = CliRunner().invoke(app, ["layers", "--data", str(tmp_path), *arguments, "--rows", "50"])
    assert (found.exit_code, asked[6:]) == (0, [[2, 4], 50])
    assert (asked[5].out, asked[5].runs, asked[5].threads) == (tmp_path / "l.json", tmp_path, 1)
    assert "report -> " in found.output
    assert CliRunner().invoke(app, ["layers", "--data", str(tmp_path), "--rows", "0"]).exit_code == 2


@pytest.mark.parametrize("counts", ["", "0,1", "1,,2", "two", "-1", "1.5"])
def test_what_is_no_number_of_layers_is_refused(asked: list[Any], tmp_path: Path, counts: str) -> None:
    found = CliRunner().invoke(app, ["layers", "--data", str(tmp_path), "--counts", counts])
    assert isinstance(found.exception, ValueError)
    assert f"--counts: found {counts!r}, allowed whole numbers from 1, such as 1,2,3" in str(found.exception)
    assert asked == []


@pytest.mark.parametrize("command", ["encoder", "moderation", "layers", "balance"])
def test_without_data_the_commands_say_what_they_want(asked: list[Any], command: str) -> None:
    found = CliRunner().invoke(app, [command])
    assert isinstance(found.exception, ValueError)
    assert "WARDLINE_DATA" in str(found.exception)
    assert asked == []
