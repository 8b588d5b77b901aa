"""The commands of policies, as typed, over a database of decisions; the model is a folder with thresholds."""

from __future__ import annotations

import getpass
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from moderation import cli
from moderation.command_line import DATABASE_VARIABLE
from moderation.decision import Action, Context, Decision, decide
from moderation.item import Item
from moderation.policy_document import POLICIES, load_policy
from moderation.policy_store import PolicyStore
from moderation.review.queue import ReviewQueue
from moderation.review.store import Store
from moderation.thresholds import HeadThreshold, Thresholds
from retrieval_shared.bundle import REQUIRED, THRESHOLDS, Manifest, Probe, write_manifest
from retrieval_shared.language import Language

POLICY = load_policy("ads-default@1")
DOCUMENT = (POLICIES / "ads-default@1.yaml").read_text(encoding="utf-8")
HEADS = tuple(head.name for head in POLICY.heads)
CUTS = Thresholds.of(prevalence=0.02, heads=dict.fromkeys(HEADS, HeadThreshold(0.3, 0.6, "by hand", 1, 1)))
STRICTER = DOCUMENT.replace("version: 1", "version: 3", 1).replace("effect: LIMITED", "effect: PROHIBITED")
DAYS = (datetime(2026, 11, 20, 8, tzinfo=UTC), datetime(2026, 11, 21, 8, tzinfo=UTC))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder with a database's name, a served model, and a policy of one's own."""
    monkeypatch.chdir(tmp_path)
    for name in ("WARDLINE_DEBUG", "WARDLINE_POLICY", "WARDLINE_KEYS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(DATABASE_VARIABLE, "w.db")
    monkeypatch.setenv("WARDLINE_BUNDLE", "bundle")
    monkeypatch.setenv("COLUMNS", "250")
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name in REQUIRED:
        (folder / name).write_bytes(b"")
    (folder / THRESHOLDS).write_text(CUTS.to_json(), encoding="utf-8")
    write_manifest(folder, Manifest("tiny", "1", HEADS, ("base",), ("en",), 256, {}, Probe("x", {})))
    Path("stricter.yaml").write_text(STRICTER, encoding="utf-8")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["policies", *arguments])


def told(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return str(result.stdout)


def cells(output: str) -> list[list[str]]:
    """The rows of the tables in an output."""
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in output.splitlines() if "│" in line]


def log(n: int = 12, *, wrong: int | None = None, gone_from: int = 1_000) -> None:
    """Log n decisions by ads-default@1: every second ad is gambling, in GB and in AE, half of them a day later.

    Args:
        n: how many.
        wrong: number of one that is logged as approved.
        gone_from: number of the first one by a policy that nobody has.
    """
    store = Store("sqlite:///w.db")
    PolicyStore(store.database).remember(CUTS)
    versions = {"policy_digest": POLICY.digest[:12], "thresholds": CUTS.id}
    for k in range(n):
        at, region = DAYS[k >= n // 2], ("GB", "AE")[k % 4 // 2]
        scores = {name: 0.9 if name == "gambling" and k % 2 else 0.1 for name in HEADS}
        made = decide(scores, region=region, policy=POLICY, thresholds=CUTS, context=Context(), at=at)
        if k == wrong:
            made = replace(made, action=Action.APPROVE, reasons=("[i]",))
        name = f"[b]ad-{k}"  # no markup
        by = versions | {"policy_set": POLICY.ref if k < gone_from else "gone@7"}
        decision = Decision(name, "ok", None, Language("en", 1.0, True), (made,), scores, None, by, decided_at=at)
        queue = ReviewQueue(store, clock=lambda at=at: at)  # type: ignore[misc]
        queue.record([decision], [Item(id=name, fields={"text": "x"}, regions=(region,))], keep_text=False)
    store.close()


def in_force() -> str:
    """The version in force by the store, else by what is shipped."""
    store = Store("sqlite:///w.db")
    found = PolicyStore(store.database, [POLICY, load_policy("ads-default@2")]).in_force("ads-default")
    store.close()
    return found.ref if found else "none"


def test_a_version_goes_from_a_file_into_force_and_back() -> None:
    assert "ads-default@3 is a policy" in told("validate", "stricter.yaml")
    assert "ads-default@3 is in the database" in told("add", "stricter.yaml", "--by", "ann")
    assert in_force() == "none"
    assert "decides: ads-default@2" in told("list")
    assert told("publish", "ads-default@1", "--by", "ann") == "ads-default@1 is in force, published by ann\n"
    assert told("publish", "ads-default@3", "--by", "bob") == "ads-default@3 is in force, published by bob\n"
    listed = {row[0]: row[1:] for row in cells(told("list"))}
    assert listed["ads-default@1"][-1] == listed["ads-default@2"][-1] == ""
    assert listed["ads-default@3"][-1].startswith("since 20")
    assert listed["ads-default@3"][-1].endswith("published by bob")
    assert listed["ads-default@3"][2] == load_policy(Path("stricter.yaml")).digest[:12]
    assert "ads-default@1 is in force again, rolled back by eve" in told("rollback", "ads-default", "--by", "eve")
    assert in_force() == "ads-default@1"
    shown = told("show", "ads-default@1")
    assert [word in shown for word in ("published by ann", "rolled back to by eve", "published by bob")] == [
        True, True, False,
    ]  # fmt: skip


def test_a_pinned_service_is_told_as_it_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    told("publish", "ads-default@2", "--by", "ann")
    monkeypatch.setenv("WARDLINE_POLICY", "ads-default@1")
    assert "decides: ads-default@1" in told("list")
    monkeypatch.setenv("WARDLINE_POLICY", "stricter.yaml")
    assert "decides: ads-default@3" in told("list")


def test_who_published_is_the_user_of_the_system_or_who_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "root-of-the-box")
    assert "published by root-of-the-box" in told("publish", "ads-default@1")
    assert "published by ann" in told("publish", "ads-default@2", "--by", " ann ")

    def nobody() -> str:
        raise KeyError("uid 1000")

    monkeypatch.setattr(getpass, "getuser", nobody)
    for arguments in (("publish", "ads-default@1"), ("publish", "ads-default@1", "--by", " ")):
        refused = run(*arguments)
        assert (refused.exit_code, "allowed a name; give one with --by" in refused.output) == (2, True)
    assert in_force() == "ads-default@2"


def test_a_policy_is_shown_with_what_differs() -> None:
    shown = told("show", "ads-default@2")
    row = next(row for row in cells(shown) if row[0] == "political")
    assert row[:4] == ["political", "topic", "LIMITED", "3"]
    assert row[-1] == "AE BR DE EU FR GB ID IN JP TR US"
    assert "group EU: AT BE" in shown
    assert f"digest {load_policy('ads-default@2').digest}" in shown
    assert "ads-default@3" in told("show", "stricter.yaml")


def test_a_diff_is_a_table_by_region_and_head_or_json() -> None:
    rows = cells(told("diff", "ads-default@1", "ads-default@2"))
    assert ["IN-GJ", "alcohol_tobacco", "PROHIBITED, severity 3", "PROHIBITED, severity 4"] in rows
    assert ["DE", "gambling", "LIMITED, severity 2", "FULLY_LIMITED, severity 2"] in rows
    assert any(row[0] == "NL" and row[1] == "political" for row in rows)
    found = json.loads(told("diff", "ads-default@1", "stricter.yaml", "--json"))
    assert (found["before"], found["after"]) == ("ads-default@1", "ads-default@3")
    assert {(row["before"]["effect"], row["after"]["effect"]) for row in found["changes"]} == {
        ("LIMITED", "PROHIBITED")
    }
    assert "every other" in told("diff", "ads-default@1", "stricter.yaml")
    assert "no rule differs" in told("diff", "ads-default@1", "ads-default@1")


def test_a_backtest_counts_by_region_and_head_and_shows_examples() -> None:
    """12 decisions, 3 of them gambling in GB, which is limited there; in AE it is rejected as it was."""
    log()
    output = told("backtest", "stricter.yaml", "--examples", "2")
    assert output.startswith(f"12 decisions under ads-default@3 and {CUTS.id}: 3 flip\n")
    rows = cells(output)
    assert [row for row in rows if row[0] in {"GB", "AE"}] == [
        ["AE", "approve", "approve", "3", ""],
        ["AE", "reject", "reject", "3", ""],
        ["GB", "approve", "approve", "3", ""],
        ["GB", "limit", "reject", "3", "flip"],
    ]
    assert ["gambling", "LIMITED limit", "PROHIBITED reject", "3"] in rows
    examples = [row for row in rows if row[0].startswith("[b]ad-")]
    assert [row[:4] for row in examples] == [["[b]ad-1", "GB", "limit", "reject"], ["[b]ad-5", "GB", "limit", "reject"]]
    assert "gambling: probability 0.900" in examples[0][4]


def backtested(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(told("backtest", *arguments, "--json"))
    return found


def test_a_backtest_may_be_narrowed_and_have_other_thresholds() -> None:
    log()
    assert backtested("ads-default@1")["flips"] == 0
    assert backtested("stricter.yaml", "--region", "AE")["decisions"] == 6
    assert backtested("stricter.yaml", "--limit", "5")["decisions"] == 5
    for since, count in (("2026-11-21", 6), ("2026-11-21T08:00:00", 6), ("2026-11-21T10:00:01+0200", 0)):
        assert backtested("ads-default@1", "--since", since)["decisions"] == count
    loose = Thresholds.of(prevalence=0.02, heads=dict.fromkeys(HEADS, HeadThreshold(0.95, 0.95, "by hand", 1, 1)))
    Path("loose.json").write_text(loose.to_json(), encoding="utf-8")
    found = backtested("ads-default@1", "--thresholds", "loose.json")
    assert (found["thresholds"], found["flips"]) == (loose.id, 6)
    assert backtested("ads-default@1", "--thresholds", CUTS.id)["flips"] == 0
    assert in_force() == "none"


def test_a_replay_proves_that_every_decision_comes_out_again() -> None:
    log()
    told("publish", "ads-default@2", "--by", "ann")  # what is in force now does not matter
    assert told("replay") == "12 decisions, 12 came out again word for word\n"
    assert told("replay", "--region", "GB", "--since", "2026-11-21").startswith("2 decisions, 2 came out")
    assert told("replay", "--limit", "5").startswith("5 decisions, 5 came out")


def test_a_replay_names_what_does_not_come_out_again() -> None:
    """One decision in two ways, and 30 decisions by a policy that nobody has."""
    log(42, wrong=1, gone_from=12)
    result = run("replay")
    assert result.exit_code == 1
    assert result.stdout.startswith("42 decisions, 11 came out again word for word\n")
    rows = cells(result.stdout)
    assert rows[0] == ["2", "[b]ad-1", "action", "approve", "limit"]
    assert rows[1][:4] == ["2", "[b]ad-1", "reasons", "('[i]',)"]
    assert rows[2:] == [[str(k), f"[b]ad-{k - 1}", "policy", "gone@7", "None"] for k in range(13, 31)]
    assert result.stdout.endswith("and 12 decisions more\n")


WRONG = "id: shop\nversion: 1\nregions: {}\nheads:\n  - name: poker\n    kind: game\n"
FOREIGN = (
    "id: shop\nversion: 1\nregions: {}\n"
    "heads: [{name: poker, kind: topic, definition: x, default: {effect: ALLOWED, severity: 1}}]\n"
)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("validate", "wrong.yaml"), "policy wrong.yaml: line 5: heads.0: "),
        (("validate", "foreign.yaml"), "rules without a head of the model ['poker']"),
        (("validate", "none.yaml"), "policy: found 'none.yaml', which cannot be read"),
        (("add", "wrong.yaml"), "policy wrong.yaml: line 5: "),
        (("add", "edited.yaml"), "policy edited.yaml: ads-default@1 is there with other content"),
        (("show", "ads-default@9"), "policy: found 'ads-default@9', known are ads-default@1, ads-default@2"),
        (("diff", "ads-default@1", "none"), "policy: found 'none'"),
        (("publish", "none@1"), "policy: found 'none@1'"),
        (("rollback", "ads-default"), "ads-default: no version was in force before"),
        (("backtest", "wrong.yaml"), "policy wrong.yaml: line 5: "),
        (("backtest", "foreign.yaml"), "head: found 'drugs', policy shop@1 has poker"),
        (("backtest", "ads-default", "--region", "UK"), "region: found 'UK'"),
        (("backtest", "ads-default", "--thresholds", "thr_0"), "thresholds: found 'thr_0', allowed a .json file"),
        (("backtest", "ads-default", "--thresholds", "none.json"), "No such file"),
        (("replay", "--region", "de"), "region: found 'de'"),
        (("list", "--db", "mysql://x/y"), "url: found 'mysql'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: tuple[str, ...], reason: str) -> None:
    log(4)
    Path("wrong.yaml").write_text(WRONG, encoding="utf-8")
    Path("foreign.yaml").write_text(FOREIGN, encoding="utf-8")
    Path("edited.yaml").write_text(DOCUMENT.replace("severity: 4", "severity: 3"), encoding="utf-8")
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.output.startswith("Error: ")
    assert len(result.output.splitlines()) == 1
    assert reason in result.output
    assert in_force() == "none"


def test_what_the_model_cannot_decide_by_is_added_and_not_published() -> None:
    Path("foreign.yaml").write_text(FOREIGN, encoding="utf-8")
    told("add", "foreign.yaml")
    refused = run("publish", "shop@1")
    assert (refused.exit_code, "heads without a rule" in refused.output) == (2, True)


def test_without_a_model_a_document_is_checked_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARDLINE_BUNDLE", "nowhere")
    result = run("validate", "stricter.yaml")
    assert (result.exit_code, "ads-default@3 is a policy" in result.stdout) == (0, True)
    assert "heads not compared with the model's: no model bundle at nowhere" in result.stderr
    assert run("publish", "ads-default@1").exit_code == 2


@pytest.mark.parametrize(
    "command", ["list", "show", "validate", "add", "diff", "backtest", "publish", "rollback", "replay"]
)
def test_help_helps(command: str) -> None:
    assert "Usage" in told(command, "--help")
    assert command in told("--help")
