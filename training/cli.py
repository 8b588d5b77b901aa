"""The training commands."""

from __future__ import annotations

import dataclasses
import logging
import os
from pathlib import Path
from typing import Annotated

import structlog
import typer

from eval.bench.branches_graphs import FOLDER
from training.balance_report import ROWS, compare_balances
from training.bench_graphs import write_bench_graphs
from training.config import ModerationConfig, load_config
from training.encoder import EncoderRun, train_encoder
from training.encoder_config import EncoderConfig
from training.layers import ROWS as LAYER_ROWS
from training.layers import compare_layers
from training.moderation import Run, train_moderation
from training.perspective import PerspectiveRun, train_perspective

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
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: a GPU where there is one.")] = "auto",
) -> None:
    """Train the multilingual encoder: tokenizer, static table, both paths, joint adaptation. Stopped runs resume."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    settings = load_config(config, EncoderConfig)
    if data is None:
        raise ValueError(
            "no data folder: name it with --data or WARDLINE_DATA (training/data/README.md gives its form and the "
            "public sources)"
        )
    run = EncoderRun(data=data, out=out, runs=runs, threads=threads, device=_device(device))
    train_encoder(settings, run)
    typer.echo(f"encoder -> {out}")


def _device(name: str) -> str:
    """Return the device a name stands for.

    Raises:
        ValueError: the name is another, or there is no GPU.
    """
    import torch

    allowed = ("auto", "cpu", *(("cuda",) if torch.cuda.is_available() else ()))
    if name not in allowed:
        raise ValueError(f"--device: found {name!r}, allowed here {', '.join(allowed)}")
    return allowed[-1] if name == "auto" else name


@app.command()
def moderation(
    config: Config = CONFIGS / "moderation.yaml",
    data: Data = None,
    out: Annotated[Path, typer.Option(help="Folder of the finished bundle.")] = Path("models/default"),
    runs: Runs = Path("runs"),
    own_ads_only: Annotated[
        bool, typer.Option("--own-ads-only", help="Train on the ads in the repository alone.")
    ] = False,
    base_model: Annotated[
        str | None, typer.Option(help="Encoder to start from, in place of the configuration's.")
    ] = None,
    threads: Threads = CORES,
) -> None:
    """Train the violation heads: adapter, token states, heads, thresholds, export. Stopped runs resume."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    settings = load_config(config, ModerationConfig)
    if base_model is not None:
        settings = dataclasses.replace(settings, base_model=base_model, base_sha256="")
    if data is None and not own_ads_only:
        raise ValueError(
            "no data folder: name it with --data or WARDLINE_DATA (training/data/README.md gives its form and the "
            "public sources), or pass --own-ads-only to train on the ads in the repository alone"
        )
    bundle = train_moderation(settings, Run(data=None if own_ads_only else data, out=out, runs=runs, threads=threads))
    typer.echo(f"{bundle.manifest.name}@{bundle.manifest.version} {bundle.manifest.digest[:12]} -> {bundle.path}")


@app.command()
def layers(
    config: Config = CONFIGS / "moderation.yaml",
    data: Data = None,
    out: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("eval/reports/layers.json"),
    runs: Runs = Path("runs"),
    counts: Annotated[str, typer.Option(help="Numbers of upper layers m to compare.")] = "1,2,3",
    rows: Annotated[
        int, typer.Option(min=1, help="Public rows learnt from; our own ads come on top, once.")
    ] = LAYER_ROWS,
    threads: Threads = CORES,
) -> None:
    """Compare how well an adapter on the upper 1, 2 and 3 layers does on held-out rows: minutes each."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    if data is None:
        raise ValueError("no data folder: name it with --data or WARDLINE_DATA (training/data/README.md)")
    if not all(count.strip().isdecimal() and int(count) for count in counts.split(",")):
        raise ValueError(f"--counts: found {counts!r}, allowed whole numbers from 1, such as 1,2,3")
    run = Run(data=data, out=out, runs=runs, threads=threads)
    compare_layers(load_config(config, ModerationConfig), run, [int(count) for count in counts.split(",")], rows=rows)
    typer.echo(f"report -> {out}")


@app.command()
def balance(
    config: Config = CONFIGS / "moderation.yaml",
    data: Data = None,
    out: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("eval/reports/balance.json"),
    runs: Runs = Path("runs"),
    rows: Annotated[int, typer.Option(min=1, help="Public rows learnt from; our own ads come on top, once.")] = ROWS,
    threads: Threads = CORES,
) -> None:
    """Compare ways to balance the heads' gradients on held-out rows, and tell which heads pull apart."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    if data is None:
        raise ValueError("no data folder: name it with --data or WARDLINE_DATA (training/data/README.md)")
    run = Run(data=data, out=out, runs=runs, threads=threads)
    compare_balances(load_config(config, ModerationConfig), run, rows=rows)
    typer.echo(f"report -> {out}")


@app.command()
def perspective(
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle; the mapping is written there.")] = Path(
        "models/default"
    ),
    crossfit: Annotated[
        Path, typer.Option(help="The cross-fitted bundle that `train moderation` left in its --runs folder.")
    ] = Path("runs/wardline-moderation-crossfit"),
    data: Data = None,
) -> None:
    """Fit the mapping of scores to Perspective's scale for a trained bundle: minutes, nothing is trained."""
    if data is None:
        raise ValueError("no data folder: name it with --data or WARDLINE_DATA (training/data/README.md)")
    typer.echo(f"mapping -> {train_perspective(PerspectiveRun(bundle=bundle, crossfit=crossfit, data=data))}")


@app.command()
def bench_graphs(
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle whose encoder is measured.")] = Path(
        "models/default"
    ),
    out: Annotated[Path, typer.Option(help="Folder of the graphs.")] = FOLDER,
) -> None:
    """Write the graphs that `eval serving` measures adapters on, unless they are there: some minutes, half a GB."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    write_bench_graphs(bundle, out)
    typer.echo(f"graphs -> {out}")
