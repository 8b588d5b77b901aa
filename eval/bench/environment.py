"""The peers' environments: `.venv-peers` and those within it, each made once with pip from its requirements."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retrieval_shared.errors import WardlineError

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / ".venv-peers"
REQUIREMENTS = ROOT / "eval" / "peers" / "requirements.txt"
MARK = ".requirements"
INSTALL_TIMEOUT_S = 1_800
"""Of one pip call; the first is a download of torch."""
WITHOUT = "without peers: --no-peers"


@dataclass(frozen=True)
class Environment:
    """A virtual environment and what it holds."""

    name: str
    """Names it to a reader and in a stack."""
    folder: Path
    """Where it lies."""
    requirements: Path
    """Pinned distributions."""


PEERS = Environment("peers", FOLDER, REQUIREMENTS)
ONNX = Environment("peers, ONNX", FOLDER / "onnx", REQUIREMENTS.with_name("onnx_requirements.txt"))
INFINITY = Environment("peers, infinity", FOLDER / "infinity", REQUIREMENTS.with_name("infinity_requirements.txt"))
ENVIRONMENTS = (PEERS, ONNX, INFINITY)
"""Each has pins that do not go together with the others'; the outer one comes first."""


def peers_python(folder: Path = FOLDER) -> Path:
    """Return the interpreter of an environment, by default the peers'."""
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def is_ready(folder: Path = FOLDER, *, requirements: Path = REQUIREMENTS) -> bool:
    """Return whether the environment holds what `requirements` names now."""
    mark = folder / MARK
    return mark.is_file() and mark.read_text(encoding="utf-8") == _digest(requirements)


def prepare(folder: Path = FOLDER, *, torch_index: str | None = None, requirements: Path = REQUIREMENTS) -> Path:
    """Return the interpreter of an environment, which is made first where it is missing or out of date.

    Args:
        folder: where it lies.
        torch_index: index to take torch from, so that a machine without a GPU pulls no CUDA; None: pip's own.
        requirements: pinned distributions.

    Raises:
        WardlineError: pip failed.
    """
    if is_ready(folder, requirements=requirements):
        return peers_python(folder)
    name = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder.name
    if not peers_python(folder).is_file():
        _call([sys.executable, "-m", "venv", str(folder)], doing=f"making {name}")
    for arguments in pip_calls(requirements, torch_index=torch_index):
        _call([str(peers_python(folder)), "-m", "pip", "install", *arguments], doing=f"installing {requirements.name}")
    (folder / MARK).write_text(_digest(requirements), encoding="utf-8")
    return peers_python(folder)


def pip_calls(requirements: Path, *, torch_index: str | None) -> list[list[str]]:
    """Return the arguments of each `pip install`: torch from its index first, then everything."""
    quiet = ["--quiet", "--disable-pip-version-check"]
    pins = [line.strip() for line in requirements.read_text(encoding="utf-8").splitlines()]
    torch = [pin for pin in pins if pin.startswith("torch==")]
    index = ["--index-url", torch_index] if torch_index else []
    return [[*quiet, *index, *torch], [*quiet, "--requirement", str(requirements)]]


def _call(command: Sequence[str], *, doing: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise WardlineError(f"{doing} took more than {INSTALL_TIMEOUT_S} s; {WITHOUT}") from error
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise WardlineError(f"{doing} failed: {last}; {WITHOUT}")


def _digest(requirements: Path) -> str:
    return hashlib.sha256(requirements.read_bytes()).hexdigest()
