from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from eval.bench.branches import job_of, measure
from eval.bench.branches_groups import GROUPS
from eval.bench.branches_page import section
from eval.bench.branches_summary import summarise, targets
from eval.document import plain
from retrieval_shared.errors import WardlineError

if TYPE_CHECKING:
    from retrieval_shared.bundle import Bundle

ADS = ["free bet win cash now", "fresh bread every morning"]


@pytest.fixture(scope="module")
def figures(tiny_bundle: Bundle, tiny_graphs: Path) -> dict[str, Any]:
    """One round of everything, with no time for a second."""
    texts = [*ADS, "a", "weed"] * 10
    job = job_of(ADS, texts, bundle=tiny_bundle.path, graphs=tiny_graphs) | {"limit_s": 0}
    found: dict[str, Any] = json.loads(json.dumps(measure(json.loads(json.dumps(job)))))
    return found


def test_every_group_is_measured_in_both_weights(figures: dict[str, Any]) -> None:
    names = [make.__name__ for make in GROUPS]
    assert {weights: list(groups) for weights, groups in figures["times"].items()} == {"int8": names, "float32": names}
    for groups in figures["times"].values():
        for tasks in groups.values():
            assert all(len(seconds) == 1 and seconds[0] > 0 for seconds in tasks.values())
    assert figures["batching_texts"] == 40
    assert set(figures["batching"]) == set(figures["padding"])


def test_what_was_measured_becomes_a_section(figures: dict[str, Any]) -> None:
    summary = summarise(figures)
    assert len(targets(summary)) == 2 * (2 + 2 + 2) + 2
    found = plain(summary)
    assert found["sizes"]["served"] == 1
    drawn = section({"branches": found})
    text = "".join(drawn.parts)
    assert text.count("<polyline") == 8  # four curves in two precisions
    assert len(text) < 60_000


def test_without_graphs_the_command_is_named(tiny_bundle: Bundle, tmp_path: Path) -> None:
    job = job_of(ADS, ADS, bundle=tiny_bundle.path, graphs=tmp_path)
    with pytest.raises(WardlineError, match="train bench-graphs"):
        measure(job)
