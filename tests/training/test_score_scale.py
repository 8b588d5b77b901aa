"""Scales of a score: the fit by hand, its invariants, and a made-up truth found again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.compat.perspective_scores import ScoreMapping
from training.score_scale import Voted, apply, cross_validate, expected_fractions, same_share, unmapped


def voted(scores: list[float], fraction: list[float], source: str = "a") -> Voted:
    n = len(scores)
    return Voted(np.array(scores), np.array(fraction), np.full(n, source), np.array([f"g{i}" for i in range(n)]))


def made_up(n: int = 12_000, seed: int = 0) -> Voted:
    """Half of two sources is seen by all; the chance of it rises with the square of the score; three raters each."""
    rng = np.random.default_rng(seed)
    scores = rng.random(n)
    fraction = rng.binomial(3, np.clip(1.5 * scores**2, 0, 1)) / 3
    return Voted(scores, fraction, np.array(["a", "b"])[rng.integers(0, 2, n)], (np.arange(n) // 2).astype(str))


def test_points_by_hand() -> None:
    # Two of four rows are seen: weights are equal. The two in the middle are out of order and become one block.
    found = expected_fractions(voted([0.1, 0.2, 0.4, 0.8], [0.0, 2 / 3, 1 / 3, 1.0]), bins=4)
    assert found == ((0.0, 0.0), (0.1, 0.0), (0.3, 0.5), (0.8, 1.0), (1.0, 1.0))


def test_both_kinds_of_rows_weigh_alike() -> None:
    # One row seen by all against three seen by nobody, all scored alike: one half, not one quarter.
    found = expected_fractions(voted([0.6] * 4, [1.0, 0.0, 0.0, 0.0]))
    assert found == ((0.0, 0.0), (0.6, 0.5), (1.0, 1.0))


def test_a_source_of_one_kind_has_no_say() -> None:
    rows = voted([0.6] * 4, [1.0, 0.0, 0.0, 0.0])
    other = voted([0.6] * 50, [1.0] * 50, "style")
    joined = Voted(*(np.concatenate([getattr(rows, f), getattr(other, f)]) for f in vars(rows)))
    assert expected_fractions(joined) == expected_fractions(rows)
    with pytest.raises(ValueError, match="found no source with both kinds"):
        expected_fractions(other)


def test_a_made_up_truth_is_found_again() -> None:
    rows = made_up()
    points = expected_fractions(rows)
    middle = np.linspace(0.15, 0.75, 13)
    near = [np.abs(rows.scores - m) < 0.025 for m in middle]
    truth = [np.average(rows.fraction[here], weights=rows.weights[here]) for here in near]
    assert np.abs(apply(points, middle) - truth).max() < 0.06


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 1 / 3, 2 / 3, 1.0])), min_size=1, max_size=60))
def test_any_fit_is_a_mapping_that_keeps_the_order(rows: list[tuple[float, float]]) -> None:
    both = [*rows, (0.5, 0.0), (0.5, 1.0)]
    points = expected_fractions(voted([s for s, _ in both], [f for _, f in both]), bins=7)
    mapping = ScoreMapping({"TOXICITY": points})  # refuses what falls or leaves [0, 1]
    assert (mapping("TOXICITY", 0.0), mapping("TOXICITY", 1.0)) == (0.0, 1.0)
    inner = [y for _, y in points[1:-1]]
    assert inner == sorted(set(inner)), "no two blocks of one height: equal answers would lose the order"
    assert apply(points, np.array([0.3]))[0] == pytest.approx(mapping("TOXICITY", 0.3))


def test_equal_shares_flag_what_the_raters_would() -> None:
    rows = made_up()
    after = apply(same_share(rows, bins=400), rows.scores)
    flagged, wanted = (np.average(v >= 0.33, weights=rows.weights) for v in (after, rows.fraction))
    assert flagged == pytest.approx(wanted, abs=0.02)


def test_the_record_tells_the_scales_apart() -> None:
    rows = made_up()
    record = cross_validate(rows, seed=1)
    assert (record["n"], record["groups"], set(record["sources"])) == (12_000, 6_000, {"a", "b"})
    assert record["mapped"].scale_error < 0.02 < record["unmapped"].scale_error
    assert record["without_source"].scale_error < 0.05
    assert record["same_share"].scale_error > record["mapped"].scale_error
    assert apply(unmapped(rows), np.array([0.37])).tolist() == [0.37]


def test_a_single_source_is_not_left_out() -> None:
    assert "without_source" not in cross_validate(voted([0.2, 0.7] * 40, [0.0, 1.0] * 40), seed=1)


def test_rows_are_mapped_by_what_other_groups_taught(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []
    monkeypatch.setattr(
        "training.score_scale.expected_fractions", lambda rows: (seen.append(set(rows.group)), unmapped(rows))[1]
    )
    rows = made_up(400)
    cross_validate(rows, seed=1)
    by_group = seen[:5]
    everything = set(rows.group)
    assert all(part < everything for part in by_group)
    assert set.union(*(everything - part for part in by_group)) == everything
    assert sum(len(everything - part) for part in by_group) == len(everything)
