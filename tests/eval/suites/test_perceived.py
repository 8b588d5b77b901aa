"""The suites on voted rows: which rows count, which heads rank them, what is flagged."""

from __future__ import annotations

import numpy as np
import pytest

from eval.datasets import Row, Suite
from eval.suites.perceived import (
    CANDIDATES,
    Scored,
    benign_report,
    by_source,
    heads_report,
    mapped,
    scale_report,
    severe_report,
)
from eval.votes import ATTRIBUTES, VotedRows
from moderation.compat.perspective_scores import HEADS, ScoreMapping

HALVES = ScoreMapping({"TOXICITY": ((0.0, 0.0), (0.5, 0.8), (1.0, 1.0)), "SEVERE_TOXICITY": ((0.0, 0.0), (0.5, 1.0))})
TOXICITY = ATTRIBUTES.index("TOXICITY")


def rows(fraction: list[float], source: list[str], *, attribute: str = "TOXICITY") -> VotedRows:
    n = len(fraction)
    table = np.full((n, len(ATTRIBUTES)), np.nan)
    table[:, ATTRIBUTES.index(attribute)] = fraction
    names = np.array(source)
    return VotedRows(
        ("x",) * n, table, names, np.full(n, "en"), np.full(n, "open"), np.array([f"g{i}" for i in range(n)])
    )


def scored(scores: list[float], fraction: list[float], source: list[str]) -> Scored:
    return Scored(rows(fraction, source), np.tile(np.array(scores)[:, None], (1, len(ATTRIBUTES))))


def test_the_scale_before_and_after_the_mapping() -> None:
    some = scored([0.5, 0.5, 0.1, 0.1], [1.0, 1.0, 0.0, 2 / 3], ["a"] * 4)
    [record] = scale_report(some, HALVES, seed=1, resamples=20)
    assert (record["attribute"], record["n"], record["perceived"]) == ("TOXICITY", 4, 0.75)
    # Weights 2/3 for the three that are seen, 2 for the other.
    before, after = record["unmapped"].thresholds["0.8"], record["mapped"].thresholds["0.8"]
    assert (before.flagged, after.flagged) == (0.0, pytest.approx(1 / 3))
    assert (after.precision, after.fraction_near, after.n_near) == (1.0, 1.0, 2)
    assert after.raters == pytest.approx(1 / 3)
    ends = record["intervals"]["0.8"]
    assert ends["flagged"].low <= after.flagged <= ends["flagged"].high
    assert set(ends) == {"flagged", "precision", "recall", "fraction_near"}


def test_a_source_alone_is_measured_where_it_has_both_kinds() -> None:
    some = scored([0.5, 0.2, 0.5], [1.0, 0.0, 1.0], ["a", "a", "b"])
    [record] = by_source(some, HALVES)
    assert (record["source"], record["attribute"], record["n"]) == ("a", "TOXICITY", 2)
    assert record["absolute_error"] == pytest.approx((0.2 + 0.32) / 2)


def test_heads_are_compared_on_what_raters_saw_source_by_source() -> None:
    voted = rows([1.0, 0.0, 1.0, 0.0, 1.0], ["a", "a", "b", "b", "c"], attribute="INSULT")
    probabilities = {
        "harassment": np.array([0.9, 0.1, 0.2, 0.3, 0.0]),
        "toxic": np.array([0.5, 0.5, 0.9, 0.1, 0.0]),
        "hate": np.zeros(5),
    }
    both, alone, toxic = heads_report(voted, probabilities, seed=1, resamples=50)
    assert [record["heads"] for record in (both, alone, toxic)] == [["harassment", "toxic"], ["harassment"], ["toxic"]]
    assert both["n"] == 4, "c has rows of one kind"
    assert (both["auc"], alone["auc"], toxic["auc"]) == (1.0, 0.5, 0.75)
    assert both["gain"] is None
    # A draw either has all four rows, and then the AUCs above, or leaves a source without one kind: no value.
    assert (alone["gain"].low, alone["gain"].high) == (-0.5, -0.5)


def test_the_served_heads_are_the_first_candidates() -> None:
    assert {attribute: candidates[0] for attribute, candidates in CANDIDATES.items()} == {
        attribute: HEADS[attribute] for attribute in CANDIDATES
    }


def test_severe_is_what_raters_gave_the_upper_steps() -> None:
    steps = [[5, 4, 4], [4, 1, 1], [1, 2, 3], None, []]
    meta = [{"raw": {"Toxicity": given}} if given is not None else {} for given in steps]
    suite = Suite("rtplx", tuple(Row(str(i), "x", {}, source="s", meta=m) for i, m in enumerate(meta)))
    found = severe_report(suite, np.array([0.45, 0.3, 0.1, 0.9, 0.9]), HALVES)
    assert (found["n"], found["auc"]) == (3, 1.0)
    assert found["mapped"].thresholds["0.9"].flagged == pytest.approx(0.5)
    assert found["unmapped"].thresholds["0.9"].flagged == 0.0
    assert found["unmapped"].absolute_error == pytest.approx(((0.55 * 2) + abs(0.3 - 1 / 3) + 0.1) / 4)


def test_flagged_without_reason_is_counted_apart_by_label_and_kind() -> None:
    suite = Suite(
        "dev",
        (
            Row("0", "x", {"toxic": 0.0}, source="a", kind="post"),
            Row("1", "x", {"toxic": 0.0}, source="a", kind="post"),
            Row("2", "x", {"toxic": 0.0}, source="rtplx_completions", kind="passage"),
            Row("3", "x", {"scam": 1.0}, source="sms", kind="sms"),
            Row("4", "x", {"hate": 0.0}, source="forum", kind="post"),
        ),
    )
    found = benign_report(suite, np.array([0.5, 0.1, 1.0, 0.75, 1.0]), HALVES)
    labelled, ordinary = found["all"]
    assert (labelled["n"], [share["k"] for share in labelled["thresholds"].values()]) == (2, [1, 1, 0])
    assert (ordinary["n"], [share["k"] for share in ordinary["thresholds"].values()]) == (1, [1, 1, 1])
    assert [record["name"] for record in found["parts"]["labelled not toxic"]] == ["a"]
    assert labelled["thresholds"]["0.7"]["rate"] == 0.5


def test_mapped_is_what_serving_maps() -> None:
    assert mapped(HALVES, "TOXICITY", np.array([0.25, 0.75])).tolist() == pytest.approx([0.4, 0.9])
    assert mapped(HALVES, "THREAT", np.array([0.25])).tolist() == [0.25]
