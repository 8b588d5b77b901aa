from __future__ import annotations

from xml.etree import ElementTree

from eval.bench.spreads import bars, spread

SPREAD = {"median": 2.0, "min": 1.0, "max": 4.0, "rounds": [1.0, 2.0, 4.0]}


def test_a_spread_shows_its_rounds() -> None:
    assert spread(SPREAD, 1) == "2.0 (1.0 to 4.0)"
    assert spread({**SPREAD, "rounds": [2.0]}, 0) == "2"
    assert spread(None, 2) == "–"


def test_bars_are_one_per_label_scaled_to_the_greatest_round_and_escaped() -> None:
    root = ElementTree.fromstring(bars([("a < b", SPREAD), ("c", {**SPREAD, "median": 4.0})]))
    namespace = {"svg": "http://www.w3.org/2000/svg"}
    widths = [float(str(bar.get("width"))) for bar in root.findall("svg:rect", namespace)]
    assert widths == [180.0, 360.0]
    assert root.findall("svg:text", namespace)[0].text == "a < b"
