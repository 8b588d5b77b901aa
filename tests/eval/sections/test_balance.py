from __future__ import annotations

import copy
from typing import Any

import pytest

from eval.page import Section
from eval.sections.balance import balance


def side(ap: float, **heads: float) -> dict[str, Any]:
    return {"rows": 90, "macro_ap": ap, "low": ap - 0.01, "high": ap + 0.01, "ap": heads}


def gain(mean: float, low: float | None, high: float | None) -> dict[str, Any]:
    return {"mean": mean, "low": low, "high": high}


REPORT = {
    "balance": {
        "command": "python wardline.py train balance --rows 6000", "seed": 13,
        "n": {"sample": 8_903, "held_out": 12_345},
        "strategies": {
            "static": {"public": side(0.5, hate=0.6, scam=0.4), "ads": side(0.7, scam=0.7)},
            "pcgrad": {
                "public": side(0.512, hate=0.625, scam=0.399), "ads": side(0.701, scam=0.701), "beats_static": True,
                "gain": {"public": gain(0.012, 0.002, 0.022), "ads": gain(0.001, -0.013, 0.015)},
            },
            "gradnorm": {
                "public": side(0.49, hate=0.58, scam=0.4), "ads": side(0.7, scam=0.7), "beats_static": False,
                "gain": {"public": gain(-0.01, -0.02, 0.0), "ads": gain(0.0, None, None)},
            },
        },
        "gradients": {
            "heads": ["hate", "scam", "drugs"], "rows": [400, 210, 0],
            "cosines": [[1.0, -0.31, None], [-0.31, 1.0, None], [None, None, None]],
            "agreement": [0.812, 0.234, None], "pairs": 4, "conflicting": 3, "conflicting_throughout": 1,
            "families": [["hate", "toxic"], ["scam"]], "family_cosines": [[1.0, -0.123], [-0.123, 1.0]],
        },
    }
}  # fmt: skip


def html(section: Section) -> str:
    return "".join(section.parts)


def row(page: str, name: str) -> str:
    start = page.index(f"<td>{name}</td>")
    return page[start : page.index("</tr>", start)]


def test_every_strategy_stands_beside_the_static_weights() -> None:
    page = html(balance(REPORT))
    assert "python wardline.py train balance --rows 6000, seed 13, n = 8,903 rows learnt from and 12,345 held" in page
    static, pcgrad, gradnorm = (row(page, name) for name in ("static", "pcgrad", "gradnorm"))
    for text in (".512, 95% .50 to .52", "+.012, 95% +.002 to +.022", "+.001, 95% −.013 to +.015", "<td>yes</td>"):
        assert text in pcgrad, text
    for text in ("−.010, 95% −.020 to +.000", "+.000, 95% –", "<td>no</td>"):
        assert text in gradnorm, text
    assert "yes" not in static
    assert "no<" not in static


def test_heads_stand_in_a_table_of_their_own() -> None:
    page = html(balance(REPORT))
    assert ".600</td><td>.625</td><td>.580" in row(page, "hate")
    assert ".400</td><td>.399</td><td>.400" in row(page, "scam")


@pytest.mark.parametrize(
    ("better", "expected"),
    [
        ([], "Neither beats the static weights, so neither ships."),
        (["pcgrad"], "pcgrad beats the static weights."),
        (["pcgrad", "gradnorm"], "pcgrad and gradnorm beat the static weights."),
    ],
)
def test_the_section_says_which_strategy_is_better(better: list[str], expected: str) -> None:
    report = copy.deepcopy(REPORT)
    for name in ("pcgrad", "gradnorm"):
        report["balance"]["strategies"][name]["beats_static"] = name in better  # type: ignore[index]
    assert expected in html(balance(report))


def test_who_pulls_apart_is_drawn() -> None:
    page = html(balance(REPORT))
    assert "3 of 4 pairs of heads (75%)" in page
    assert "1 do so in each of five disjoint parts" in page
    assert page.count("<svg") == 1
    assert page.count(">−31</text>") == 2
    assert "n = 400 rows" in page
    assert "hate .81, scam .23." in page
    assert "1.00</td><td>-.12" in row(page, "hate, toxic")


def test_without_any_pair_there_is_no_share() -> None:
    report = copy.deepcopy(REPORT)
    report["balance"]["gradients"] |= {"pairs": 0, "conflicting": 0, "conflicting_throughout": 0}  # type: ignore[index,operator]
    assert "0 of 0 pairs of heads (0%)" in html(balance(report))


@pytest.mark.parametrize("report", [{}, {"balance": None}])
def test_without_a_comparison_the_section_says_so(report: dict[str, Any]) -> None:
    page = html(balance(report))
    assert "No strategies were compared" in page
    assert "train balance" in page
    assert "<svg" not in page
