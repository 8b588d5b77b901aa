"""The report on Perspective's scale: measured on made-up votes, drawn, and told in the docs as committed."""

from __future__ import annotations

import json
import lzma
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from eval.cli import app
from eval.document import read_json
from eval.perspective import Options, evaluate, write_perspective
from eval.readme import markers, with_results
from eval.sections.perspective import PERSPECTIVE, page, perspective_results
from eval.votes import VOTES_OF
from moderation.compat.perspective_scores import MAPPING_FILE
from retrieval_shared.bundle import CONFIG, DEFAULT_BUNDLE, Manifest, Probe, read_manifest, write_manifest

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "eval" / "reports" / "perspective.json"
DOCS = ROOT / "docs" / "perspective.md"
POINTS = {"TOXICITY": [[0, 0], [0.5, 0.7], [1, 1]]}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


def voted(i: int, **rest: Any) -> dict[str, Any]:
    """A row of which every second one names all heads and is seen by two or three of three raters."""
    seen = 2 + i // 2 % 2 if i % 2 else i // 2 % 2
    words = " ".join(VOTES_OF.values()) if i % 2 else "tea"
    return {
        "id": str(i), "text": f"{words} {i}", "lang": "en", "kind": "post", "licence": "open",
        "labels": {"toxic": i % 2}, "votes": dict.fromkeys(VOTES_OF.values(), [seen, 3]), "group": f"g{i}", **rest,
    }  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    sources = ("forum", "rtplx_completions", "closed")
    dev = [voted(i, source=sources[i // 2 % 3], licence="sa" if i // 2 % 3 == 2 else "open") for i in range(60)]
    dev.append({"id": "x", "text": "buy toxic", "lang": "en", "kind": "ad", "source": "shop", "labels": {}})
    write(folder / "moderation" / "dev.jsonl.xz", dev)
    raw = [{"raw": {"Toxicity": [5, 4, 1] if i % 2 else [1, 1, 2]}, "idx": str(i)} for i in range(40)]
    prompts = [voted(i, source="EVAL", meta=raw[i], lang=("en", "de")[i // 2 % 2]) for i in range(40)]
    write(folder / "moderation" / "eval" / "rtplx_prompts.jsonl.xz", prompts)
    cases = [{"id": str(i), "text": f"{('tea', 'hate')[i % 2]} {i}", "labels": {"hate": i % 2}} for i in range(4)]
    write(folder / "moderation" / "eval" / "hatecheck.jsonl.xz", cases)
    return folder


@pytest.fixture(scope="module")
def moderator(keyword_moderator: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A moderator that says .9 where a head is named, beside whose bundle a mapping lies."""
    folder = tmp_path_factory.mktemp("bundle")
    (folder / CONFIG).write_text(json.dumps({"data": {"licences": ["open"]}}), encoding="utf-8")
    write_manifest(folder, Manifest("m", "1", (), (), (), 8, {}, Probe("", {})))
    manifest = read_manifest(folder)
    (folder / MAPPING_FILE).write_text(json.dumps({"bundle": manifest.digest, "points": POINTS}), encoding="utf-8")
    return type(keyword_moderator)(SimpleNamespace(manifest=manifest, file=lambda name: folder / name, path=folder))


@pytest.fixture(scope="module")
def measured(moderator: Any, data: Path) -> dict[str, Any]:
    return evaluate(moderator, data, Options(seed=3, resamples=5, now=datetime(2026, 1, 2, tzinfo=UTC)))


def test_only_open_rows_that_people_wrote_stand_for_dev(measured: dict[str, Any]) -> None:
    assert [record["n"] for record in measured["dev"]] == [20] * 5
    assert {record["source"] for record in measured["sources"]} == {"forum", "rtplx_completions", "closed"}
    assert [record["n"] for record in measured["rtplx"]] == [40] * 5
    assert [record["n"] for record in measured["rtplx_english"]] == [20] * 5


def test_the_mapping_is_what_is_measured(measured: dict[str, Any]) -> None:
    toxicity = measured["dev"][0]
    # .9 is mapped to .94 and nothing else comes near: all seen rows are flagged at .9, and no other.
    found = toxicity["mapped"]["thresholds"]["0.9"]
    assert (found["flagged"], found["precision"], found["n_near"]) == (0.5, 1.0, found["n_flagged"])
    assert toxicity["perceived"] == 0.5
    assert measured["bundle"]["name"] == "m@1"


def test_what_is_flagged_without_reason_is_told(measured: dict[str, Any]) -> None:
    labelled, ordinary = measured["benign"]["all"]
    assert (labelled["n"], labelled["thresholds"]["0.7"]["k"]) == (20, 0)
    assert (ordinary["n"], ordinary["thresholds"]["0.7"]["k"]) == (1, 1)
    assert measured["severe"]["n"] == 40
    assert [(record["heads"], record["auc"]) for record in measured["hatecheck"]][1] == (["hate"], 1.0)


def test_the_page_and_the_docs_hold_every_attribute(measured: dict[str, Any]) -> None:
    text, html = perspective_results(measured), page(measured)
    for attribute in VOTES_OF:
        assert f"| dev, {attribute}, n = 20 | .7 |" in text
        assert attribute in html
    assert html.count("<svg") == 3
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(widths) == 1, "a row of another width breaks the table"
    assert "100.0% at .7" in text


def test_a_mapping_of_another_bundle_is_refused(keyword_moderator: Any, data: Path) -> None:
    with pytest.raises(ValueError, match=r"found no perspective.json fitted to first@1; .* train perspective"):
        evaluate(keyword_moderator, data)


def test_the_docs_are_renewed_with_the_other_figures(
    measured: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eval.readme.results", lambda _: "r")
    monkeypatch.setattr("eval.readme.card_results", lambda _: "r")
    for name, block in (("file", "results"), ("card", "results"), ("migration", PERSPECTIVE)):
        (tmp_path / name).write_text("\n".join(markers(block)), encoding="utf-8")
    (tmp_path / "choices").write_text("no figures", encoding="utf-8")
    write_perspective(measured, tmp_path)
    (tmp_path / "report").write_text("{}", encoding="utf-8")
    named = [f"--{name}={tmp_path / name}" for name in ("report", "file", "card", "encoder", "choices", "migration")]
    result = CliRunner().invoke(app, ["readme", *named, f"--perspective={tmp_path / 'perspective.json'}"])
    assert result.exit_code == 0, result.output
    start, end = markers(PERSPECTIVE)
    assert (tmp_path / "migration").read_text(encoding="utf-8") == f"{start}\n{perspective_results(measured)}\n{end}"


def test_the_command_writes_both_files_and_the_page_is_drawn_again(
    moderator: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import moderation

    monkeypatch.setattr(moderation, "Moderator", type("M", (), {"load": lambda *_: moderator}), raising=False)
    arguments = ["perspective", "--data", str(data), "--out", str(tmp_path), "--resamples", "3", "--quick"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    report = read_json(tmp_path / "perspective.json")
    assert report["quick"]
    assert (tmp_path / "perspective.html").read_text(encoding="utf-8") == page(report)
    drawn = CliRunner().invoke(app, ["page", "--report", str(tmp_path / "perspective.json")])
    assert drawn.exit_code == 0, drawn.output
    assert (tmp_path / "perspective.html").read_text(encoding="utf-8") == page(report)


def test_writing_gives_both_files(measured: dict[str, Any], tmp_path: Path) -> None:
    files = write_perspective(measured, tmp_path)
    assert read_json(files.json) == measured
    assert files.html.read_text(encoding="utf-8") == page(measured)


@pytest.mark.skipif(not REPORT.is_file(), reason="no committed report on Perspective's scale")
def test_the_figures_of_the_docs_are_those_of_the_committed_report() -> None:
    text, report = DOCS.read_text(encoding="utf-8"), read_json(REPORT)
    new = with_results(text, perspective_results(report), block=PERSPECTIVE)
    assert new == text, "run `python wardline.py eval readme`"
    assert all(mark in text for mark in markers(PERSPECTIVE))


@pytest.mark.skipif(not REPORT.is_file(), reason="no committed report on Perspective's scale")
def test_the_committed_report_is_of_the_shipped_mapping_and_no_quick_run() -> None:
    report, mapping = read_json(REPORT), read_json(DEFAULT_BUNDLE / MAPPING_FILE)
    assert report["bundle"]["digest"] == read_manifest(DEFAULT_BUNDLE).digest == mapping["bundle"]
    assert report["points"] == mapping["points"]
    assert report["fit"] == mapping["fit"]
    assert not report["quick"]
