"""Hand-computed priors, known mixtures, ties, rows that are drawn together, and the AUC against true negatives."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from eval.metrics.multilabel import roc_auc
from eval.metrics.pu import PriorEstimate, agree, auc_pn, bbe_prior, elkan_noto_prior, estimate_prior

Floats = NDArray[np.float64]


def mixture(
    prior: float, seed: int, *, apart: float = 4.0, n_p: int = 5_000, n_u: int = 10_000
) -> tuple[Floats, Floats]:
    """P from N(apart, 1), and U, of which exactly that share is from it and the rest from N(0, 1)."""
    rng = np.random.default_rng(seed)
    hidden = np.arange(n_u) < round(prior * n_u)
    return rng.normal(apart, 1.0, n_p), rng.normal(size=n_u) + apart * hidden


def labelled_chance(scores: Floats, prior: float, *, apart: float = 4.0, n_p: int = 5_000, n_u: int = 10_000) -> Floats:
    """The true g(x) of `mixture`."""
    odds = np.exp(apart * scores - apart**2 / 2.0)  # density of positives over negatives
    p, u = n_p * odds, n_u * (prior * odds + 1.0 - prior)
    return np.asarray(p / (p + u), dtype=np.float64)


def estimate(prior: float) -> PriorEstimate:
    return PriorEstimate(prior, prior, prior, resamples=1, groups=1, positives=1, unlabelled=1)


def test_bbe_by_hand_takes_the_bin_that_many_positives_support() -> None:
    # At or above 3, 2, 1: q_P 1/3, 2/3, 1 and q_U 1/4, 1/4, 1/2; of six scores the slack is 1.48, of six thousand .047.
    assert bbe_prior([3, 2, 1], [3, 1, 0, 0]) == pytest.approx(1 / 2)
    assert bbe_prior([3, 2, 1] * 1000, [3, 1, 0, 0] * 1000) == pytest.approx(3 / 8)


def test_bbe_weighs_its_bound_by_delta_and_gamma() -> None:
    # Ratio .3 at half of P, .36 at all of it: with slack s the bounds are .3 + 2 s and .36 + s, equal at s = .06.
    p, u = [2.0, 1.0] * 500, [2.0] * 150 + [1.0] * 210 + [0.0] * 640
    root = 2 * np.sqrt(np.log(4 / 0.1) / 2000)  # .0859
    assert bbe_prior(p, u, delta=0.1, gamma=0.01) == pytest.approx(0.36)
    assert 1.01 * root > 0.06 > 2 * np.sqrt(np.log(4 / 0.9) / 2000)
    assert bbe_prior(p, u, delta=0.9, gamma=0.01) == pytest.approx(0.3)
    assert bbe_prior(p, u, delta=0.9, gamma=0.6) == pytest.approx(0.36)


@pytest.mark.parametrize("seed", range(5))
def test_bbe_on_ties_is_the_best_of_all_cuts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, u = np.round(rng.normal(1.0, 1.0, 60), 0), np.round(rng.normal(0.0, 1.0, 90), 0)
    slack = 1.01 * (np.sqrt(np.log(40) / 120) + np.sqrt(np.log(40) / 180))
    cuts = [(float(np.mean(u >= c)), float(np.mean(p >= c))) for c in np.union1d(p, u) if np.any(p >= c)]
    best = min(cuts, key=lambda q: (q[0] + slack) / q[1])
    assert bbe_prior(p, u) == pytest.approx(best[0] / best[1])
    assert bbe_prior(rng.permutation(p), rng.permutation(u)) == bbe_prior(p, u)


@pytest.mark.parametrize("change", [np.exp, lambda s: s**3, lambda s: np.searchsorted(np.unique(s), s)])
def test_bbe_sees_the_order_of_scores_alone(change: partial[Floats]) -> None:
    p, u = mixture(0.2, 0, apart=2.0, n_p=300, n_u=700)
    both = change(np.concatenate([p, u]))
    assert bbe_prior(both[:300], both[300:]) == bbe_prior(p, u)


@pytest.mark.parametrize(("prior", "bound"), [(0.05, 0.01), (0.2, 0.02), (0.5, 0.03)])
@pytest.mark.parametrize("seed", range(3))
def test_priors_of_known_mixtures_are_found(prior: float, bound: float, seed: int) -> None:
    p, u = mixture(prior, seed)
    assert bbe_prior(p, u) == pytest.approx(prior, abs=bound)
    g_p, g_u = labelled_chance(p, prior), labelled_chance(u, prior)
    assert elkan_noto_prior(g_p, g_u, estimator="e3") == pytest.approx(prior, abs=bound)
    # e1 takes every labelled positive to be surely positive, so that an overlap of the classes raises it.
    overlap = elkan_noto_prior(g_p, g_u, estimator="e1")
    assert prior < overlap < prior + 0.06
    p, u = mixture(prior, seed, apart=8.0)
    g_p, g_u = labelled_chance(p, prior, apart=8.0), labelled_chance(u, prior, apart=8.0)
    assert elkan_noto_prior(g_p, g_u, estimator="e1") == pytest.approx(prior, abs=bound / 10)


def test_bbe_reaches_one_where_all_of_u_is_positive_and_zero_where_none_is() -> None:
    assert bbe_prior([1, 2, 3], [1, 2, 3]) == 1.0
    assert bbe_prior([5, 6], [1, 2, 3]) == 0.0


def test_elkan_noto_by_hand() -> None:
    # c = .8, so that two labelled rows stand for 2.5 positives, half a one among two in U.
    assert elkan_noto_prior([0.7, 0.9], [0.8, 0.2]) == pytest.approx(0.25)
    # The largest g is .9: 2 / .9 - 2 positives among two.
    assert elkan_noto_prior([0.7, 0.9], [0.8, 0.2], estimator="e3", quantile=1.0) == pytest.approx(1 / 9)
    # Of .2, .7, .8, .9 the value that half of them lie below.
    assert elkan_noto_prior([0.7, 0.9], [0.8, 0.2], estimator="e3", quantile=0.5) == pytest.approx(0.25)
    assert elkan_noto_prior([0.1], [0.1]) == 1.0
    assert elkan_noto_prior([1.0], [0.1]) == 0.0


def test_equal_seeds_give_equal_intervals_around_the_estimate() -> None:
    p, u = mixture(0.2, 1, n_p=500, n_u=1000)
    found = estimate_prior(bbe_prior, p, u, resamples=50, seed=3)
    assert found == estimate_prior(bbe_prior, p, u, resamples=50, seed=3)
    assert found != estimate_prior(bbe_prior, p, u, resamples=50, seed=4)
    assert found.prior == bbe_prior(p, u)
    assert 0.12 < found.low < 0.2 < found.high < 0.28
    assert (found.resamples, found.groups, found.positives, found.unlabelled) == (50, 1500, 500, 1000)


def test_without_groups_p_and_u_are_two_samples() -> None:
    sizes: set[tuple[int, int]] = set()

    def watch(p: Floats, u: Floats) -> float:
        sizes.add((p.size, u.size))
        return 0.0

    estimate_prior(watch, [1, 2, 3], [4, 5], resamples=20)
    assert sizes == {(3, 2)}


def test_rows_of_a_group_are_drawn_together_across_p_and_u() -> None:
    # Rows 1 and 11 are one group, 2 and 12 another; 3 is in P alone, 14 and 15 in U alone.
    draws: list[tuple[list[float], list[float]]] = []

    def watch(p: Floats, u: Floats) -> float:
        draws.append((p.tolist(), u.tolist()))
        return 0.0

    estimate_prior(watch, [1, 2, 3], [11, 12, 14, 15], groups=["a", "b", "c", "a", "b", "d", "e"], resamples=30)
    for p, u in draws:
        assert p.count(1) == u.count(11)
        assert p.count(2) == u.count(12)
        assert p.count(1) + p.count(2) == 2
        assert p.count(3) == 1
        assert u.count(14) + u.count(15) == 2
    assert len({tuple(p) for p, _ in draws}) == 3


def test_repeated_rows_widen_the_interval() -> None:
    p, u = (np.repeat(scores, 8) for scores in mixture(0.3, 0, n_p=40, n_u=80))
    names = [str(i // 8) for i in range(p.size + u.size)]
    rows = estimate_prior(bbe_prior, p, u, resamples=100)
    groups = estimate_prior(bbe_prior, p, u, groups=names, resamples=100)
    assert groups.groups == 120
    assert groups.high - groups.low > 2 * (rows.high - rows.low)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [(0.05, 0.1, True), (0.1, 0.05, True), (0.05, 0.11, False), (0.3, 0.3, True), (0.0, 0.01, False), (0, 0, False)],
)
def test_estimates_more_than_twice_apart_do_not_agree(a: float, b: float, same: bool) -> None:
    assert agree(estimate(a), estimate(b)) is same


def test_the_auc_against_negatives_is_exact_where_the_hidden_positives_are_those_labelled() -> None:
    rng = np.random.default_rng(0)
    p, n = np.round(rng.normal(1.0, 1.0, 50), 1), np.round(rng.normal(size=150), 1)
    against_u = roc_auc(np.repeat([1, 0, 0], [50, 50, 150]), np.concatenate([p, p, n]))
    against_n = roc_auc(np.repeat([1, 0], [50, 150]), np.concatenate([p, n]))
    assert auc_pn(against_u, 0.25) == pytest.approx(against_n)
    assert auc_pn(0.5, 0.4) == pytest.approx(0.5)
    assert auc_pn(0.95, 0.2) > 1.0


@pytest.mark.parametrize("prior", [0.0, 1.0, -0.1, float("nan")])
def test_an_auc_needs_a_prior_between_0_and_1(prior: float) -> None:
    with pytest.raises(ValueError, match=f"prior: found {prior}"):
        auc_pn(0.9, prior)
    with pytest.raises(ValueError, match="auc_pu: found"):
        auc_pn(1.1, 0.5)


@pytest.mark.parametrize(
    ("p", "u", "said"),
    [
        ([], [0.5], r"positives: found shape \(0,\)"),
        ([0.5], [], r"unlabelled: found shape \(0,\)"),
        ([[0.5]], [0.5], "positives: found shape"),
        ([0.5, np.nan], [0.5], "positives: found nan"),
        ([0.5], [np.inf], "unlabelled: found inf"),
    ],
)
def test_missing_or_broken_scores_are_refused(p: list[float], u: list[float], said: str) -> None:
    for call in (bbe_prior, elkan_noto_prior, partial(estimate_prior, bbe_prior)):
        with pytest.raises(ValueError, match=said):
            call(p, u)


@pytest.mark.parametrize("options", [{"delta": 0.0}, {"delta": 1.0}, {"gamma": 0.0}])
def test_bbe_refuses_bounds_that_are_none(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="found"):
        bbe_prior([0.5], [0.5], **options)


def test_elkan_noto_refuses_what_is_no_probability() -> None:
    with pytest.raises(ValueError, match="found a score of 1.5"):
        elkan_noto_prior([0.5], [1.5])
    with pytest.raises(ValueError, match="estimator: found 'e2', allowed e1, e3"):
        elkan_noto_prior([0.5], [0.5], estimator="e2")
    with pytest.raises(ValueError, match="quantile: found 0"):
        elkan_noto_prior([0.5], [0.5], quantile=0.0)
    with pytest.raises(ValueError, match="found no row with a probability above 0"):
        elkan_noto_prior([0.0], [0.5])


def test_bad_bootstraps_are_refused() -> None:
    for options in ({"groups": ["a"]}, {"resamples": 0}, {"confidence": 1.0}):
        with pytest.raises(ValueError, match=f"{next(iter(options))}: found"):
            estimate_prior(bbe_prior, [1.0, 2.0], [1.0], **options)  # type: ignore[arg-type]
