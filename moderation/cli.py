"""The command line of moderation: files in, decisions out, and the review queue."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from typer.core import TyperGroup

from retrieval_shared.errors import WardlineError

if TYPE_CHECKING:
    from moderation.policy import Policy
    from moderation.review.queue import ImportReport
    from moderation.review.store import Store

DATABASE_VARIABLE = "WARDLINE_DATABASE"
KEYS_FILE = Path("var/keys.yaml")
_SHOWN_FAILURES = 20


class OneLineErrors(TyperGroup):
    """Commands whose expected errors are one line and exit code 2; a traceback is for what nobody expected."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - as the overridden method
        """Run the command named."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # somebody closed the pipe, as `head` does; typer ends quietly
        except _expected_errors() as error:  # evaluated only once something was raised
            if os.environ.get("WARDLINE_DEBUG"):
                raise
            typer.secho(f"Error: {' '.join(str(error).split())}", err=True, fg="red")
            raise typer.Exit(2) from error


def _expected_errors() -> tuple[type[BaseException], ...]:
    loaded = sys.modules.get("sqlalchemy.exc")  # where it is not loaded, it raised nothing
    return (ValueError, WardlineError, OSError, *((loaded.SQLAlchemyError,) if loaded else ()))


class ExportFormat(StrEnum):
    """Formats of an export."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


class ReviewState(StrEnum):
    """States of a review."""

    PENDING = "pending"
    DECIDED = "decided"


Database = Annotated[
    str | None,
    typer.Option(
        "--db",
        envvar=DATABASE_VARIABLE,
        help="Database of the queue: a file, or an SQLAlchemy URL.",
        show_default="var/wardline.db",
    ),
]

app = typer.Typer(cls=OneLineErrors, no_args_is_help=True, add_completion=False, help="Moderate ads.")
reviews = typer.Typer(cls=OneLineErrors, no_args_is_help=True, help="The queue of ads that people decide about.")
policies = typer.Typer(cls=OneLineErrors, no_args_is_help=True, help="The policies that decide.")
keys = typer.Typer(cls=OneLineErrors, no_args_is_help=True, help="API keys of the service.")
app.add_typer(reviews, name="reviews")
app.add_typer(policies, name="policies")
app.add_typer(keys, name="keys")


@app.command()
def moderate(
    source: Annotated[Path, typer.Option("--in", help="Ads: .jsonl (also .gz, .xz), .csv or .parquet.")],
    target: Annotated[Path, typer.Option("--out", help="Decisions, one line per ad, in the same formats.")],
    regions: Annotated[str, typer.Option(help="Target regions of ads that name none, such as DE,US,IN-GJ.")] = "",
    policy: Annotated[str, typer.Option(help="Policy: id, id@version or a .yaml file.")] = "ads-default",
    bundle: Annotated[Path | None, typer.Option(help="Folder of the model; without it the shipped one.")] = None,
    db: Database = None,
    keep_text: Annotated[bool, typer.Option("--keep-text", help="Keep escalated texts for reviewers to read.")] = False,
    no_queue: Annotated[bool, typer.Option("--no-queue", help="Neither log decisions nor file escalations.")] = False,
) -> None:
    """Decide about every ad of a file.

    A line that cannot be used is written out with its reason; the others are not affected.

    Example: wardline.py moderate --in ads.jsonl --out decisions.jsonl --regions DE,US
    """
    from moderation.batch import count_lines, moderate_file
    from moderation.pipeline import Moderator
    from moderation.regions import check_region
    from moderation.review.queue import ReviewQueue

    named = [code.strip() for code in regions.split(",") if code.strip()]
    for code in named:
        check_region(code)
    total = count_lines(source)
    moderator = Moderator.load(bundle, policy=policy)
    with nullcontext() if no_queue else _store(db) as store, _bar("moderating", total) as progress:
        queue = ReviewQueue(store) if store else None
        report = moderate_file(
            moderator, source, target, regions=named, queue=queue, keep_text=keep_text, progress=progress
        )
    counts = ", ".join(f"{action} {count:,}" for action, count in sorted(report.actions.items())) or "none"
    typer.echo(f"{report.lines:,} lines, {report.failed:,} failed; decisions per region: {counts}")
    if queue is not None:
        typer.echo(f"escalations in the review queue: {report.reviews:,}")
    typer.echo(f"written: {target}")


@app.command()
def demo(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the service, which runs meanwhile.")] = 3000,
) -> None:
    """Start the service, send it the example ads, show what it decided, stop it again."""
    from moderation.demo import run_demo

    run_demo(port=port)


