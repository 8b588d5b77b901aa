"""The commands of adapters: list, add and remove, while services run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moderation.command_line import AdaptersOption, OneLineErrors, open_adapters, print_plainly

if TYPE_CHECKING:
    from retrieval_shared.adapter_store import AdapterStore
    from retrieval_shared.adapters import Adapter
    from retrieval_shared.bundle import Bundle

adapters = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    help="The adapters that services load and unload while they run.",
    epilog="A NAME is that of a slot: region:ID, region:IN-GJ, task:moderation.",
)

BundleOption = Annotated[
    Path | None,
    typer.Option(envvar="WARDLINE_BUNDLE", help="Folder of the model.", show_default="the shipped one"),
]
_FOLLOWS = "every worker of a service over {folder} follows with its next request"


@adapters.command("list")
def list_(store: AdaptersOption = None, bundle: BundleOption = None) -> None:
    """List the adapters that a service over these folders serves, by slot, and which of the added ones it refuses."""
    from rich.table import Table

    from retrieval_shared.adapters import overlay

    model, kept = _bundle(bundle), open_adapters(store)
    added, refused = _added(kept, model)
    own = _own(model) if model is not None else ()
    table = Table("slot", "name", "version", "parent", "from")
    names = {each.name for each in added}
    for number, each in enumerate(overlay(own, added), start=1):
        source = "added" if each.name in names else "bundle"
        table.add_row(str(number), each.name, each.version, each.parent or "", source)
    print_plainly(table if table.row_count else f"no adapter in {kept.folder}")
    for name, reason in refused.items():
        typer.echo(f"{name} is refused: {reason}")


@adapters.command()
def add(
    folder: Annotated[Path, typer.Argument(help="A folder as PEFT saves it, such as `train` writes.")],
    store: AdaptersOption = None,
    bundle: BundleOption = None,
) -> None:
    """Add an adapter, in place of an older one of its name; running services serve it without a restart."""
    from moderation.model_folders import REGION
    from moderation.regions import check_region
    from retrieval_shared.adapters import read_adapter

    found, model = read_adapter(folder), _bundle(bundle)
    if found.name.startswith(REGION):
        check_region(found.name.removeprefix(REGION))
    _check(found, model)
    kept = open_adapters(store)
    added = kept.add(folder)
    typer.echo(f"{added.name}@{added.version} is in {kept.folder}; {_FOLLOWS.format(folder=kept.folder)}")


@adapters.command()
def remove(
    name: Annotated[str, typer.Argument(help="A NAME.")],
    store: AdaptersOption = None,
) -> None:
    """Remove an adapter; where it stood in place of the bundle's own, that serves again."""
    kept = open_adapters(store)
    kept.remove(name)
    typer.echo(f"{name} is no longer in {kept.folder}; {_FOLLOWS.format(folder=kept.folder)}")


def _bundle(named: Path | None) -> Bundle | None:
    """Return the bundle, its files not checked; None, and a word on stderr, where there is none."""
    from retrieval_shared.bundle import DEFAULT_BUNDLE, Bundle, read_manifest
    from retrieval_shared.errors import BundleError

    folder = named or DEFAULT_BUNDLE
    try:
        return Bundle(folder, read_manifest(folder))
    except BundleError as error:
        typer.echo(f"adapters not compared with the model: {error}", err=True)
        return None


def _own(model: Bundle) -> tuple[Adapter, ...]:
    from retrieval_shared.adapters import folder_of, read_adapter
    from retrieval_shared.bundle import ADAPTERS

    return tuple(read_adapter(model.path / ADAPTERS / folder_of(name)) for name in model.manifest.slots[1:])


def _added(store: AdapterStore, model: Bundle | None) -> tuple[tuple[Adapter, ...], dict[str, str]]:
    """Return the added adapters that a service takes, and of the others why not."""
    from retrieval_shared.errors import AdapterError

    usable, refused = [], {}
    for entry in store.entries():
        try:
            adapter = store.load(entry)
            _check(adapter, model)
            usable.append(adapter)
        except AdapterError as error:  # noqa: PERF203 - each has a reason of its own
            refused[entry.name] = str(error)
    return tuple(usable), refused


def _check(adapter: Adapter, model: Bundle | None) -> None:
    """Raise `AdapterError` where a service refuses an adapter, as far as can be told without loading the model."""
    from retrieval_shared.bundle import BASE_WEIGHTS
    from retrieval_shared.errors import AdapterError

    if model is not None and adapter.encoder != (expected := model.sha256(BASE_WEIGHTS)):
        raise AdapterError(
            f"adapter {adapter.name!r}: it was trained over base weights {adapter.encoder[:12]}, the bundle at "
            f"{model.path} has {expected[:12]}"
        )
