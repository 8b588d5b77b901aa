"""The commands of adapters, as typed, over a bundle's folder and a store; nothing is loaded."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner, Result

from moderation import cli
from moderation.served_model import ServedModel
from retrieval_shared.adapter_store import AdapterStore
from retrieval_shared.bundle import ADAPTERS, write_manifest

if TYPE_CHECKING:
    from tests.moderation.conftest import Folders

STORE = Path("var/adapters")


@pytest.fixture(autouse=True)
def _here(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder with a bundle that has an adapter of its own."""
    monkeypatch.chdir(folders.path)
    monkeypatch.setenv("WARDLINE_BUNDLE", "bundle")
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("WARDLINE_ADAPTERS", "WARDLINE_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    shutil.copytree(folders.adapter("task:moderation", 5.0), Path("bundle") / ADAPTERS / "task-moderation")
    write_manifest(folders.bundle, ServedModel(folders.models()).serving.moderator.bundle.manifest)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["adapters", *arguments])


def told(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return str(result.stdout)


def table() -> list[list[str]]:
    lines = told("list").splitlines()
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if "│" in line]


def test_an_adapter_is_added_listed_and_removed(folders: Folders) -> None:
    assert [row[:2] + row[-1:] for row in table()] == [["1", "task:moderation", "bundle"]]
    told("add", str(folders.adapter("region:ID")))
    [adapter] = AdapterStore(STORE).read()
    own, added = table()
    assert added == ["2", "region:ID", adapter.version, "", "added"]
    assert told("add", str(folders.adapter("task:moderation"))).startswith("task:moderation@")
    assert [row[-1] for row in table()] == ["added", "added"]
    assert told("remove", "task:moderation").startswith("task:moderation is no longer in var/adapters")
    assert table() == [own, added]


def test_what_follows_is_said(folders: Folders) -> None:
    follows = "every worker of a service over var/adapters follows with its next request"
    assert follows in told("add", str(folders.adapter("region:ID")))
    assert follows in told("remove", "region:ID")


def test_a_store_may_be_named(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    told("add", str(folders.adapter("region:ID")), "--adapters", "elsewhere")
    assert [entry.name for entry in AdapterStore(Path("elsewhere")).entries()] == ["region:ID"]
    monkeypatch.setenv("WARDLINE_ADAPTERS", "elsewhere")
    assert "region:ID" in told("list")
    assert not STORE.exists()


def test_what_a_service_would_refuse_is_not_added(folders: Folders) -> None:
    """The bundle comes first; then the adapters that were trained over it."""
    told("add", str(folders.adapter("region:ID")))
    before = AdapterStore(STORE).stamp()
    for name, encoder, reason in (
        ("region:ID", "two", "trained over base weights"),
        ("region:UK", "one", "allowed a country of ISO 3166-1"),
        ("base", "one", "adapter: found the name 'base'"),
    ):
        refused = run("add", str(folders.adapter(name, encoder=encoder)))
        assert (refused.exit_code, reason in refused.output) == (2, True), refused.output
        assert len(refused.output.splitlines()) == 1
    assert AdapterStore(STORE).stamp() == before


def test_what_is_refused_is_listed_with_its_reason(folders: Folders) -> None:
    for name in ("region:DE", "region:ID"):
        told("add", str(folders.adapter(name)))
    store = AdapterStore(STORE)
    store.add(folders.adapter("region:IN", encoder="two"))
    shutil.rmtree(STORE / store.entries()[1].folder)
    lines = told("list").splitlines()
    assert [row[1] for row in table()] == ["task:moderation", "region:DE"]
    assert lines[-2].startswith("region:ID is refused: adapter 'region:ID': the files in")
    assert lines[-1].startswith("region:IN is refused: adapter 'region:IN': it was trained over base weights")
    told("remove", "region:ID")
    told("remove", "region:IN")
    assert "refused" not in told("list")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("add", "none"), "adapter none: cannot be read"),
        (("remove", "region:ID"), "adapter: found 'region:ID', allowed none, nothing was added"),
        (("list", "--adapters", "broken"), "adapters.json cannot be read"),
        (("add", "trained", "--adapters", "bundle/bundle.json"), ""),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: tuple[str, ...], reason: str) -> None:
    Path("broken").mkdir()
    Path("broken/adapters.json").write_text("{", encoding="utf-8")
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.output.startswith("Error: ")
    assert reason in result.output
    assert len(result.output.splitlines()) == 1


def test_without_a_model_adapters_are_kept_all_the_same(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the command runs on a machine that has the store and not the bundle."""
    monkeypatch.setenv("WARDLINE_BUNDLE", "nowhere")
    assert "no adapter in var/adapters" in told("list")
    result = run("add", str(folders.adapter("region:ID")))
    assert (result.exit_code, "no model bundle at nowhere" in result.stderr) == (0, True)
    assert [row[1] for row in table()] == ["region:ID"]


@pytest.mark.parametrize("command", ["list", "add", "remove"])
def test_help_helps(command: str) -> None:
    assert "Usage" in told(command, "--help")
    assert command in told("--help")
