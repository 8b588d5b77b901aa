"""The command line of moderation: files in, decisions out, and the review queue."""

from __future__ import annotations

from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from moderation.adapter_cli import adapters
from moderation.command_line import DATABASE_VARIABLE as DATABASE_VARIABLE
from moderation.command_line import AdaptersOption, DatabaseOption, open_adapters, open_store, progress_bar
from moderation.command_line import OneLineErrors as OneLineErrors
from moderation.policy_cli import policies
from moderation.rule_cli import rules

if TYPE_CHECKING:
    from moderation.pipeline import Moderator
    from moderation.review.queue import ImportReport
    from moderation.review.store import Store

KEYS_FILE = Path("var/keys.yaml")
_SHOWN_FAILURES = 20


class ExportFormat(StrEnum):
    """Formats of an export."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


class ReviewState(StrEnum):
    """States of a review."""

    PENDING = "pending"
    DECIDED = "decided"


app = typer.Typer(cls=OneLineErrors, no_args_is_help=True, add_completion=False, help="Moderate ads.")
reviews = typer.Typer(cls=OneLineErrors, no_args_is_help=True, help="The queue of ads that people decide about.")
keys = typer.Typer(cls=OneLineErrors, no_args_is_help=True, help="API keys of the service.")
app.add_typer(reviews, name="reviews")
app.add_typer(policies, name="policies")
app.add_typer(rules, name="rules")
app.add_typer(adapters, name="adapters")
app.add_typer(keys, name="keys")


@app.command()
def moderate(
    source: Annotated[Path, typer.Option("--in", help="Ads: .jsonl (also .gz, .xz), .csv or .parquet.")],
    target: Annotated[Path, typer.Option("--out", help="Decisions, one line per ad, in the same formats.")],
    regions: Annotated[str, typer.Option(help="Target regions of ads that name none, such as DE,US,IN-GJ.")] = "",
    policy: Annotated[str, typer.Option(help="Policy: id, id@version or a .yaml file.")] = "ads-default",
    bundle: Annotated[Path | None, typer.Option(help="Folder of the model; without it the shipped one.")] = None,
    added: AdaptersOption = None,
    db: DatabaseOption = None,
    keep_text: Annotated[bool, typer.Option("--keep-text", help="Keep escalated texts for reviewers to read.")] = False,
    no_queue: Annotated[bool, typer.Option("--no-queue", help="Neither log decisions nor file escalations.")] = False,
) -> None:
    """Decide about every ad of a file.

    A line that cannot be used is written out with its reason; the others are not affected. Ads are decided as a service
    over the same database decides them, by the policy and the rules that are published there and by its bank; with
    --no-queue there is no database, so the policy is a shipped one or a file. Adapters that were added serve here, too.

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
    with nullcontext() if no_queue else open_store(db) as store, progress_bar("moderating", total) as progress:
        queue = ReviewQueue(store) if store else None
        moderator = _moderator_over(store, bundle, policy) if store else Moderator.load(bundle, policy=policy)
        moderator = moderator.with_adapters(open_adapters(added).read())
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
    db: DatabaseOption = None,
) -> None:
    """Write the reviews to a file, one row each; docs/reviews.md explains the columns."""
    from moderation.review.export import export_reviews

    with open_store(db) as store:
        count = export_reviews(store, out, format=format and format.value, state=state and state.value)
    typer.echo(f"{count:,} reviews written: {out}")


@reviews.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Verdicts: .jsonl, .csv or .parquet, or a filled-in export.")],
    db: DatabaseOption = None,
) -> None:
    """Take in what people decided. Unusable rows are listed, and the exit code is then 1; the others are taken in."""
    from moderation.review.queue import ReviewQueue

    with open_store(db) as store:
        report = ReviewQueue(store).import_file(file)
    _show_import(report)
    if report.failures:
        raise typer.Exit(1)


@reviews.command("list")
def list_(
    state: Annotated[ReviewState, typer.Option(help="Which reviews.")] = ReviewState.PENDING,
    region: Annotated[str | None, typer.Option(help="Only this region.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    db: DatabaseOption = None,
) -> None:
    """Show reviews, most urgent first."""
    table = Table("review", "item", "region", "action", "priority", "why", "since", title=f"{state.value} reviews")
    with open_store(db) as store:
        for filed in store.reviews(state=state.value, region=region, limit=limit):
            review = filed.review
            action, since = review.final_action or "escalate", f"{review.created_at:%Y-%m-%d %H:%M}"
            priority = f"{review.priority:.2f}"
            table.add_row(review.id, review.item_id, review.region, action, priority, review.priority_reason, since)
    Console().print(table if table.row_count else f"no {state.value} reviews", markup=False)


@keys.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Who will use the key, such as shop-backend.")],
    scope: Annotated[list[str], typer.Option(help="moderate, review or admin; may be given several times.")],
    rate_limit: Annotated[
        str | None,
        typer.Option(help="How often it may ask, such as 60/min or 10/s.", show_default="that of every key"),
    ] = None,
    file: Annotated[Path, typer.Option(envvar="WARDLINE_KEYS", help="The keys file.")] = KEYS_FILE,
) -> None:
    """Make an API key: the file keeps its hash, the key itself is shown this once."""
    from moderation.auth import add_key, create_key
    from moderation.rate_limit import parse_rate_limit

    limit = parse_rate_limit(rate_limit) if rate_limit is not None else None
    created = create_key(name, scope, rate_limit=limit)
    add_key(file, created.record)
    typer.echo(created.secret)
    typer.echo(f"Kept as a hash in {file}; start the service with WARDLINE_KEYS={file}", err=True)


def _moderator_over(store: Store, bundle: Path | None, policy: str) -> Moderator:
    """Return a moderator that decides as a service over a database does; what decides is kept there for replay."""
    from moderation.bank import StoredBank
    from moderation.pipeline import Moderator
    from moderation.policy_document import list_policies
    from moderation.policy_store import PolicyStore
    from moderation.rule_store import RuleStore
    from moderation.signal_sources import SignalSources

    versions = PolicyStore(store.database, list_policies())
    sources = SignalSources(RuleStore(store.database).all_in_force(), StoredBank(store.database))
    moderator = Moderator.load(bundle, policy=versions.serve(policy), sources=sources)
    versions.remember(moderator.thresholds)
    return moderator


def _show_import(report: ImportReport) -> None:
    typer.echo(
        f"{report.added:,} verdicts added, {report.unchanged:,} there already, "
        f"{report.undecided:,} rows not filled in, {len(report.failures):,} unusable"
    )
    for failure in report.failures[:_SHOWN_FAILURES]:
        typer.echo(f"  line {failure.line}: {failure.reason}", err=True)
    if len(report.failures) > _SHOWN_FAILURES:
        typer.echo(f"  and {len(report.failures) - _SHOWN_FAILURES:,} more", err=True)
