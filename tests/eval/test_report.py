"""The page: whole in itself, small, complete, safe."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from eval import report as module
from eval.document import read_json
from eval.report import page, write_report


@pytest.fixture(scope="module")
def html(report: dict[str, Any]) -> str:
    return page(report)


def test_the_page_needs_nothing_from_outside(html: str) -> None:
    assert not re.search(r"<(script|link|img|iframe)\b", html)
    assert not re.search(r'(src|href)="(?!#)', html)
    assert "@import" not in html


def test_title_date_seed_n_and_hash_stand_on_top(html: str, report: dict[str, Any]) -> None:
    top = html[: html.index("<nav>")]
    for wanted in (report["title"], "2026-01-02", "seed 3", f"n = {report['n']}", report["bundle"]["digest"]):
        assert wanted in top


def test_contents_and_figure_list_lead_somewhere(html: str) -> None:
    targets = re.findall(r'href="#([sf]\d+)"', html)
    assert len(targets) > 12
    for target in targets:
        assert html.count(f'id="{target}"') == 1
    assert html.count("<svg") == html.count("<figcaption>") == len([t for t in targets if t.startswith("f")])


def test_every_figure_has_its_n(html: str) -> None:
    for caption in re.findall(r"<figcaption>(.*?)</figcaption>", html):
        assert re.search(r"\bn\b", caption), caption


def test_no_id_is_used_twice(html: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_writing_gives_both_files_and_the_same_document_gives_the_same_page(
    html: str, report: dict[str, Any], tmp_path: Path
) -> None:
    files = write_report(report, tmp_path / "out", name="moderation")
    assert read_json(files.json) == report
    assert files.html.read_text(encoding="utf-8") == html
    assert files.html.stat().st_size < 500_000
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["moderation.html", "moderation.json"]


def test_too_large_a_page_is_refused_but_the_document_is_kept(
    report: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST_PAGE", 10)
    with pytest.raises(ValueError, match="page: found"):
        write_report(report, tmp_path, name="moderation", draw=lambda _: "a long page")
    assert (tmp_path / "moderation.json").is_file()


def test_a_report_without_baseline_second_bundle_or_azure_still_makes_a_page(report: dict[str, Any]) -> None:
    bare = copy.deepcopy(report)
    bare["baseline"] = None
    for macro in (bare["dev"]["macro"], bare["dev"]["macro_english"]):
        macro.update(ap_baseline=None, difference=None)
    bare["rtplx"]["models"] = bare["rtplx"]["models"][1:]
    assert "no baseline in this run" in page(bare)
