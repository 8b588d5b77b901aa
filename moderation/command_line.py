"""What all commands share: errors of one line, the database they work on, and a progress bar."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typer.core import TyperGroup

from retrieval_shared.errors import WardlineError

if TYPE_CHECKING:
    from rich.table import Table

    from moderation.review.store import Store
    from retrieval_shared.adapter_store import AdapterStore

DATABASE_VARIABLE = "WARDLINE_DATABASE"
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--db",
        envvar=DATABASE_VARIABLE,
        help="Database of decisions, reviews and policies: a file, or an SQLAlchemy URL.",
        show_default="var/wardline.db",
    ),
]
ADAPTERS_VARIABLE = "WARDLINE_ADAPTERS"
AdaptersOption = Annotated[
    Path | None,
    typer.Option(
        "--adapters",
        envvar=ADAPTERS_VARIABLE,
        help="Folder of the adapters that were added.",
        show_default="var/adapters",
    ),
]
WhoOption = Annotated[
    str | None, typer.Option("--by", help="Who does this.", show_default="the user of the operating system")
]


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


@contextmanager
def open_store(db: str | None) -> Iterator[Store]:
    """Give the database that `--db` names."""
    from moderation.database import DEFAULT_URL
    from moderation.review.store import Store

    url = DEFAULT_URL if not db else db if "://" in db else f"sqlite:///{db}"
    with closing(Store(url)) as store:
        yield store


def open_adapters(adapters: Path | None) -> AdapterStore:
    """Return the store that `--adapters` names."""
    from moderation.settings import DEFAULT_ADAPTERS
    from retrieval_shared.adapter_store import AdapterStore

    return AdapterStore(adapters or DEFAULT_ADAPTERS)


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr and give the function that moves it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)


def who_does(by: str | None) -> str:
    """Return the name that `--by` gave, else the user's; raise `ValueError` where there is none."""
    if by is not None and by.strip():
        return by.strip()
    try:
        found = getpass.getuser() if by is None else ""
    except (KeyError, OSError):  # a container whose user has no name
        found = ""
    if not found:
        raise ValueError(f"by: found {by!r}, allowed a name; give one with --by")
    return found


def print_plainly(shown: Table | str) -> None:
    """Print a table or a line; what callers and authors of documents wrote is no markup."""
    Console().print(shown, markup=False, highlight=False)
