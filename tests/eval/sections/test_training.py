"""The training section: a curve per stage, a row per source and language, or one line."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

from eval import plots
from eval.sections.training import training

RECORD: dict[str, Any] = {
    "config": {},
    "data": {
        "sentences": 5000,
        "pairs": 400,
        "sha256": "cd" * 32,
        "languages": {"de": 100, "fr": 100, "th": 200, "nl": 0},
        "sources": {"few & <small>": 100, "many": 300},
    },
    "teacher": {"name": "a teacher", "sha256": "ef" * 32},
    "curves": [
        {"stage": "distil", "steps": 2000, "points": [[0, 4.0], [1000, 2.0], [2000, 1.0]]},
        {"stage": "adapt", "steps": 10, "points": [[10, 1.0]]},
    ],
}


def built(**changes: Any) -> str:
    return "".join(training({"training": {**RECORD, **changes}}).parts)


def test_one_small_plot_per_stage() -> None:
    html = built()
    svg = ET.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])
    assert len([each for each in svg.iter() if each.tag.endswith("polyline")]) == 2
    shown = [each.text for each in svg.iter() if each.tag.endswith("text")]
    assert (shown.count("step"), shown.count("loss")) == (2, 2)
    assert {"distil, 2,000 steps", "adapt, 10 steps"} <= set(shown)
    assert "n = 3 + 1 points." in html


def test_a_long_curve_says_that_it_was_thinned() -> None:
    many = [[i, 1.0] for i in range(plots.MOST_POINTS + 1)]
    assert f"at most {plots.MOST_POINTS} of them drawn" in built(curves=[{"stage": "s", "steps": 9, "points": many}])


def test_pairs_per_source_and_language_most_first() -> None:
    html = built()
    assert "400 pairs of 5,000 sentences" in html
    assert "a teacher" in html
    many, few = html.index("<td>many</td><td>300</td><td>75.0%</td>"), html.index("few &amp; &lt;small&gt;")
    assert many < few
    # Two rows to a column: th and de, fr and nl; then nothing is left for a third.
    rows = ("th</td><td>200</td><td>50.0%</td><td>fr", "de</td><td>100</td><td>25.0%</td><td>nl</td><td>0</td>")
    for row in rows:
        assert row in html


def test_a_record_of_nothing_is_drawn() -> None:
    data = {**RECORD["data"], "languages": {}, "sources": {}}
    assert "<svg" not in built(data=data, curves=[])


def test_an_older_bundle_says_so_in_one_line() -> None:
    [line] = training({"training": None}).parts
    assert "holds no record" in line
