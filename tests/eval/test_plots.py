"""Drawings are well-formed SVG of their own, the same each time, and stand missing values."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import pytest

from eval import plots

CURVE = {
    "head": "scam <b>",
    "n": 10,
    "positives": 2,
    "ap": 0.75,
    "curve": {"recall": [0.5, 1.0], "precision": [1.0, 0.5]},
}
BINS = {"head": "scam", "n": 10, "ece": 0.1, "bins": [{"probability": 0.2, "share": 0.1, "n": 10}]}


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter() if element.tag.endswith("text")]


def rectangles(svg: str) -> list[dict[str, str]]:
    return [dict(element.attrib) for element in ET.fromstring(svg).iter() if element.tag.endswith("rect")]


def test_bars_are_as_long_as_their_values() -> None:
    svg = plots.bars(["en", "de", "fr"], {"share": [0.5, 1.0, None]}, name="fig", x="share")
    lengths = [float(rectangle["width"]) for rectangle in rectangles(svg)]
    assert lengths == [lengths[1] / 2, lengths[1], 0.0]
    assert {"0.50", "1.00", "–", "en", "de", "fr", "share"} <= set(texts(svg))
    assert svg == plots.bars(["en", "de", "fr"], {"share": [0.5, 1.0, None]}, name="fig", x="share")


def test_two_series_have_a_legend() -> None:
    svg = plots.bars(["en"], {"caught": [0.5], "false": [0.25]}, name="fig", x="share")
    assert {"caught", "false"} <= set(texts(svg))
    assert len({rectangle["fill"] for rectangle in rectangles(svg)}) == 2


def test_a_heat_map_has_a_cell_per_value_and_none_for_a_missing_one() -> None:
    svg = plots.heat_map(["a", "b"], ["x"], [[0.5], [None]], name="map", x="across", y="down")
    assert len(rectangles(svg)) == 1
    assert {"50", "a", "b", "x", "across →", "down ↓"} == set(texts(svg))
    dark = rectangles(plots.heat_map(["a"], ["x", "y"], [[0.0, 1.0]], name="map", x="", y=""))
    assert [cell["fill"] for cell in dark] == ["#f0f4f9", "#144278"]


def test_values_below_0_have_a_sign_and_a_colour_of_their_own() -> None:
    svg = plots.heat_map(["a"], ["v", "w", "x", "y"], [[-1.0, -0.2, -0.004, 0.2]], name="map", x="", y="")
    fills = [cell["fill"] for cell in rectangles(svg)]
    assert fills[0] == "#b05414"
    assert len(set(fills)) == 4
    assert {"−100", "−20", "20"} <= set(texts(svg))
    assert not {"0", "−0", "-0"} & set(texts(svg))


def test_curves_name_head_and_n_and_are_escaped() -> None:
    assert {"scam <b> *", "AP 0.75, 2 of n = 10"} <= set(
        texts(plots.precision_recall([{**CURVE, "unlabelled_negatives": True}], name="pr"))
    )
    assert {"scam", "ECE 0.10, n = 10"} <= set(texts(plots.reliability([BINS], name="cal")))


def test_a_curve_runs_where_its_points_lie() -> None:
    root = ET.fromstring(plots.precision_recall([CURVE], name="pr"))
    base, curve = (element.attrib["points"] for element in root.iter() if element.tag.endswith("polyline"))
    assert base == f"0,{0.8 * plots.PANEL:.1f} {plots.PANEL},{0.8 * plots.PANEL:.1f}"
    assert curve == f"{plots.PANEL // 2},0 {plots.PANEL},{plots.PANEL // 2}"


def lowest_corner(label: str, rows: list[str]) -> float:
    """Where the far end of the first column's name stands, turned as it is."""
    svg = plots.heat_map(rows, [label, "b"], [[0.5, 0.5]] * len(rows), name="map", x="", y="")
    [found] = [each for each in ET.fromstring(svg).iter() if each.text == label]
    return float(found.attrib["x"]) - math.cos(math.radians(50)) * plots.LETTER * len(label)


def test_a_long_name_below_a_heat_map_stays_inside() -> None:
    assert lowest_corner("float32, transformer path", ["de"]) >= 0
    assert lowest_corner("x", ["a long name of a row"]) >= 0


def paths(svg: str) -> list[list[tuple[float, float]]]:
    lines = [each.attrib["points"] for each in ET.fromstring(svg).iter() if each.tag.endswith("polyline")]
    return [[(float(x), float(y)) for x, y in (pair.split(",") for pair in line.split())] for line in lines]


def test_curves_have_axes_of_their_own() -> None:
    records = [
        {"title": "first & <b>", "points": [[0, 4.0], [500, 2.5], [1000, 2.0]]},
        {"title": "second", "points": [[0, 0.02], [10, 0.01], [20, None]]},
    ]
    svg = plots.curves(records, name="loss", x="step", y="loss")
    first, second = paths(svg)
    assert first == [(0, 0), (plots.WIDE / 2, 0.75 * plots.HIGH), (plots.WIDE, plots.HIGH)]
    assert second == [(0, 0), (plots.WIDE, plots.HIGH)], "the point without a value is left out"
    assert {"first & <b>", "second", "2", "4", "1000", "0.01", "0.02", "10"} <= set(texts(svg))
    assert texts(svg).count("step") == texts(svg).count("loss") == 2


def test_a_long_curve_is_thinned_and_keeps_its_end() -> None:
    points = [[i, 1.0 + 1 / (i + 1)] for i in range(10 * plots.MOST_POINTS + 3)]
    [line] = paths(plots.curves([{"title": "t", "points": points}], name="n", x="", y=""))
    assert len(line) <= plots.MOST_POINTS
    assert line == sorted(line)
    assert line[-1][0] == plots.WIDE


@pytest.mark.parametrize("points", [[], [[0, 1.0]], [[5, 0.0], [9, 0.0]], [[1, -3.0], [2, -3.0]], [[1, None]]])
def test_curves_without_a_slope_stay_in_their_frame(points: list[list[float]]) -> None:
    [line] = paths(plots.curves([{"title": "t", "points": points}], name="n", x="", y="")) or [[]]
    assert all(0 <= x <= plots.WIDE and 0 <= y <= plots.HIGH for x, y in line)


@pytest.mark.parametrize(
    "svg",
    [
        plots.precision_recall([], name="n"),
        plots.precision_recall([{**CURVE, "curve": {"recall": [], "precision": []}}], name="n"),
        plots.reliability([{**BINS, "bins": []}], name="n"),
        plots.bars([], {"a": []}, name="n", x="share"),
        plots.heat_map([], [], [], name="n", x="", y=""),
        plots.curves([], name="n", x="", y=""),
    ],
)
def test_nothing_to_draw_is_still_a_drawing(svg: str) -> None:
    assert ET.fromstring(svg).attrib["id"] == "n"
