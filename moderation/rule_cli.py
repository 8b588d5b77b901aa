"""The commands of rules of one's own: list, check, add, put in force, and count how often they were found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moderation.command_line import DatabaseOption, OneLineErrors, WhoOption, open_store, print_plainly, who_does
from moderation.policy_desk import served_thresholds

if TYPE_CHECKING:
    from moderation.review.store import Store
    from moderation.rule_store import RuleStore

rules = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    help="Rules of your own: terms and patterns that speak for a head, beside the model.",
    epilog="A REF is id@version, or an id alone: its version in force, else its latest.",
)

File = Annotated[Path, typer.Argument(help="A document of rules, YAML or JSON.")]
Ref = Annotated[str, typer.Argument(help="A REF.")]
Name = Annotated[str, typer.Argument(help="The id of a set, such as shop-rules.")]


@rules.command("list")
def list_(db: DatabaseOption = None) -> None:
    """List every version, and which ones are in force."""
    from rich.table import Table

    with _open_desk(db) as desk:
        served = {each.ref for each in desk.rules.all_in_force()}
        table = Table("rules", "active", "shadow", "digest", "in force")
        for each in desk.rules.all():
            shadow = sum(rule.mode == "shadow" for rule in each.rules)
            in_force = "yes" if each.ref in served else ""
            table.add_row(each.ref, str(len(each.rules) - shadow), str(shadow), each.digest[:12], in_force)
    print_plainly(table)


@rules.command()
def validate(file: File) -> None:
    """Say whether a document could be published here, and if not, which line is wrong and why."""
    from moderation.rule_set import load_rule_set

    found = load_rule_set(file)
    found.check_heads(served_thresholds().heads)
    typer.echo(f"{found.ref} is a set of {len(found.rules)} rules, digest {found.digest}")


@rules.command()
def add(file: File, by: WhoOption = None, db: DatabaseOption = None) -> None:
    """Add a version to the database; it finds nothing before it is published."""
    from moderation.document import read_file

    who = who_does(by)
    with _open_desk(db) as desk:
        added = read_file(file, lambda text: desk.rules.add(text, by=who), what="rules")
    typer.echo(f"{added.ref} is in the database, digest {added.digest}")


@rules.command()
def publish(ref: Ref, by: WhoOption = None, db: DatabaseOption = None) -> None:
    """Put a version in force, for every service over this database; no restart is needed."""
    who = who_does(by)
    with _open_desk(db) as desk:
        wanted = desk.rules.get(ref)
        wanted.check_heads(served_thresholds().heads)
        desk.rules.publish(wanted.ref, by=who)
    typer.echo(f"{wanted.ref} is in force, published by {who}")


@rules.command()
def rollback(name: Name, by: WhoOption = None, db: DatabaseOption = None) -> None:
    """Put the version in force that was before the present one, or before it was withdrawn."""
    who = who_does(by)
    with _open_desk(db) as desk:
        back = desk.rules.rollback(name, by=who)
    typer.echo(f"{back.ref} is in force again, rolled back by {who}")


@rules.command()
def withdraw(name: Name, by: WhoOption = None, db: DatabaseOption = None) -> None:
    """Put no version of a set in force any more."""
    who = who_does(by)
    with _open_desk(db) as desk:
        gone = desk.rules.withdraw(name, by=who)
    typer.echo(f"{gone.ref} is no more in force, withdrawn by {who}")


@rules.command()
def hits(ref: Ref, db: DatabaseOption = None) -> None:
    """Count the stored decisions in which each rule was found; of a shadow rule, what was decided without it."""
    from rich.table import Table

    from moderation.rule_hits import count_hits

    with _open_desk(db) as desk:
        wanted = desk.rules.get(ref)
        counted = count_hits(wanted, desk.store.decision_rows(with_signals=True))
    table = Table("rule", "mode", "region", "decided", "decisions")
    for each in counted.hits:
        table.add_row(each.rule, each.mode, each.region, each.action, f"{each.decisions:,}")
    typer.echo(f"{wanted.ref} was found in {counted.decisions:,} decisions")
    print_plainly(table)


@dataclass(frozen=True)
class _Desk:
    """A database, opened, and the rules in it."""

    store: Store
    rules: RuleStore


@contextmanager
def _open_desk(db: str | None) -> Iterator[_Desk]:
    """Give the desk over the database that `--db` names; rules that are not known are a `ValueError`."""
    from moderation.rule_store import RuleStore
    from moderation.version_store import UnknownVersionError

    with open_store(db) as store:
        try:
            yield _Desk(store, RuleStore(store.database))
        except UnknownVersionError as error:
            raise ValueError(error.args[0]) from error
