"""The evaluation commands of the command line."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from moderation.cli import OneLineErrors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from eval.scores import Progress as Report

app = typer.Typer(
    cls=OneLineErrors, no_args_is_help=True, add_completion=False, help="Measure a bundle and write a report."
)
console = Console()

REPORTS = Path("eval/reports")


@app.callback()
def main() -> None:
    """Measure a bundle and write a report."""


@app.command()
def moderation(
    bundle: Annotated[Path | None, typer.Option(help="Folder of the bundle; the shipped one by default.")] = None,
    second_bundle: Annotated[
        Path | None, typer.Option(help="A bundle trained with the RTP-LX rows if the first was not, or the other way.")
    ] = None,
    wider_bundle: Annotated[
        Path | None, typer.Option(help="A bundle trained on rows of more licences, to set beside it on dev.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The data folder.", envvar="WARDLINE_DATA")] = None,
    out: Annotated[Path, typer.Option(help="Where moderation.json and moderation.html go.")] = REPORTS,
    cache: Annotated[Path | None, typer.Option(help="Keep scores here between runs.")] = None,
    baseline: Annotated[bool, typer.Option(help="Fit the character n-gram baseline too.")] = True,
    quick: Annotated[bool, typer.Option(help="A few hundred rows per suite: does everything run?")] = False,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 13,
) -> None:
    """Measure a moderation bundle on all suites."""
    from eval.datasets import data_folder
    from eval.moderation import Options, evaluate
    from eval.report import write_report
    from moderation import Moderator

    folder = data_folder(data)
    model = Moderator.load(bundle)
    second, wider = (Moderator.load(path) if path else None for path in (second_bundle, wider_bundle))
    with _progress() as progress:
        options = Options(seed=seed, baseline=baseline, quick=quick, cache=cache, progress=progress)
        report = evaluate(model, folder, second=second, wider=wider, options=options)
    files = write_report(report, out, name="moderation")
    console.print(f"{files.json}\n{files.html}", soft_wrap=True)


@app.command()
def encoder(
    bundle: Annotated[Path | None, typer.Option(help="Folder of the bundle; the shipped one by default.")] = None,
    beside: Annotated[list[Path] | None, typer.Option(help="Another bundle to set beside it; may be repeated.")] = None,
    paths: Annotated[
        Path | None,
        typer.Option(help="The float32 encoder folder that `train encoder` leaves: what int8 costs, each path alone."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The data folder.", envvar="WARDLINE_DATA")] = None,
    out: Annotated[Path, typer.Option(help="Where encoder.json and encoder.html go.")] = REPORTS,
    quick: Annotated[bool, typer.Option(help="A few dozen sentences per language: does everything run?")] = False,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 13,
    resamples: Annotated[int, typer.Option(min=1, help="Bootstrap resamples.")] = 200,
) -> None:
    """Measure a sentence encoder in many languages."""
    from eval.compared import load_compared
    from eval.datasets import data_folder
    from eval.encoder import Options, evaluate, write_encoder

    folder = data_folder(data)
    compared = load_compared([bundle, *(beside or [])], paths=paths)
    with _progress() as progress:
        options = Options(seed=seed, resamples=resamples, quick=quick, progress=progress)
        report = evaluate(compared, folder, options)
    files = write_encoder(report, out)
    console.print(f"{files.json}\n{files.html}", soft_wrap=True)


@app.command()
def perspective(
    bundle: Annotated[Path | None, typer.Option(help="Folder of the bundle; the shipped one by default.")] = None,
    data: Annotated[Path | None, typer.Option(help="The data folder.", envvar="WARDLINE_DATA")] = None,
    out: Annotated[Path, typer.Option(help="Where perspective.json and perspective.html go.")] = REPORTS,
    quick: Annotated[bool, typer.Option(help="A few hundred rows per file: does everything run?")] = False,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 13,
    resamples: Annotated[int, typer.Option(min=1, help="Bootstrap resamples.")] = 200,
) -> None:
    """Measure the mapping of a bundle's scores to Perspective's scale."""
    from eval.datasets import data_folder
    from eval.perspective import Options, evaluate, write_perspective
    from moderation import Moderator

    folder = data_folder(data)
    with _progress() as progress:
        options = Options(seed=seed, resamples=resamples, quick=quick, progress=progress)
        report = evaluate(Moderator.load(bundle), folder, options)
    files = write_perspective(report, out)
    console.print(f"{files.json}\n{files.html}", soft_wrap=True)


@app.command()
def readme(
    report: Annotated[Path, typer.Option(help="The report the figures come from.")] = REPORTS / "moderation.json",
    file: Annotated[Path, typer.Option(help="The README.")] = Path("README.md"),
    card: Annotated[Path, typer.Option(help="The model card.")] = Path("models/default/MODEL_CARD.md"),
    encoder: Annotated[Path, typer.Option(help="The encoder's report; left out where there is none.")] = (
        REPORTS / "encoder.json"
    ),
    choices: Annotated[Path, typer.Option(help="A page whose figures name their paths.")] = Path("docs/choices.md"),
    perspective: Annotated[Path, typer.Option(help="The report on Perspective's scale; left out where none.")] = (
        REPORTS / "perspective.json"
    ),
    migration: Annotated[Path, typer.Option(help="The page for users of Perspective.")] = Path("docs/perspective.md"),
) -> None:
    """Write the reports' figures between their markers: README, model card, page for users of Perspective, choices."""
    from eval.document import read_json
    from eval.figures import with_figures
    from eval.readme import ENCODER, RESULTS, card_results, encoder_results, results, update_file
    from eval.sections.perspective import PERSPECTIVE, perspective_results

    document = read_json(report)
    blocks = [(file, RESULTS, results(document)), (card, RESULTS, card_results(document))]
    if encoder.is_file():
        text = encoder_results(read_json(encoder))
        blocks += [(file, ENCODER, text), (card, ENCODER, text)]
    if perspective.is_file():
        blocks.append((migration, PERSPECTIVE, perspective_results(read_json(perspective))))
    for path, block, text in blocks:
        changed = update_file(path, text, block=block)
        console.print(f"{path}, {block}: {'rewritten' if changed else 'already equal'}", soft_wrap=True)
    text = choices.read_text(encoding="utf-8")
    choices.write_text(with_figures(text, document), encoding="utf-8")
    console.print(f"{choices}: figures renewed", soft_wrap=True)


