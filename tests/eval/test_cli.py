"""The commands: where the report goes, and what a user sees when something is missing."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from eval.cli import app
from eval.document import read_json, write_json
from eval.page import number
from eval.readme import RESULTS, markers

RUNNER = CliRunner()
START, END = markers(RESULTS)
FIGURE = "dev.macro.ap"


def test_a_report_is_measured_and_written(
    made_up_data: Path, keyword_moderator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import moderation

    monkeypatch.setattr(moderation, "Moderator", type("M", (), {"load": lambda *_: keyword_moderator}), raising=False)
    arguments = ["moderation", "--data", str(made_up_data), "--out", str(tmp_path), "--quick", "--no-baseline"]
    result = RUNNER.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "moderation.html" in result.output
    assert read_json(tmp_path / "moderation.json")["quick"]


def test_without_data_the_user_is_told_what_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WARDLINE_DATA", raising=False)
    result = RUNNER.invoke(app, ["moderation"])
    assert result.exit_code == 2
    assert "WARDLINE_DATA" in result.output
    assert "Traceback" not in result.output


def test_a_missing_bundle_is_named(made_up_data: Path, tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["moderation", "--data", str(made_up_data), "--bundle", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert "no model bundle" in result.output


def test_readme_and_card_are_rewritten(report: dict[str, Any], tmp_path: Path) -> None:
    write_json(tmp_path / "moderation.json", report)
    for name in ("README.md", "CARD.md"):
        (tmp_path / name).write_text(f"a\n{START}\n{END}\nb\n", encoding="utf-8")
    (tmp_path / "choices.md").write_text(f"AP .000 [{FIGURE}].\n", encoding="utf-8")
    arguments = ["readme", "--report", str(tmp_path / "moderation.json"), "--file", str(tmp_path / "README.md")]
    arguments += ["--card", str(tmp_path / "CARD.md"), "--encoder", str(tmp_path / "none.json")]
    arguments += ["--choices", str(tmp_path / "choices.md"), "--perspective", str(tmp_path / "none.json")]
    assert "rewritten" in RUNNER.invoke(app, arguments).output
    assert "first@1" in (tmp_path / "CARD.md").read_text(encoding="utf-8")
    choices = (tmp_path / "choices.md").read_text(encoding="utf-8")
    assert choices == f"AP {number(report['dev']['macro']['ap'])} [{FIGURE}].\n"
    assert "already equal" in RUNNER.invoke(app, arguments).output


def test_a_page_is_drawn_again_from_its_document(
    report: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eval.report.SECTIONS", ())
    write_json(tmp_path / "moderation.json", copy.deepcopy(report))
    assert RUNNER.invoke(app, ["page", "--report", str(tmp_path / "moderation.json")]).exit_code == 0
    assert (tmp_path / "moderation.html").is_file()
    assert RUNNER.invoke(app, ["page", "--report", str(tmp_path / "none.json")]).exit_code == 2


@pytest.mark.parametrize(("part", "module"), [("encoders", "eval.encoder"), ("stacks", "eval.bench.page")])
def test_every_kind_of_report_is_drawn_by_its_own_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, module: str
) -> None:
    monkeypatch.setattr(f"{module}.page", lambda document: f"drawn from {', '.join(document)}")
    write_json(tmp_path / "some.json", {part: []})
    assert RUNNER.invoke(app, ["page", "--report", str(tmp_path / "some.json")]).exit_code == 0
    assert (tmp_path / "some.html").read_text(encoding="utf-8") == f"drawn from {part}"
    write_json(tmp_path / "other.json", {"title": "x"})
    result = RUNNER.invoke(app, ["page", "--report", str(tmp_path / "other.json")])
    assert (result.exit_code, "expected a report of this project" in result.output) == (2, True)


def test_the_bench_refuses_counts_that_would_never_end() -> None:
    result = RUNNER.invoke(app, ["serving", "--rounds", "0"])
    assert result.exit_code == 2
    assert "rounds: found 0" in result.output
