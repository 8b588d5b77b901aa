from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from eval.bench.layers_page import section
from eval.document import plain


def side(ap: float, half: float) -> dict[str, Any]:
    return {"rows": 90, "macro_ap": ap, "low": ap - half, "high": ap + half, "ap": {"hate": ap}}


def gain(mean: float, low: float | None, high: float | None) -> dict[str, Any]:
    return {"mean": mean, "low": low, "high": high}


LAYERS: dict[str, Any] = {
    "command": "python wardline.py train layers --rows 20000", "seed": 13, "rank": 8,
    "n": {"sample": 22_903, "held_out": 12_345},
    "layers": [
        {"layers": 1, "public": side(0.541, 0.01), "ads": side(0.712, 0.03)},
        {
            "layers": 2, "public": side(0.553, 0.01), "ads": side(0.739, 0.03),
            "gain": {"public": gain(0.012, 0.002, 0.022), "ads": gain(0.027, -0.004, 0.058)},
        },
        {
            "layers": 3, "public": side(0.55, 0.01), "ads": side(0.741, 0.03),
            "gain": {"public": gain(-0.003, -0.01, 0.005), "ads": gain(0.002, None, None)},
        },
    ],
}  # fmt: skip


def cost(m: int, median: float) -> dict[str, Any]:
    return {"n": m, "over_plain": {"median": median, "min": median - 0.1, "max": median + 0.1, "rounds": [median] * 5}}


def branches(*numbers: int) -> dict[str, Any]:
    return {
        "ad_branches": 6,
        "weights": {
            # Not in the order of the comparison.
            "int8": {"fan_out": [cost(m, 1.25 + 0.75 * m) for m in reversed(numbers)]},
            "float32": {"fan_out": [cost(m, 9.0) for m in numbers]},
        },
    }


def html(**document: Any) -> str:  # noqa: ANN401
    return "".join(section(plain(document)).parts)


def rows(page: str) -> list[list[str]]:
    """Return the cells of the table's body."""
    body = page[page.index("<tbody>") : page.index("</tbody>")]
    return [re.findall("<td>(.*?)</td>", row) for row in body.splitlines()]


QUALITY = [
    [".541, 95% .53 to .55", "", ".712, 95% .68 to .74", ""],
    [".553, 95% .54 to .56", "+.012, 95% +.002 to +.022", ".739, 95% .71 to .77", "+.027, 95% −.004 to +.058"],
    [".550, 95% .54 to .56", "−.003, 95% −.010 to +.005", ".741, 95% .71 to .77", "+.002, 95% –"],
]


def test_what_each_number_of_layers_reaches_stands_beside_its_cost() -> None:
    page = html(layers=LAYERS, branches=branches(1, 2, 3))
    costs = ["2.00 (1.90 to 2.10)", "2.75 (2.65 to 2.85)", "3.50 (3.40 to 3.60)"]
    expected = [[str(m), cost, *cells] for m, cost, cells in zip((1, 2, 3), costs, QUALITY, strict=True)]
    assert rows(page) == expected
    assert "one ad in 6 branches, plain passes, int8</th>" in page
    assert "rank 8 on the upper m layers" in page
    assert "train layers --rows 20000, seed 13, n = 22,903 rows learnt from and 12,345 held out." in page


def test_a_number_whose_cost_was_not_measured_has_none() -> None:
    page = html(layers=LAYERS, branches=branches(1, 2))
    assert [row[1] for row in rows(page)] == ["2.00 (1.90 to 2.10)", "2.75 (2.65 to 2.85)", "–"]


def test_the_section_says_where_more_layers_do_better() -> None:
    assert "Gains whose interval lies above 0: m = 2 on public rows. (" in html(layers=LAYERS)
    better = copy.deepcopy(LAYERS)
    better["layers"][2]["gain"] = {"public": gain(0.02, 0.0, 0.03), "ads": gain(0.02, 0.01, 0.03)}
    assert "above 0: m = 2 on public rows, m = 3 on our own ads. (" in html(layers=better)
    first = {**LAYERS, "layers": LAYERS["layers"][:1]}
    assert "above 0: none. (" in html(layers=first)


@pytest.mark.parametrize("without", [{}, {"branches": None}])
def test_without_costs_the_table_stands_alone(without: dict[str, Any]) -> None:
    page = html(layers=LAYERS, **without)
    assert rows(page) == [[str(m), *cells] for m, cells in zip((1, 2, 3), QUALITY, strict=True)]
    assert page.count("<th ") == 3 + 5  # groups, columns
    assert "Cost" not in page


@pytest.mark.parametrize("document", [{}, {"layers": None}])
def test_without_a_comparison_the_section_says_so(document: dict[str, Any]) -> None:
    page = html(**document, branches=branches(1, 2, 3))
    assert page.startswith("<p>No numbers of layers were compared for this report")
    assert "<table" not in page
