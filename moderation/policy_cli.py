"""The commands of policies: list, check, add, compare, try out, put in force, and prove that old decisions hold."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moderation.command_line import DatabaseOption, OneLineErrors, WhoOption, who_does
from moderation.policy_desk import open_desk, served_thresholds

if TYPE_CHECKING:
    from moderation.replay import Difference

_SHOWN = 20
"""Differences of a replay that are listed."""
_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]

policies = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    help="The policies that decide: shipped ones and those in the database.",
    epilog="A REF is id@version, or an id alone: its version in force, else its latest.",
)

File = Annotated[Path, typer.Argument(help="A policy document, YAML or JSON.")]
Region = Annotated[str | None, typer.Option(help="Only decisions for this region, such as DE or IN-GJ.")]
Since = Annotated[
    datetime | None, typer.Option(formats=_TIMES, help="Only decisions from this time on; UTC without an offset.")
]
Limit = Annotated[
    int | None, typer.Option(min=1, help="At most so many decisions, the oldest first.", show_default="all")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, as the service answers it.")]


@policies.command("list")
def list_(db: DatabaseOption = None) -> None:
    """List every version, and which one is in force."""
    from moderation.policy_view import print_policies

    with open_desk(db) as desk:
        found = desk.policies.all()
        print_policies(found, {policy.id: desk.latest(policy.id) for policy in found})
        typer.echo(f"decides: {desk.in_force.ref}, for a service over this database and with these variables")


@policies.command()
def show(
    ref: Annotated[str, typer.Argument(help="A REF, or a .yaml file.")],
    db: DatabaseOption = None,
) -> None:
    """Show one policy: its heads, their default rule, where it differs, and when it was put in force."""
    from moderation.policy_view import print_policy

    with open_desk(db) as desk:
        policy = desk.find(ref)
        print_policy(policy, [each for each in desk.policies.publications(policy.id) if each.ref == policy.ref])


@policies.command()
def validate(file: File) -> None:
    """Say whether a document could be published here, and if not, which line is wrong and why."""
    from moderation.policy_document import load_policy
    from retrieval_shared.errors import BundleError

    policy = load_policy(file)
    try:
        policy.check_heads(served_thresholds().heads)
    except BundleError as error:
        typer.echo(f"heads not compared with the model's: {error}", err=True)
    typer.echo(f"{policy.ref} is a policy, digest {policy.digest}")


@policies.command()
def add(file: File, by: WhoOption = None, db: DatabaseOption = None) -> None:
    """Add a version to the database; it decides nothing before it is published."""
    from moderation.document import read_file

    who = who_does(by)
    with open_desk(db) as desk:
        policy = read_file(file, lambda text: desk.policies.add(text, by=who), what="policy")
    typer.echo(f"{policy.ref} is in the database, digest {policy.digest}")


@policies.command()
def diff(
    before: Annotated[str, typer.Argument(help="A REF, or a .yaml file.")],
    after: Annotated[str, typer.Argument(help="A REF, or a .yaml file.")],
    as_json: AsJson = False,
    db: DatabaseOption = None,
) -> None:
    """Tell what changes between two policies: rules by region and head, time zones, languages that are not read."""
    from moderation.policy_diff import comparison
    from moderation.policy_view import print_changes

    with open_desk(db) as desk:
        found = desk.find(before), desk.find(after)
    if as_json:
        typer.echo(json.dumps(comparison(*found), indent=2, ensure_ascii=False))
    else:
        print_changes(*found)


@policies.command()
def backtest(
    policy: Annotated[str, typer.Argument(help="What to try: a REF, or a .yaml file.")],
    thresholds: Annotated[
        str | None, typer.Option(help="A .json file, or the id of those that decided once.", show_default="the served")
    ] = None,
    region: Region = None,
    since: Since = None,
    limit: Limit = None,
    examples: Annotated[int, typer.Option(min=0, help="Flips shown of each kind.")] = 3,
    as_json: AsJson = False,
    db: DatabaseOption = None,
) -> None:
    """Decide stored decisions again under another policy or other thresholds; nothing is changed."""
    from moderation import replay
    from moderation.policy_view import print_backtest

    with open_desk(db) as desk:
        tried, cuts = desk.find(policy), desk.thresholds(thresholds)
        with desk.rows("backtest", region=region, since=since, limit=limit) as rows:
            report = replay.backtest(rows, policy=tried, thresholds=cuts, examples=examples)
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2, ensure_ascii=False))
    else:
        print_backtest(report)


@policies.command()
def publish(
    ref: Annotated[str, typer.Argument(help="A REF.")],
    by: WhoOption = None,
    db: DatabaseOption = None,
) -> None:
    """Put a version in force, for every service over this database that follows the policy; no restart is needed."""
    who = who_does(by)
    with open_desk(db) as desk:
        policy = desk.policies.get(ref)
        policy.check_heads(desk.thresholds(None).heads)
        desk.policies.publish(policy.ref, by=who)
        decides = desk.in_force
    typer.echo(f"{policy.ref} is in force, published by {who}")
    if decides.ref != policy.ref:
        typer.echo(f"a service with these variables decides by {decides.ref}: WARDLINE_POLICY names it", err=True)


@policies.command()
def rollback(
    name: Annotated[str, typer.Argument(help="The id of a policy, such as ads-default.")],
    by: WhoOption = None,
    db: DatabaseOption = None,
) -> None:
    """Put the version in force that was before the present one."""
    who = who_does(by)
    with open_desk(db) as desk:
        policy = desk.policies.rollback(name, by=who)
    typer.echo(f"{policy.ref} is in force again, rolled back by {who}")


@policies.command()
def replay(region: Region = None, since: Since = None, limit: Limit = None, db: DatabaseOption = None) -> None:
    """Decide every stored decision again under what made it; the exit code is 1 where one comes out otherwise."""
    from moderation import replay as replaying
    from moderation.policy_view import print_differences

    with open_desk(db) as desk, desk.rows("replay", region=region, since=since, limit=limit) as rows:
        result = _replayed(replaying.replay(rows, desk.policies))
        typer.echo(f"{rows.read:,} decisions, {rows.read - result.decisions:,} came out again word for word")
    if result.decisions:
        print_differences(result.first, result.decisions)
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Replayed:
    """What did not come out again."""

    decisions: int
    first: list[Difference]


def _replayed(found: Iterable[Difference]) -> _Replayed:
    """Count decisions, each of which may differ in several ways, and keep the first; there may be very many."""
    first: list[Difference] = []
    decisions, latest = 0, None
    for each in found:
        decisions += each.id != latest
        latest = each.id
        if len(first) < _SHOWN:
            first.append(each)
    return _Replayed(decisions, first)
