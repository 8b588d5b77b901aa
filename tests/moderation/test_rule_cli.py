"""The commands of rules, as typed; the model is a folder with thresholds."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from moderation import cli
from moderation.command_line import DATABASE_VARIABLE
from moderation.decision import Action, Decision, RegionDecision
from moderation.item import Item
from moderation.review.queue import ReviewQueue
from moderation.review.store import Store
from moderation.signals import Signal
from moderation.thresholds import HeadThreshold, Thresholds
from retrieval_shared.bundle import REQUIRED, THRESHOLDS, Manifest, Probe, write_manifest

HEADS = ("gambling", "scam")
CUTS = Thresholds.of(prevalence=0.02, heads=dict.fromkeys(HEADS, HeadThreshold(0.3, 0.6, "by hand", 1, 1)))
RULES = """\
id: shop
version: {version}
rules:
  - {{name: sure-win, head: gambling, kind: terms, terms: [sure win], effect: escalate, mode: active}}
  - {{name: new, head: {head}, kind: regex, pattern: 'call 0900', effect: reject, mode: shadow}}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder with a database's name, a served model, and two sets of rules."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WARDLINE_DEBUG", raising=False)
    monkeypatch.setenv(DATABASE_VARIABLE, "w.db")
    monkeypatch.setenv("WARDLINE_BUNDLE", "bundle")
    monkeypatch.setenv("COLUMNS", "200")
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name in REQUIRED:
        (folder / name).write_bytes(b"")
    (folder / THRESHOLDS).write_text(CUTS.to_json(), encoding="utf-8")
    write_manifest(folder, Manifest("tiny", "1", HEADS, ("base",), ("en",), 256, {}, Probe("x", {})))
    for version in (1, 2):
        Path(f"rules{version}.yaml").write_text(RULES.format(version=version, head="scam"), encoding="utf-8")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["rules", *arguments])


def told(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return str(result.stdout)


def refused(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    return str(result.stderr)


def test_a_set_goes_in_and_out_of_force() -> None:
    assert "shop@1 is a set of 2 rules" in told("validate", "rules1.yaml")
    for version in (1, 2):
        assert f"shop@{version} is in the database" in told("add", f"rules{version}.yaml", "--by", "ann")
        assert f"shop@{version} is in force, published by ann" in told("publish", f"shop@{version}", "--by", "ann")
    listed = [line.split() for line in told("list").splitlines() if "shop@" in line]
    assert [(row[1], row[3], row[5], row[-2]) for row in listed] == [
        ("shop@1", "1", "1", "│"), ("shop@2", "1", "1", "yes"),
    ]  # fmt: skip
    assert "shop@1 is in force again, rolled back by bob" in told("rollback", "shop", "--by", "bob")
    assert "shop@1 is no more in force, withdrawn by bob" in told("withdraw", "shop", "--by", "bob")
    assert "yes" not in told("list")


def test_hits_are_counted_from_the_stored_decisions() -> None:
    told("add", "rules1.yaml")
    new = Signal("rule", "shop@1/new", "scam", "reject", mode="shadow")
    decided = RegionDecision("DE", "DE", Action.APPROVE, (), ("x",), False, signals=(new,))
    decision = Decision("a", "ok", None, None, (decided,), {}, None, {"policy_set": "p@1"})
    store = Store("sqlite:///w.db")
    ReviewQueue(store).record([decision], [Item("a", {"text": "x"})], keep_text=False)
    store.close()
    shown = told("hits", "shop@1")
    assert "shop@1 was found in 1 decisions" in shown
    assert "│ new  │ shadow │ DE     │ approve │ 1         │" in shown


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("validate", "none.yaml"), "rules: found 'none.yaml', which cannot be read"),
        (("validate", "broken.yaml"), "rules broken.yaml: line 5: rules.1.pattern"),
        (("validate", "foreign.yaml"), "rule 'new' speaks for head 'astrology', allowed"),
        (("publish", "shop@9"), "rules: found 'shop@9', known are none"),
        (("hits", "shop"), "rules: found 'shop', known are none"),
        (("rollback", "shop"), "none to go back to"),
        (("withdraw", "shop"), "none to withdraw"),
        (("withdraw", "shop", "--by", " "), "by: found ' ', allowed a name"),
    ],
)
def test_what_is_refused_is_told_in_one_line(arguments: tuple[str, ...], reason: str) -> None:
    text = RULES.format(version=1, head="scam")
    Path("broken.yaml").write_text(text.replace("call 0900", "(a|b"), encoding="utf-8")
    Path("foreign.yaml").write_text(RULES.format(version=1, head="astrology"), encoding="utf-8")
    assert reason in refused(*arguments)


def test_a_set_for_another_model_is_not_published() -> None:
    Path("foreign.yaml").write_text(RULES.format(version=1, head="astrology"), encoding="utf-8")
    told("add", "foreign.yaml")
    assert "astrology" in refused("publish", "shop@1")
    assert "yes" not in told("list")
