"""Drawings are well-formed SVG of their own, the same each time, and stand missing values."""

from __future__ import annotations

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


@pytest.mark.parametrize(
    "svg",
    [
        plots.precision_recall([], name="n"),
        plots.precision_recall([{**CURVE, "curve": {"recall": [], "precision": []}}], name="n"),
        plots.reliability([{**BINS, "bins": []}], name="n"),
        plots.bars([], {"a": []}, name="n", x="share"),
        plots.heat_map([], [], [], name="n", x="", y=""),
    ],
)
def test_nothing_to_draw_is_still_a_drawing(svg: str) -> None:
    assert ET.fromstring(svg).attrib["id"] == "n"
