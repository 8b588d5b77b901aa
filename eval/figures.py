"""Figures in running text, each followed by the path of its value in a report: `.860 [dev.macro_english.ap]`.

Written so, a figure can be renewed when the report is, and a reader can look it up. `%` and `points` stand for
hundredths; a figure keeps its decimals.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_FIGURE = re.compile(
    r"(?<![\w.])(?P<shown>-?\d*\.?\d+)(?P<unit>%| points|)(?P<gap>\s)\[(?P<path>\w+\.[\w.-]+)\](?!\()", re.ASCII
)
NAMES = ("head", "transform", "name", "language", "lang")
"""Keys by one of which an element of a list is known."""


def with_figures(text: str, report: Mapping[str, Any]) -> str:
    """Return `text` with every figure that names a path replaced by the value that the report holds there.

    Raises:
        ValueError: a path leads to no number.
    """

    def renewed(match: re.Match[str]) -> str:
        shown, unit, gap, path = (match[part] for part in ("shown", "unit", "gap", "path"))
        decimals = len(shown.partition(".")[2])
        value = value_at(report, path) * (100 if unit else 1)
        figure = f"{value:.{decimals}f}"
        # As the tables write it; a shown 1.000 must not bring a zero along when it falls.
        if not unit and not shown.lstrip("-").startswith("0"):
            figure = re.sub(r"^(-?)0\.", r"\1.", figure)
        return f"{figure}{unit}{gap}[{path}]"

    return _FIGURE.sub(renewed, text)


def value_at(report: Mapping[str, Any], path: str) -> float:
    """Return the number at a dotted path; an element of a list goes by its name.

    Raises:
        ValueError: there is none.
    """
    found: Any = report
    for part in path.split("."):
        if isinstance(found, Mapping):
            found = found.get(part)
        elif isinstance(found, Sequence) and not isinstance(found, str):
            found = next((each for each in found if any(each.get(name) == part for name in NAMES)), None)
        else:
            found = None
    if not isinstance(found, int | float):
        raise ValueError(f"figure [{path}]: found no number there in the report")
    return float(found)
