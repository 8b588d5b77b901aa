"""Numbers as readers see them, and a page that escapes what it is given."""

from __future__ import annotations

import pytest

from eval.page import SectionBuilder, interval, number, percent, render


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.8124, ".812"), (1.0, "1.000"), (0.0, ".000"), (-0.25, "-.250"), (0.9999, "1.000"), (None, "–")],
)
def test_numbers(value: float | None, shown: str) -> None:
    assert number(value) == shown


def test_per_cent_and_intervals() -> None:
    assert percent(0.1234) == "12.3%"
    assert percent(None) == "–"
    assert interval({"low": 0.5, "high": 0.75}) == ".50 to .75"
    assert interval({"low": None, "high": None}) == "–"
    assert interval(None) == "–"


def test_everything_but_the_drawing_is_escaped() -> None:
    evil = "<script>&"
    built = SectionBuilder(evil).text(evil).table([evil], [[evil], [evil]], caption=evil, totals=1)
    html = render(evil, meta=[evil], sections=[built.figure("<svg></svg>", caption=f"{evil}. n = 1").build()])
    assert "<script>" not in html
    assert html.count("&lt;script&gt;&amp;") == 12
    assert html.count('<tr class="total">') == 1


def test_figures_are_numbered_through_all_sections() -> None:
    sections = [SectionBuilder(f"s{i}").figure("<svg></svg>", caption=f"Drawing {i}. n = 1").build() for i in range(2)]
    html = render("t", meta=[], sections=sections)
    assert "Figure 1. Drawing 0" in html
    assert "Figure 2. Drawing 1" in html
    assert '<a href="#f2">Drawing 1</a>' in html


def test_a_page_without_figures_has_no_list_of_them() -> None:
    assert "Figures" not in render("t", meta=[], sections=[])


def test_a_line_of_groups_stands_above_the_headers() -> None:
    [table] = SectionBuilder("s").table(["a", "b", "c"], [], caption="c", groups=[("", 1), ("<two>", 2)]).parts
    head = table[table.index("<thead>") : table.index("</thead>")]
    assert head.count("<tr>") == head.count("</tr>") == 2
    assert '<th scope="colgroup" colspan="2">&lt;two&gt;</th></tr>' in head
    assert head.index("colspan") < head.index(">a</th>")


def test_a_narrow_table_is_marked_and_another_is_not() -> None:
    parts = [SectionBuilder("s").table(["a"], [], caption="c", narrow=narrow).parts[0] for narrow in (True, False)]
    assert ['<table class="narrow">' in part for part in parts] == [True, False]
