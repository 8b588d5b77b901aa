"""Sections of the encoder report stand alone and say what their figures rest on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from eval.document import plain
from eval.page import Section
from eval.sections import encoder
from eval.sentences import Pool, ScoredPairs
from eval.suites.bitext import bitext_report
from eval.suites.similarity import similarity_report


def text(section: Section) -> str:
    return "".join(section.parts)


def by_last(texts: Sequence[str], *, what: str = "") -> np.ndarray:  # noqa: ARG001
    return np.eye(10, dtype=np.float32)[[int(each[-1]) for each in texts]]


@pytest.fixture
def parts() -> dict[str, Any]:
    pools = [Pool(x, tuple(map(str, range(n))), tuple(f"{x}{i}" for i in range(n))) for x, n in (("d<e", 9), ("th", 4))]
    opposite = ScoredPairs("d<e", (5.0, 0.0, 5.0), ("1", "2", "3"), ("4", "2", "6"))
    return {
        "name": "first & only",
        "ntrex": bitext_report(pools, by_last, resamples=3, seed=1),
        "tatoeba": bitext_report(pools, by_last, resamples=3, seed=1),
        "similarity": similarity_report([opposite], by_last, resamples=3, seed=1),
    }


@pytest.mark.parametrize("encoders", [1, 2, 5])
@pytest.mark.parametrize("section", [encoder.ntrex, encoder.tatoeba, encoder.similarity])
def test_every_encoder_has_its_columns_and_names_are_escaped(
    parts: dict[str, Any], section: Any, encoders: int
) -> None:
    report = plain({"encoders": [{**parts, "name": f"{parts['name']} {i}"} for i in range(encoders)]})
    built = text(section(report))
    for i in range(encoders):
        assert f"first &amp; only {i}" in built
    assert "d&lt;e" in built
    ElementTree.fromstring(built[built.index("<svg") : built.index("</svg>") + 6])


def test_pool_sizes_are_said(parts: dict[str, Any]) -> None:
    built = text(encoder.tatoeba(plain({"encoders": [parts]})))
    assert "pools of 4 to 9 sentences" in built
    assert "Smaller pools, whose figures are flattered: th 4." in built
    assert "<td>9</td><td>100.0%</td>" in built


def test_a_negative_correlation_keeps_its_sign_in_the_table_and_has_no_bar(parts: dict[str, Any]) -> None:
    assert parts["similarity"]["languages"][0]["spearman"] == pytest.approx(-1.0)
    built = text(encoder.similarity(plain({"encoders": [parts]})))
    assert "<td>-1.000</td>" in built
    assert 'width="-' not in built
    assert "Below 0 drawn as 0" in built
