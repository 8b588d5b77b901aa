"""What several sections write into their tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eval.page import interval, number, percent

Part = Mapping[str, Any]


def rate(record: Part) -> list[str]:
    """Return two cells: a share, and what it rests on."""
    return [percent(record["rate"]), f"{record['k']} of n = {record['n']}, 95% {interval(record['interval'])}"]


def signed(value: float | None) -> str:
    """Return a difference with its sign."""
    return "–" if value is None else f"{'+' if value >= 0 else '−'}{number(abs(value))}"


def points(value: float | None) -> str:
    """Return a difference of shares in points."""
    return "–" if value is None else f"{100 * value:.1f}"


def gain(macro: Part) -> str:
    """Return by how much the model leads the baseline, with its interval."""
    if macro["difference"] is None:
        return "no baseline in this run"
    mean = signed(macro["ap"] - macro["ap_baseline"])
    return f"mean gain {mean}, 95% {interval(macro['difference'])} (paired bootstrap over groups)"


def change(value: float | None, *, digits: int, unit: str = "") -> str:
    """Return a difference with its sign, rounded; nothing where there is none."""
    if value is None:
        return ""
    rounded = round(value, digits)
    return f"{'+' if rounded > 0 else '−' if rounded < 0 else ''}{abs(rounded):.{digits}f}{unit}"