@reviews.command("export")
def export(
    out: Annotated[Path, typer.Option(help="File to write; it appears when it is complete.")],
    format: Annotated[ExportFormat | None, typer.Option(help="Without it the file's suffix decides.")] = None,
    state: Annotated[ReviewState | None, typer.Option(help="Without it both.")] = None,
    db: Database = None,
) -> None:
    """Write the reviews to a file, one row each; docs/reviews.md explains the columns."""
    from moderation.review.export import export_reviews

    with _store(db) as store:
        count = export_reviews(store, out, format=format and format.value, state=state and state.value)
    typer.echo(f"{count:,} reviews written: {out}")


@reviews.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Verdicts: .jsonl, .csv or .parquet, or a filled-in export.")],
    db: Database = None,
) -> None:
    """Take in what people decided. Unusable rows are listed, and the exit code is then 1; the others are taken in."""
    from moderation.review.queue import ReviewQueue

    with _store(db) as store:
        report = ReviewQueue(store).import_file(file)
    _show_import(report)
    if report.failures:
        raise typer.Exit(1)


@reviews.command("list")
def list_(
    state: Annotated[ReviewState, typer.Option(help="Which reviews.")] = ReviewState.PENDING,
    region: Annotated[str | None, typer.Option(help="Only this region.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    db: Database = None,
) -> None:
    """Show reviews, most urgent first."""
    table = Table("review", "item", "region", "action", "priority", "why", "since", title=f"{state.value} reviews")
    with _store(db) as store:
        for filed in store.reviews(state=state.value, region=region, limit=limit):
            review = filed.review
            action, since = review.final_action or "escalate", f"{review.created_at:%Y-%m-%d %H:%M}"
            priority = f"{review.priority:.2f}"
            table.add_row(review.id, review.item_id, review.region, action, priority, review.priority_reason, since)
    Console().print(table if table.row_count else f"no {state.value} reviews", markup=False)


@policies.command("show")
def show(
    ref: Annotated[
        str | None, typer.Argument(help="id, id@version or a .yaml file; without it all are listed.")
    ] = None,
) -> None:
    """List the policies, or show one: its heads, their default rule, and where it differs."""
    from moderation.policy_document import list_policies, load_policy

    if ref is not None:
        _show_policy(load_policy(ref))
        return
    table = Table("policy", "heads", "regions", "digest")
    for policy in list_policies():
        table.add_row(policy.ref, str(len(policy.heads)), str(len(policy.regions)), policy.digest[:12])
    Console().print(table)


@keys.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Who will use the key, such as shop-backend.")],
    scope: Annotated[list[str], typer.Option(help="moderate, review or admin; may be given several times.")],
    file: Annotated[Path, typer.Option(envvar="WARDLINE_KEYS", help="The keys file.")] = KEYS_FILE,
) -> None:
    """Make an API key: the file keeps its hash, the key itself is shown this once."""
    from moderation.auth import add_key, create_key

    created = create_key(name, scope)
    add_key(file, created.record)
    typer.echo(created.secret)
    typer.echo(f"Kept as a hash in {file}; start the service with WARDLINE_KEYS={file}", err=True)


@contextmanager
def _store(db: str | None) -> Iterator[Store]:
    from moderation.database import DEFAULT_URL
    from moderation.review.store import Store

    url = DEFAULT_URL if not db else db if "://" in db else f"sqlite:///{db}"
    with closing(Store(url)) as store:
        yield store


@contextmanager
def _bar(what: str, total: int) -> Iterator[Any]:
    """Show a progress bar on stderr and give the function that moves it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)


def _show_import(report: ImportReport) -> None:
    typer.echo(
        f"{report.added:,} verdicts added, {report.unchanged:,} there already, "
        f"{report.undecided:,} rows not filled in, {len(report.failures):,} unusable"
    )
    for failure in report.failures[:_SHOWN_FAILURES]:
        typer.echo(f"  line {failure.line}: {failure.reason}", err=True)
    if len(report.failures) > _SHOWN_FAILURES:
        typer.echo(f"  and {len(report.failures) - _SHOWN_FAILURES:,} more", err=True)


def _show_policy(policy: Policy) -> None:
    table = Table("head", "kind", "default", "severity", "constraints", "regions of their own", title=policy.ref)
    for head in policy.heads:
        own = [region for region, rules in sorted(policy.regions.items()) if head.name in rules]
        rule = head.default
        constraints = ", ".join(map(str, rule.constraints))
        table.add_row(head.name, head.kind, rule.effect.value, str(rule.severity), constraints, " ".join(own))
    console = Console()
    console.print(table)
    console.print(f"digest {policy.digest}", markup=False, highlight=False)
