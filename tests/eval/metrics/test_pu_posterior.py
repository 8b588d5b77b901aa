"""DEDPUL against known mixtures, hand-computed ratios, and slower ways to the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import gaussian_kde

from eval.metrics import pu_posterior
from eval.metrics.calibration import expected_calibration_error
from eval.metrics.pu_posterior import dedpul, density_ratio, posterior_at

Floats = NDArray[np.float64]
BOUNDS = [(0.05, 0.01), (0.2, 0.03), (0.5, 0.04)]


def mixture(
    prior: float, seed: int, *, apart: float = 3.0, n_p: int = 2_000, n_u: int = 10_000
) -> tuple[Floats, Floats, Floats, Floats]:
    """P from N(apart, 1); U, of which exactly that share is from it and the rest from N(0, 1); labels; chances."""
    rng = np.random.default_rng(seed)
    hidden = rng.permutation(np.arange(n_u) < round(prior * n_u))
    p, u = rng.normal(apart, 1.0, n_p), rng.normal(size=n_u) + apart * hidden
    odds = prior / (1.0 - prior) * np.exp(apart * u - apart**2 / 2.0)
    return p, u, hidden.astype(np.float64), odds / (1.0 + odds)


@pytest.mark.parametrize(("prior", "bound"), BOUNDS)
@pytest.mark.parametrize("seed", range(3))
def test_prior_and_posteriors_of_known_mixtures_are_found(prior: float, bound: float, seed: int) -> None:
    p, u, hidden, chance = mixture(prior, seed)
    found = dedpul(p, u)
    assert found.prior == pytest.approx(prior, abs=bound)
    assert np.mean(np.abs(found.posterior - chance)) < bound
    known = posterior_at(found.ratio, prior)
    assert np.mean(np.abs(known - chance)) < bound
    assert expected_calibration_error(hidden, found.posterior) < bound
    assert expected_calibration_error(hidden, known) < bound


@pytest.mark.parametrize("seed", range(3))
def test_a_prior_below_a_fiftieth_is_found(seed: int) -> None:
    p, u, _, _ = mixture(0.01, seed, apart=4.0)
    assert dedpul(p, u).prior == pytest.approx(0.01, abs=0.004)
    assert density_ratio(p, u, ceiling=50.0).max() == 50.0


def test_posteriors_rise_with_the_score_and_are_equal_where_scores_are() -> None:
    p, u, _, _ = mixture(0.2, 0, n_p=300, n_u=1000)
    u = np.round(u, 1)
    found = dedpul(np.round(p, 1), u)
    order = np.argsort(u, kind="stable")
    assert (np.diff(found.posterior[order]) >= 0).all()
    assert (np.diff(found.ratio[order]) >= 0).all()
    for score in np.unique(u):
        assert np.ptp(found.posterior[u == score]) == 0.0
    assert np.unique(found.posterior).size > 10


def test_the_order_of_rows_does_not_matter() -> None:
    p, u, _, _ = mixture(0.2, 0, n_p=300, n_u=1000)
    u = np.round(u, 1)
    order = np.random.default_rng(1).permutation(u.size)
    found, shuffled = dedpul(p, u), dedpul(p[::-1], u[order])
    assert shuffled.prior == pytest.approx(found.prior)
    assert shuffled.posterior == pytest.approx(found.posterior[order])


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 7.0), (0.01, 0.0), (40.0, -300.0)])
def test_shifted_and_stretched_scores_give_the_same(scale: float, offset: float) -> None:
    p, u, _, _ = mixture(0.2, 0, n_p=300, n_u=1000)
    found, changed = dedpul(p, u), dedpul(scale * p + offset, scale * u + offset)
    assert changed.prior == pytest.approx(found.prior, abs=1e-4)
    assert changed.posterior == pytest.approx(found.posterior, abs=1e-4)


def test_em_ends_where_the_mean_posterior_is_the_prior() -> None:
    # A fifth of U is five times as dense in P, the rest is not in P: 20 of 100 rows are surely positive.
    prior, converged = pu_posterior._prior(np.repeat([5.0, 0.0], [20, 80]))
    assert prior == pytest.approx(0.2)
    assert converged is True


def test_the_knee_stands_in_where_the_ratio_is_too_low() -> None:
    # The error is prior - .2 min(1, 4.9 prior): above 0 throughout, with its knee at 1 / 4.9, where EM passes it.
    prior, converged = pu_posterior._prior(np.repeat([4.9, 0.0], [20, 80]))
    assert prior == pytest.approx(1 / 4.9, abs=0.001)
    assert converged is False


def test_a_knee_of_large_error_does_not_count() -> None:
    # Slopes change by .43 at 1 / 4, where the error is .005, and by .55 at 1 / 2, where it is .12.
    prior, converged = pu_posterior._prior(np.repeat([4.0, 2.0, 0.0], [1075, 2750, 6175]))
    assert prior == pytest.approx(0.25, abs=0.001)
    assert converged is False


def test_em_stops_where_no_row_is_clipped() -> None:
    # U is as dense as P everywhere, but for an error of a tenth: all of it is positive.
    prior, converged = pu_posterior._prior(np.full(100, 0.9))
    assert prior == 1.0
    assert converged is True


def test_em_stands_where_the_ratio_is_too_high() -> None:
    # The error .2 min(1, 5.1 prior) crosses 0 at .2; below it is negative.
    prior, converged = pu_posterior._prior(np.repeat([5.1, 0.0], [20, 80]))
    assert prior == pytest.approx(0.2)
    assert converged is True


@pytest.mark.parametrize("priors", [[0.001, 0.1, 0.5, 1.0], [0.25], [1.0]])
def test_the_mean_posterior_is_that_of_the_clipped_ratios(priors: list[float]) -> None:
    ratio = np.array([0.0, 4.0, 0.5, 1.0, 4.0, 9.0])
    found = pu_posterior._mean_posterior(ratio, np.array(priors))
    assert found == pytest.approx([np.minimum(prior * ratio, 1.0).mean() for prior in priors])


@pytest.mark.parametrize(
    ("prior", "posterior"),
    [
        (0.25, [0.8, 0.2, 0.0, 0.0]),
        (0.375, [1.0, 0.5, 0.0, 0.0]),
        (0.5, [1.0, 1.0, 0.0, 0.0]),
        (0.6, [1.0, 1.0, 0.0, 0.0]),
    ],
)
def test_posteriors_of_a_known_prior_by_hand(prior: float, posterior: list[float]) -> None:
    assert posterior_at([4.0, 1.0, 0.0, 0.0], prior) == pytest.approx(posterior)


@pytest.mark.parametrize("prior", [0.001, 0.05, 0.3, 0.7, 0.999])
def test_posteriors_of_a_known_prior_have_it_as_their_mean(prior: float) -> None:
    ratio = np.random.default_rng(0).exponential(size=501) ** 3
    found = posterior_at(ratio, prior)
    assert found.mean() == pytest.approx(prior)
    assert found.max() <= 1.0
    assert (np.diff(found[np.argsort(ratio)]) >= 0).all()


@pytest.mark.parametrize("bandwidth", [0.05, 0.1])
def test_densities_from_a_grid_equal_those_summed_over_all_rows(bandwidth: float) -> None:
    rng = np.random.default_rng(0)
    scores, at = np.append(rng.normal(size=400), rng.normal(8.0, 0.3, size=200)), np.linspace(-2.0, 9.0, 50)
    exact = gaussian_kde(scores, bandwidth)(at)
    found = pu_posterior._density(scores, at, bandwidth)
    assert found == pytest.approx(exact, abs=0.005 * exact.max())


@pytest.mark.parametrize(("n", "half"), [(1, 5), (2, 5), (11, 5), (40, 5), (40, 2), (40, 0), (41, 20)])
def test_medians_of_windows_that_shrink_towards_both_ends(n: int, half: int) -> None:
    values = np.random.default_rng(n).normal(size=n)
    own = min(half, (n - 1) // 2)
    reach = [min(i, n - 1 - i, own) for i in range(n)]
    expected = [np.median(values[i - r : i + r + 1]) for i, r in enumerate(reach)]
    assert pu_posterior._rolling_median(values, half) == pytest.approx(expected)


@pytest.mark.parametrize("call", [dedpul, density_ratio])
@pytest.mark.parametrize(
    ("p", "u", "said"),
    [
        ([], [0.0, 1.0], r"positives: found shape \(0,\)"),
        ([0.0, 1.0], [], r"unlabelled: found shape \(0,\)"),
        ([0.0, np.nan], [0.0, 1.0], "positives: found nan"),
        ([0.0, 1.0], [0.0, -np.inf], "unlabelled: found -inf"),
        ([1.0, 1.0], [0.0, 1.0], "positives: found one distinct score, 1.0"),
        ([0.0, 1.0], [2.0], "unlabelled: found one distinct score, 2.0"),
    ],
)
def test_missing_or_broken_scores_are_refused(call: type, p: list[float], u: list[float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call(p, u)


@pytest.mark.parametrize(
    ("ratio", "prior", "said"),
    [
        ([1.0], 0.0, "prior: found 0.0, allowed above 0 and below 1"),
        ([1.0], 1.0, "prior: found 1.0"),
        ([], 0.5, r"ratio: found shape \(0,\)"),
        ([1.0, -2.0], 0.5, "ratio: found -2.0"),
        ([1.0, np.nan], 0.5, "ratio: found nan"),
    ],
)
def test_posteriors_need_a_prior_and_ratios(ratio: list[float], prior: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        posterior_at(ratio, prior)
    with pytest.raises(ValueError, match="ceiling: found 1.0"):
        density_ratio([0.0, 1.0], [0.0, 1.0], ceiling=1.0)
