"""Every section says its figures and stands alone."""

from __future__ import annotations

from typing import Any

import pytest

from eval import plots
from eval.page import Section
from eval.report import SECTIONS
from eval.sections import ads, public, suites


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing is slow and has its own tests."""
    for name in ("precision_recall", "reliability", "bars", "heat_map"):
        monkeypatch.setattr(plots, name, lambda *_, **__: "<svg></svg>")


def text(section: Section) -> str:
    return "".join(section.parts)


def test_every_section_has_a_title_and_something_to_show(report: dict[str, Any]) -> None:
    built = [section(report) for section in SECTIONS]
    assert len({section.title for section in built}) == len(SECTIONS) == 12
    silent = {section.title for section in built if "<table>" not in text(section)}
    assert silent == {
        "What the heads learnt, and what by heart", "Region adapters", "Balancing the gradients of the heads"
    }, "of what nobody recorded they say so"  # fmt: skip


def test_the_summary_says_when_a_run_was_quick(report: dict[str, Any]) -> None:
    assert "quick" not in text(public.summary(report))
    assert "quick run" in text(public.summary({**report, "quick": True}))


def test_positives_only_heads_are_marked(report: dict[str, Any]) -> None:
    assert "<td>drugs *</td>" in text(public.dev(report))
    assert "<td>hate</td>" in text(public.dev(report))


def test_azure_stands_only_beside_the_bundle_that_never_saw_the_set(report: dict[str, Any]) -> None:
    built = text(suites.rtplx(report))
    without, trained = built.split("trained without RTP-LX")[1].split("trained with RTP-LX")
    azure = next(record for record in report["rtplx"]["models"][0]["heads"] if record["head"] == "hate")["auc_azure"]
    shown = f"<td>{azure:.3f}</td>".replace("0.", ".")
    assert shown in without
    assert shown not in trained.split("</table>")[0]
    assert "secret-prompt" not in built


def test_ads_show_every_region_and_language(report: dict[str, Any]) -> None:
    built = text(ads.ads(report))
    assert "<td>DE</td>" in built
    assert "<td>mean</td>" in built
    assert "served" in built
