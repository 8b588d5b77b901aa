"""Figures in running text, and that the committed pages hold those of the committed report."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.document import read_json
from eval.figures import value_at, with_figures

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "eval" / "reports" / "moderation.json"
DOCUMENT = {
    "dev": {"ap": 0.86012, "heads": [{"head": "hate", "auc": 0.5}, {"head": "drugs", "auc": 1.0}]},
    "loss": [{"transform": "leet", "loss": -0.0063}],
    "n": 157,
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("macro AP .738 [dev.ap] of", "macro AP .860 [dev.ap] of"),
        ("0.7 [dev.ap]", "0.9 [dev.ap]"),
        ("in 7.5% [dev.ap] of", "in 86.0% [dev.ap] of"),
        ("leet 9.9 points [loss.leet.loss],", "leet -0.6 points [loss.leet.loss],"),
        (".1 [dev.heads.hate.auc] .100 [dev.heads.drugs.auc]", ".5 [dev.heads.hate.auc] 1.000 [dev.heads.drugs.auc]"),
        ("1.000 [dev.ap]", ".860 [dev.ap]"),
        ("a figure\n.111\n[dev.ap]", "a figure\n.860\n[dev.ap]"),
        ("v1.5 and [text](a.md), .7 [see there] and 3 [dev.ap](link)", None),
    ],
)
def test_a_figure_that_names_its_path_is_renewed(text: str, expected: str | None) -> None:
    found = with_figures(text, DOCUMENT)
    assert found == (text if expected is None else expected)
    assert with_figures(found, DOCUMENT) == found


@pytest.mark.parametrize("path", ["dev.none", "dev.heads.scam.auc", "dev.heads", "n.more"])
def test_a_path_without_a_number_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=rf"figure \[{path}\]: found no number"):
        value_at(DOCUMENT, path)
    with pytest.raises(ValueError, match="found no number"):
        with_figures(f".5 [{path}]", DOCUMENT)


@pytest.mark.skipif(not REPORT.is_file(), reason="no committed report")
def test_the_committed_figures_are_those_of_the_committed_report() -> None:
    text = (ROOT / "docs" / "choices.md").read_text(encoding="utf-8")
    assert text.count("[dev.") > 3
    assert with_figures(text, read_json(REPORT)) == text, "run `python wardline.py eval readme`"
