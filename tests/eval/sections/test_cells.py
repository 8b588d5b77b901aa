"""Cells as readers see them."""

from __future__ import annotations

from eval.sections.cells import change, gain, points, rate, signed


def test_cells() -> None:
    assert rate({"rate": 0.25, "k": 1, "n": 4, "interval": {"low": 0.05, "high": 0.7}}) == [
        "25.0%",
        "1 of n = 4, 95% .05 to .70",
    ]
    assert (signed(0.0512), signed(-0.2), signed(None)) == ("+.051", "−.200", "–")
    assert (points(0.0312), points(None)) == ("3.1", "–")


def test_gain() -> None:
    macro = {"ap": 0.8, "ap_baseline": 0.7, "difference": {"low": 0.05, "high": 0.15}}
    assert gain(macro) == "mean gain +.100, 95% .05 to .15 (paired bootstrap over groups)"
    assert gain({**macro, "difference": None}) == "no baseline in this run"


def test_changes_are_rounded_before_they_get_a_sign() -> None:
    assert (change(0.26, digits=1), change(-0.26, digits=1, unit=" pt")) == ("+0.3", "−0.3 pt")
    assert (change(0.04, digits=1), change(-0.04, digits=1), change(-3, digits=0)) == ("0.0", "0.0", "−3")
    assert change(None, digits=1) == ""