@app.command()
def page(
    report: Annotated[Path, typer.Option(help="The document to draw.")] = REPORTS / "moderation.json",
) -> None:
    """Draw the HTML page of an existing report again."""
    from eval.document import read_json
    from eval.report import write_report

    document = read_json(report)
    files = write_report(document, report.parent, name=report.stem, draw=_drawing(document, report.name))
    console.print(str(files.html), soft_wrap=True)


def _drawing(document: Mapping[str, Any], name: str) -> Callable[[Any], str]:
    """Return what draws a report, by the part that only its kind has.

    Raises:
        ValueError: it is no report of ours.
    """
    from eval import encoder, report
    from eval.bench import page
    from eval.sections import perspective

    # The report on the scale has "dev" too, so that its own part is looked for first.
    drawings = {"points": perspective.page, "dev": report.page, "encoders": encoder.page, "stacks": page.page}
    for part, draw in drawings.items():
        if part in document:
            return draw
    raise ValueError(f"{name}: found a document with none of {', '.join(drawings)}, expected a report of this project")


@app.command()
def serving(
    bundle: Annotated[Path | None, typer.Option(help="Folder of the bundle; the shipped one by default.")] = None,
    out: Annotated[Path, typer.Option(help="Where serving.json and serving.html go.")] = REPORTS,
    seed: Annotated[int, typer.Option(help="Of the texts.")] = 13,
    texts: Annotated[int, typer.Option(help="Texts of the batch.")] = 512,
    requests: Annotated[int, typer.Option(help="Single texts per stack and round.")] = 200,
    explained: Annotated[int, typer.Option(help="Single texts with evidence, per round.")] = 100,
    rounds: Annotated[int, typer.Option(help="Rounds, unless the time runs out before.")] = 3,
    limit_s: Annotated[int, typer.Option(help="No round starts that would not end in so many seconds.")] = 1_200,
    load_requests: Annotated[int, typer.Option(help="Requests of each of the five levels of the load.")] = 4_000,
    load_limit_s: Annotated[int, typer.Option(help="Seconds after which a level of the load sends no more.")] = 120,
    peers: Annotated[bool, typer.Option(help="Measure other stacks too, in environments of their own.")] = True,
    load: Annotated[bool, typer.Option(help="Measure the service under load too, with many clients at once.")] = True,
    branches: Annotated[bool, typer.Option(help="Measure what adapters cost too; needs `train bench-graphs`.")] = True,
    torch_index: Annotated[str | None, typer.Option(help="Index with builds of torch for the peers.")] = None,
) -> None:
    """Measure the service: latency, throughput, memory and start-up beside other stacks, and the service under load."""
    from eval.serving import BenchOptions, run_bench, write_bench

    options = BenchOptions(
        bundle=bundle, seed=seed, texts=texts, requests=requests, explained=explained, rounds=rounds, limit_s=limit_s,
        load_requests=load_requests, load_limit_s=load_limit_s, peers=peers, load=load, branches=branches,
        torch_index=torch_index,
    )  # fmt: skip
    with _progress() as progress:
        report = run_bench(options, progress=progress)
    files = write_bench(report, out)
    console.print(f"{files.json}\n{files.html}", soft_wrap=True)


@contextmanager
def _progress() -> Iterator[Report]:
    columns = (TextColumn("{task.description:>32}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done)

        yield report
