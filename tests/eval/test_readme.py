"""Generated tables, and that README and model card hold exactly those of the committed report."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from eval.document import read_json
from eval.readme import ENCODER, RESULTS, card_results, encoder_results, markers, results, update_file, with_results

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "eval" / "reports" / "moderation.json"
ENCODER_REPORT = ROOT / "eval" / "reports" / "encoder.json"
START, END = markers(RESULTS)


@pytest.mark.skipif(not REPORT.is_file(), reason="no committed report")
@pytest.mark.parametrize(("file", "make"), [("README.md", results), ("models/default/MODEL_CARD.md", card_results)])
def test_the_committed_figures_are_those_of_the_committed_report(file: str, make: Any) -> None:  # noqa: ANN401
    text = (ROOT / file).read_text(encoding="utf-8")
    assert with_results(text, make(read_json(REPORT))) == text, "run `python wardline.py eval readme`"


@pytest.mark.skipif(not ENCODER_REPORT.is_file(), reason="no committed report of an encoder")
@pytest.mark.parametrize("file", ["README.md", "models/default/MODEL_CARD.md"])
def test_the_committed_encoder_figures_are_those_of_the_committed_report(file: str) -> None:
    text, report = (ROOT / file).read_text(encoding="utf-8"), read_json(ENCODER_REPORT)
    assert with_results(text, encoder_results(report), block=ENCODER) == text, "run `python wardline.py eval readme`"
    assert not report["quick"]


@pytest.mark.skipif(not REPORT.is_file(), reason="no committed report")
def test_the_committed_report_is_of_the_shipped_bundle_and_no_quick_run() -> None:
    from retrieval_shared.bundle import DEFAULT_BUNDLE, load_bundle

    report = read_json(REPORT)
    assert report["bundle"]["digest"] == load_bundle(DEFAULT_BUNDLE).manifest.digest
    assert not report["quick"]


def test_the_tables_hold_every_head_and_the_stamp(report: dict[str, Any]) -> None:
    text = results(report)
    assert "first@1" in text
    assert "seed 3" in text
    for head in report["thresholds"]:
        assert f"| {head}" in text
    lines = [line for line in text.splitlines() if line.startswith("| ") or line.startswith("| ---")]
    tables = text.split("\n\n")
    for table in tables:
        widths = {line.count("|") for line in table.splitlines() if line.startswith("|")}
        assert len(widths) <= 1, "a row of another width breaks the table"
    assert len(lines) > len(report["thresholds"])


def test_where_the_baseline_wins_is_said(report: dict[str, Any]) -> None:
    assert "still wins on: " in results(report)
    worse = copy.deepcopy(report)
    record = next(record for record in worse["dev"]["heads"] if record["head"] == "hate")
    record["ap"], record["english"]["ap"] = 0.1, 0.1
    assert "hate (English)" in results(worse)
    assert "hate (all languages)" in results(worse)
    assert "not fitted" in results({**report, "baseline": None})


def test_only_the_bundle_without_the_rows_stands_beside_azure(report: dict[str, Any]) -> None:
    lines = [line for line in results(report).splitlines() if "RTP-LX" in line]
    assert sum("Azure" in line for line in lines) == 3
    assert all("Azure" not in line for line in lines if "in domain" in line)


def test_the_card_adds_languages_and_disguises(report: dict[str, Any]) -> None:
    text = card_results(report)
    assert text.startswith(results(report))
    for transform in report["robustness"]["all"]["transforms"]:
        assert f"| {transform['transform']} |" in text


def test_results_stand_between_the_markers_and_a_second_time_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text(f"before\n{START}\nold\n{END}\nafter\n", encoding="utf-8")
    assert update_file(file, "new")
    assert file.read_text(encoding="utf-8") == f"before\n{START}\nnew\n{END}\nafter\n"
    assert not update_file(file, "new")


@pytest.mark.parametrize("text", ["", START, f"{END} {START}", f"{START}{START}{END}"])
def test_missing_markers_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="markers"):
        with_results(text, "new")


def test_blocks_do_not_touch_each_other() -> None:
    first, last = markers(ENCODER)
    text = f"{START}\na\n{END}\n{first}\nb\n{last}\n"
    assert with_results(text, "c", block=ENCODER) == f"{START}\na\n{END}\n{first}\nc\n{last}\n"
    with pytest.raises(ValueError, match="<!-- encoder:start -->"):
        with_results(f"{START}\na\n{END}\n", "c", block=ENCODER)
