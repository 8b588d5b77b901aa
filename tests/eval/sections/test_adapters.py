from __future__ import annotations

from typing import Any

from eval.page import Section
from eval.sections.adapters import fit, regions

FIT = {
    side: value
    for name in ("train", "stop", "held_out")
    for side, value in ((f"{name}_positives", 1_234), (f"{name}_auc", 0.5), (f"{name}_ap", 0.25))
}
HEADS: dict[str, dict[str, Any]] = {
    "gambling": {
        "positives": 40, "negatives": 60, "ap": {"task:moderation": 0.5, "region:ID": 0.75, "separate": 0.625},
        "recall": {"task:moderation": 0.1, "region:ID": 0.3, "separate": 0.2},
        "gain": {"mean": 0.25, "low": 0.125, "high": 0.375},
        "over_separate": {"mean": 0.125, "low": -0.25, "high": 0.5},
        "recall_gain": {"mean": 0.2, "low": 0.1, "high": 0.3},
        "recall_over_separate": {"mean": 0.1, "low": 0.0, "high": 0.2},
    }
}  # fmt: skip


def region(**changes: Any) -> dict[str, Any]:
    return {"parent": "task:moderation", "rows": 9, "held_out": 8, "mean_gain": 0.2, "shipped": True} | changes


def html(section: Section) -> str:
    return "".join(section.parts)


def report(fit: dict[str, Any], regions: dict[str, Any]) -> dict[str, Any]:
    return {"adapters": {"fit": fit, "regions": regions}}


def test_a_head_stands_there_with_both_sides() -> None:
    page = html(fit(report({"hate": FIT | {"pass": 3, "held_out_auc": None}}, {})))
    assert page.count("<svg") == 1
    row = page[page.index("hate</t") :]
    cells = row[: row.index("</tr>")]
    assert cells.count(".500") == 2  # train and stop; the held-out one is a dash
    assert cells.count(".250") == 3
    assert "–" in cells
    assert "1,234 / 1,234" in cells


def test_a_region_stands_beside_its_parent_and_what_is_shipped_is_named() -> None:
    found = {"area:de": region(shipped=False, heads={}), "region:ID": region(heads=HEADS)}
    page = html(regions(report({}, found)))
    assert "1 of 1 are shipped: region:ID." in page
    assert "too few labels" in page
    for text in (
        "40 / 60",
        ".500",
        ".750",
        "+.250 (.12 to .38)",
        ".625; +.125 (-.25 to .50)",
        "<td>.100</td><td>.300</td><td>+.200 (.10 to .30)</td>",
        ".200; +.100 (.00 to .20)",
    ):
        assert text in page, text


def test_beside_separate_models_the_mean_and_what_is_beyond_doubt_are_told() -> None:
    gains = [(0.125, -0.25, 0.5), (0.25, 0.125, 0.375), (-0.125, -0.25, -0.0625), (0.75, 0.5, 0.875)]
    heads = {
        name: HEADS["gambling"] | {"over_separate": dict(zip(("mean", "low", "high"), gain, strict=True))}
        for name, gain in zip(("hate", "toxic", "scam", "sexual"), gains, strict=True)
    }
    half = {"region:ID": region(heads=dict(list(heads.items())[:2])), "region:BR": region(heads={
        name: each | {"ap": each["ap"] | {"region:BR": 0.5}, "recall": each["recall"] | {"region:BR": 0.5}}
        for name, each in list(heads.items())[2:]})}  # fmt: skip
    page = html(regions(report({}, half)))
    assert "Over 4 heads of regions" in page
    assert "the adapter gains +.250 in average precision over the separate model on average" in page
    assert "it is better for 2 and worse for 1" in page


def test_without_separate_models_none_are_spoken_of() -> None:
    own = {name: value for name, value in HEADS["gambling"].items() if name != "over_separate"}
    own["ap"] = {name: value for name, value in own["ap"].items() if name != "separate"}
    assert "beyond doubt" not in html(regions(report({}, {"region:ID": region(heads={"gambling": own})})))


def test_a_bundle_without_records_says_so() -> None:
    assert "no region adapters" in html(regions(report({}, {})))
    assert "does not record" in html(fit(report({}, {})))
