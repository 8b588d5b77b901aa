"""The command line of Wardline: `python wardline.py --help`."""

from __future__ import annotations

import importlib
import os
import socket
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from moderation.cli import OneLineErrors
from moderation.cli import app as moderation_app
from retrieval_shared.errors import WardlineError
from retrieval_shared.shared_turns import LINE_VARIABLE, make_line
from retrieval_shared.turns import THREADS_VARIABLE, threads_named

ROOT = Path(__file__).resolve().parent
SERVICE = "service:Wardline"
SERVICE_NAME = "wardline"
OWN_PACKAGES = frozenset({"training", "eval", "moderation", "taxonomy", "retrieval_shared"})

app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
    help="Wardline reads an ad and says which policies it violates and what each region's policy does about that.",
    epilog="Errors are one line; WARDLINE_DEBUG=1 shows where they come from.",
)
app.add_typer(moderation_app)

# What follows the command's name, --help included, is for the command that is loaded then.
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}


def version() -> str:
    """Return the version that pyproject.toml names."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"wardline {version()}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and end.")
    ] = False,
) -> None:
    """Wardline reads an ad and says which policies it violates and what each region's policy does about that."""


@app.command(context_settings=_PASS_ON, add_help_option=False)
def train(ctx: typer.Context) -> None:
    """Train models: `train --help` lists what (needs the training packages: make dev)."""
    _pass_on("training.cli", "train", ctx.args)


@app.command(name="eval", context_settings=_PASS_ON, add_help_option=False)
def eval_(ctx: typer.Context) -> None:
    """Measure models: `eval --help` lists what (needs the training packages: make dev)."""
    _pass_on("eval.cli", "eval", ctx.args)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; other machines need keys, see `keys create`.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=1, max=65535)] = 3000,
    workers: Annotated[int, typer.Option(min=1, help="Processes, one per core; each holds the model.")] = 1,
) -> None:
    """Serve the REST API until Ctrl-C; sends nothing home."""
    _check_port(host, port)
    command = [sys.executable, "-m", "bentoml", "serve", SERVICE, "--working-dir", str(ROOT)]
    os.execve(
        sys.executable,
        [*command, "--host", host, "--port", str(port)],
        {
            **os.environ,
            "BENTOML_DO_NOT_TRACK": "True",
            "BENTOML_CONFIG_OPTIONS": _config(os.environ.get("BENTOML_CONFIG_OPTIONS"), workers),
            **_turns(f"{host}:{port}", workers),
        },
    )


def _config(given: str | None, workers: int) -> str:
    own = f"services.{SERVICE_NAME}.workers={workers}"
    return f"{given} {own}" if given else own


def _turns(name: str, workers: int) -> dict[str, str]:
    """Return what lets the workers score so many texts at once together, whichever of them has the connection."""
    threads = threads_named(default=workers)
    line = make_line(name, threads)
    return {THREADS_VARIABLE: str(threads)} | ({LINE_VARIABLE: str(line)} if line is not None else {})


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: a port just left is free
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ValueError(
                f"port: {port} on {host} cannot be used ({error.strerror}); name another with --port"
            ) from error


def _pass_on(module: str, name: str, arguments: Sequence[str]) -> NoReturn:
    """Load the command line in `module` and let it end the program."""
    try:
        command = typer.main.get_command(importlib.import_module(module).app)
        command.main(args=list(arguments), prog_name=f"wardline.py {name}", standalone_mode=True)
    except ModuleNotFoundError as error:
        folder, missing = module.partition(".")[0], error.name or ""
        if missing in (folder, module):
            raise WardlineError(f"`{name}` is not part of this installation: there is no {missing}") from error
        if missing.partition(".")[0] in OWN_PACKAGES:
            raise  # a mistake of ours, not a missing package
        raise WardlineError(f"`{name}` needs {missing}: run `make dev`, or `pip install '.[dev,train]'`") from error
    raise typer.Exit


if __name__ == "__main__":
    app()
