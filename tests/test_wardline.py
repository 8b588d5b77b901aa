"""The front door: all commands in one place, the heavy ones loaded only when they are named."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

import wardline

ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(wardline.app, list(arguments))


def test_help_names_every_command_and_loads_none() -> None:
    program = (
        "import sys, runpy\n"
        "sys.argv = ['wardline.py', '--help']\n"
        "try: runpy.run_path('wardline.py', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'onnxruntime', 'bentoml', 'sqlalchemy', 'pandas', 'pyarrow', 'training.cli', 'eval.cli'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout
    for command in ("moderate", "reviews", "policies", "keys", "demo", "train", "eval", "serve"):
        assert command in done.stdout
    assert done.stderr == ""


def test_version_is_that_of_the_project() -> None:
    assert run("--version").output == f"wardline {wardline.version()}\n"


def test_moderation_commands_are_here(tmp_path: Path) -> None:
    database = ("--db", str(tmp_path / "w.db"))
    assert "ads-default@1" in run("policies", "list", *database).output
    assert run("policies", "show", "none", *database).exit_code == 2


def lazy_module(monkeypatch: pytest.MonkeyPatch, name: str) -> list[Any]:
    """Puts a command line in place of `name` and returns what its command is given."""
    given: list[Any] = []
    app = typer.Typer()

    @app.callback()
    def root() -> None:
        """The lazy one."""

    @app.command()
    def moderation(data: str = "", config: str = "") -> None:
        """Train it."""
        given.append((data, config))

    @app.command()
    def wrong() -> None:
        raise ValueError("config: found 1")

    @app.command()
    def bare() -> None:
        raise ModuleNotFoundError("No module named 'peft'", name="peft")

    @app.command()
    def ours() -> None:
        raise ModuleNotFoundError("No module named 'moderation.gone'", name="moderation.gone")

    module = types.ModuleType(name)
    module.app = app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, module)
    return given


@pytest.mark.parametrize(("command", "module"), [("train", "training.cli"), ("eval", "eval.cli")])
def test_arguments_reach_the_lazy_command(monkeypatch: pytest.MonkeyPatch, command: str, module: str) -> None:
    given = lazy_module(monkeypatch, module)
    result = run(command, "moderation", "--data", "d", "--config=c")
    assert result.exit_code == 0, result.output
    assert given == [("d", "c")]


def test_lazy_help_is_that_of_the_loaded_command(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy_module(monkeypatch, "training.cli")
    assert "The lazy one" in run("train", "--help").output
    result = run("train", "moderation", "--help")
    assert (result.exit_code, "Train it." in result.output) == (0, True)
    assert "wardline.py train" in result.output


@pytest.mark.parametrize(
    ("command", "reason"),
    [("wrong", "Error: config: found 1\n"), ("bare", "Error: `train` needs peft: run `make dev`")],
)
def test_lazy_error_is_one_line(monkeypatch: pytest.MonkeyPatch, command: str, reason: str) -> None:
    lazy_module(monkeypatch, "training.cli")
    result = run("train", command)
    assert result.exit_code == 2
    assert result.output.startswith(reason)
    assert len(result.output.splitlines()) == 1


def test_unknown_lazy_command_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy_module(monkeypatch, "training.cli")
    assert run("train", "nonsense").exit_code == 2


def test_missing_module_of_ours_is_not_blamed_on_the_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy_module(monkeypatch, "training.cli")
    assert isinstance(run("train", "ours").exception, ModuleNotFoundError)


def test_missing_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "training", None)
    monkeypatch.delitem(sys.modules, "training.cli", raising=False)
    result = run("train", "moderation")
    assert result.exit_code == 2
    assert "is not part of this installation" in result.output


def test_missing_package_names_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_torch(name: str) -> None:
        raise ModuleNotFoundError(f"No module named 'torch' for {name}", name="torch")

    monkeypatch.setattr(wardline.importlib, "import_module", without_torch)
    result = run("eval", "moderation")
    assert result.exit_code == 2
    assert "`eval` needs torch: run `make dev`, or `pip install '.[dev,train]'`" in result.output


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collects what `serve` would become, in place of becoming it."""
    calls: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *call: calls.append(call))
    monkeypatch.setattr(wardline, "make_line", lambda *_: None)  # nobody would remove it
    return calls


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_serve_becomes_bentoml_with_telemetry_off(started: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BENTOML_CONFIG_OPTIONS", raising=False)
    port = free_port()
    result = run("serve", "--port", str(port), "--workers", "2")
    assert result.exit_code == 0, result.output
    [(program, command, environment)] = started
    assert program == sys.executable
    assert command[1:5] == ["-m", "bentoml", "serve", "service:Wardline"]
    assert command[-4:] == ["--host", "127.0.0.1", "--port", str(port)]
    assert environment["BENTOML_DO_NOT_TRACK"] == "True"
    assert environment["BENTOML_CONFIG_OPTIONS"] == "services.wardline.workers=2"


@pytest.mark.parametrize(("named", "at_once"), [("", 2), ("3", 3)])
def test_workers_take_turns_in_one_line(
    started: list[Any], monkeypatch: pytest.MonkeyPatch, named: str, at_once: int
) -> None:
    made: list[tuple[str, int]] = []

    def make_line(*line: Any) -> int:  # noqa: ANN401
        made.append(line)
        return 77

    monkeypatch.setattr(wardline, "make_line", make_line)
    monkeypatch.setenv("WARDLINE_THREADS", named)
    port = free_port()
    assert run("serve", "--port", str(port), "--workers", "2").exit_code == 0
    [(_, _, environment)] = started
    assert made == [(f"127.0.0.1:{port}", at_once)]
    assert (environment["WARDLINE_TURNS"], environment["WARDLINE_THREADS"]) == ("77", str(at_once))


def test_without_a_line_each_worker_has_its_own(started: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wardline, "make_line", lambda *_: None)
    monkeypatch.delenv("WARDLINE_TURNS", raising=False)
    run("serve", "--port", str(free_port()))
    assert "WARDLINE_TURNS" not in started[0][2]


def test_threads_that_are_no_number_are_refused_before_anything_starts(
    started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDLINE_THREADS", "many")
    result = run("serve", "--port", str(free_port()))
    assert result.exit_code == 2
    assert "WARDLINE_THREADS: found 'many', allowed a whole number from 1" in result.output
    assert not started


def test_serve_keeps_the_users_own_options(started: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENTOML_CONFIG_OPTIONS", "services.wardline.traffic.timeout=9")
    run("serve", "--port", str(free_port()))
    environment = started[0][2]
    assert environment["BENTOML_CONFIG_OPTIONS"] == "services.wardline.traffic.timeout=9 services.wardline.workers=1"


def test_port_in_use_is_one_line(started: list[Any]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run("serve", "--port", str(port))
    assert result.exit_code == 2
    assert result.output.startswith(f"Error: port: {port} on 127.0.0.1 cannot be used (Address already in use)")
    assert started == []
