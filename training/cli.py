"""The training commands."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated

import structlog
import typer

from training.config import EncoderConfig, ModerationConfig, load_config
from training.encoder import EncoderRun, train_encoder
from training.moderation import Run, train_moderation

CONFIGS = Path(__file__).parent / "configs"
CORES = os.cpu_count() or 1

app = typer.Typer(help="Train what the service serves.", no_args_is_help=True)


Config = Annotated[Path, typer.Option(help="Configuration; every key is explained in training/config.py.")]
Data = Annotated[
    Path | None, typer.Option(envvar="WARDLINE_DATA", help="Data folder; its form: training/data/README.md.")
]
Runs = Annotated[Path, typer.Option(help="Checkpoints and caches; a stopped run resumes from here.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads of torch and of the runtime.")]


@app.command()
def encoder(
    config: Config = CONFIGS / "encoder.yaml",
    data: Data = None,
    out: Annotated[Path, typer.Option(help="Folder of the finished encoder.")] = Path("runs/encoder"),
    runs: Runs = Path("runs"),
    threads: Threads = CORES,
) -> None:
    """Train the multilingual encoder: tokenizer, static table, both paths. Unfinished: see training/two_paths.py."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    settings = load_config(config, EncoderConfig)
    if data is None:
        raise ValueError(
            "no data folder: name it with --data or WARDLINE_DATA (training/data/README.md gives its form and the "
            "public sources)"
        )
    train_encoder(settings, EncoderRun(data=data, out=out, runs=runs, threads=threads))
    typer.echo(f"encoder -> {out}")


@app.command()
def moderation(
    config: Config = CONFIGS / "moderation.yaml",
    data: Data = None,
    out: Annotated[Path, typer.Option(help="Folder of the finished bundle.")] = Path("models/default"),
    runs: Runs = Path("runs"),
    own_ads_only: Annotated[
        bool, typer.Option("--own-ads-only", help="Train on the ads in the repository alone.")
    ] = False,
    threads: Threads = CORES,
) -> None:
    """Train the violation heads: adapter, token states, heads, thresholds, export. Stopped runs resume."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    settings = load_config(config, ModerationConfig)
    if data is None and not own_ads_only:
        raise ValueError(
            "no data folder: name it with --data or WARDLINE_DATA (training/data/README.md gives its form and the "
            "public sources), or pass --own-ads-only to train on the ads in the repository alone"
        )
    bundle = train_moderation(settings, Run(data=None if own_ads_only else data, out=out, runs=runs, threads=threads))
    typer.echo(f"{bundle.manifest.name}@{bundle.manifest.version} {bundle.manifest.digest[:12]} -> {bundle.path}")
