"""The summary: what its columns are, how its figures are read, and what int8 costs on every line."""

from __future__ import annotations

import re
from typing import Any

import pytest

from eval.sections.encoder_summary import LINES, summary, verdict

FLOAT32 = {"name": "float32, both paths", "sha256": "ab", "same": True}


def encoder(name: str, share: float, *, rho: float | None = 0.8, bundle: bool = False) -> dict[str, Any]:
    interval = {"low": share - 0.01, "high": share + 0.01}
    bitext = {
        "mean": share, "interval": interval, "worst": {"language": "th", "value": share - 0.2}, "pools": [500],
        "n_languages": 32,
    }  # fmt: skip
    figures = {"effective_rank": 100 * share}
    return {
        "name": name,
        "bundle": bundle,
        "ntrex": bitext,
        "tatoeba": {**bitext, "pools": [548, 1000]},
        "similarity": {"english": rho, "mean_others": 0.7},
        "topics": {"english": 0.8, "mean": share, "interval": interval},
        "geometry": {"languages": [{"figures": figures}], "mean": {"drift": 0.1}, "collapsed": []},
        "fertility": {"mean_per_word": 2.0} if bundle else None,
        "zero_vectors": 2 if bundle else 3,
        "texts": 10,
    }


def report(**changes: Any) -> dict[str, Any]:
    encoders = [encoder("first", 0.5, bundle=True), encoder(FLOAT32["name"], 0.512), encoder("static", 0.3)]
    return {"quick": False, "float32": FLOAT32, "encoders": encoders, **changes}


def rows(document: dict[str, Any]) -> dict[str, list[str]]:
    html = "".join(summary(document).parts)
    found = [re.findall(r"<td>(.*?)</td>", row) for row in html.split("<tr>")]
    return {row[0]: row[1:] for row in found if row}


def test_the_difference_is_ours_less_float32_on_every_line_with_a_number() -> None:
    found = {title: cells[-1] for title, cells in rows(report()).items()}
    assert len(found) == len(LINES)
    assert found == {
        "NTREX: bitext accuracy, mean": "−1.2 pt",
        "NTREX: worst variety": "−1.2 pt",
        "Tatoeba: bitext accuracy, mean": "−1.2 pt",
        "Tatoeba: worst language": "−1.2 pt",
        "STS-B: Spearman, English": "0.000",
        "STS-B: Spearman, mean of the others": "0.000",
        "SIB-200: accuracy, English": "0.0 pt",
        "SIB-200: accuracy, mean of the others": "−1.2 pt",
        "effective rank, English": "−1.2",
        "distance to the English centroid, mean": "0.000",
        "collapsed": "",
        "tokens per word, mean": "",
        "texts without a vector": "−1",
    }


def test_a_figure_that_one_of_them_lacks_has_no_difference() -> None:
    encoders = [encoder("first", 0.5, rho=None, bundle=True), encoder(FLOAT32["name"], 0.5)]
    cells = rows(report(encoders=encoders))["STS-B: Spearman, English"]
    assert cells == ["–", ".800", ""]


def test_without_float32_there_is_a_column_per_encoder_and_no_more() -> None:
    document = report(float32=None)
    assert {len(cells) for cells in rows(document).values()} == {3}
    html = "".join(summary(document).parts)
    assert "int8 − float32" not in html
    assert "columns named float32" not in html


@pytest.mark.parametrize(
    ("same", "said"),
    [(True, "was made from its weights"), (False, "not int8&#x27;s alone"), (None, "does not say from which weights")],
)
def test_the_page_says_whether_bundle_and_float32_belong_together(same: bool | None, said: str) -> None:
    assert said in "".join(summary(report(float32={**FLOAT32, "same": same})).parts)


def test_the_page_says_what_is_frozen_how_large_pools_are_and_what_worst_means() -> None:
    html = "".join(summary(report(quick=True)).parts)
    for said in (
        "In the columns of bundles (first) all figures are of the frozen int8 file",
        "in a pool of 500 sentences (NTREX, 32 varieties) and of 548 to 1000 (Tatoeba",
        "The worst variety or language is the one whose mean of both directions is the lowest of all",
        "A quick run",
    ):
        assert said in html
    assert "frozen int8" not in "".join(summary(report(float32=None, encoders=[encoder("a", 0.5)])).parts)


def test_verdicts() -> None:
    assert verdict(None) == "too few sentences to judge"
    assert verdict([]) == "no collapse"
    assert verdict(["th: a", "th: b"]) == "collapsed in 1 language"
    assert verdict(["th: a", "th: b", "de: a"]) == "collapsed in 2 languages"
