from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from training.losses.pu import NonNegativeRisk, Reviewed, Surrogate, imbalanced_nnpu_loss, nnpu_loss, pubn_loss

SURROGATES: tuple[Surrogate, ...] = ("sigmoid", "logistic")
PRIOR = torch.tensor([0.6, 0.3, 0.5], dtype=torch.float64)
TARGET = torch.tensor([0.5, 0.9, 0.2], dtype=torch.float64)
SHARE = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
THRESHOLD = 0.5


@dataclass(frozen=True)
class Batch:
    logits: Tensor
    positive: Tensor
    unlabelled: Tensor
    reviewed: Reviewed


def batch() -> Batch:
    """Return 14 rows and 3 heads; the negative part is far below 0 for head 0, above 0 for head 1, near 0 for head 2.

    The last row is in no group, some are in two, and what no group needs is not a number.
    """
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(14, 3, generator=generator, dtype=torch.float64)
    positive, unlabelled, negative = (torch.zeros(14, 3, dtype=torch.bool) for _ in range(3))
    positive[:4], unlabelled[3:10], negative[8:13] = True, True, True
    positive[4, 1], unlabelled[0, 2], negative[12, 0] = True, False, False
    logits[:3] += torch.tensor([4.0, 0.0, 1.0])
    logits[4:] -= torch.tensor([4.0, -1.0, 1.2])
    propensity = torch.rand(14, 3, generator=generator, dtype=torch.float64)
    propensity[:10, 0] *= 0.4  # below the threshold: else head 0 has no negative part under PUbN
    propensity[9] = THRESHOLD
    unused = ~(positive | unlabelled | negative)
    reviewed = Reviewed(negative, propensity.masked_fill(unused, math.nan), SHARE)
    return Batch(logits.masked_fill(unused, math.nan), positive, unlabelled, reviewed)


def cost(surrogate: str, z: float) -> float:
    return 1 / (1 + math.exp(z)) if surrogate == "sigmoid" else math.log1p(math.exp(-z))


def slope(surrogate: str, z: float) -> float:
    """Return the derivative of the cost."""
    p = 1 / (1 + math.exp(-z))
    return -p * (1 - p) if surrogate == "sigmoid" else p - 1


@dataclass
class Part:
    """A sum over rows, weight by weight, with its gradient."""

    value: float
    gradient: list[float]

    def add(self, surrogate: str, logits: list[float], rows: list[float], weight: float, sign: int) -> None:
        """Add `weight * sum_i rows_i l(sign * logits_i)`."""
        for i, row in enumerate(rows):
            if row:
                self.value += weight * row * cost(surrogate, sign * logits[i])
                self.gradient[i] += weight * row * sign * slope(surrogate, sign * logits[i])


def reference(labelled: Part, rest: Part, risk: NonNegativeRisk) -> Part:
    """Return what the code of Kiryo et al. reports as the loss, and descends."""
    if rest.value < -risk.beta:
        return Part(labelled.value - risk.beta, [-risk.gamma * each for each in rest.gradient])
    both = zip(labelled.gradient, rest.gradient, strict=True)
    return Part(labelled.value + rest.value, [one + other for one, other in both])


def parts(head: int, risk: NonNegativeRisk, *, target: Tensor | None, reviewed: bool) -> tuple[Part, Part]:
    """Return the labelled and the negative part of one head, row by row."""
    given = batch()
    logits, weights = given.logits[:, head].tolist(), given.reviewed.propensity[:, head].tolist()
    positive, unlabelled, negative = (
        rows[:, head].double().tolist() for rows in (given.positive, given.unlabelled, given.reviewed.negative)
    )
    pi, rho = PRIOR[head].item(), SHARE[head].item()
    labelled, rest = Part(0.0, [0.0] * 14), Part(0.0, [0.0] * 14)
    first = pi if target is None else target[head].item()
    scale = (1 - first) / (1 - pi)
    labelled.add(risk.surrogate, logits, positive, first / sum(positive), 1)
    unseen = [1.0] * 14
    if reviewed:
        unseen = [0.0 if e > THRESHOLD else 1 - e for e in weights]
        seen = [row and (row / e if e > THRESHOLD else row) for row, e in zip(negative, weights, strict=True)]
        labelled.add(risk.surrogate, logits, seen, rho / sum(negative), -1)
    for rows, weight in ((unlabelled, scale / sum(unlabelled)), (positive, -scale * pi / sum(positive))):
        some = [row and row * part for row, part in zip(rows, unseen, strict=True)]
        rest.add(risk.surrogate, logits, some, weight, -1)
    return labelled, rest


def gradient_of(risks: Tensor, logits: Tensor) -> Tensor:
    return torch.autograd.grad(risks.sum(), logits)[0]


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize(("beta", "gamma"), [(0.0, 1.0), (0.2, 0.5), (9.0, 1.0)])
@pytest.mark.parametrize("method", ["nnpu", "imbalanced", "pubn"])
def test_value_and_gradient_are_those_of_the_formula(
    method: str, beta: float, gamma: float, surrogate: Surrogate
) -> None:
    given, risk = batch(), NonNegativeRisk(surrogate, beta, gamma)
    logits, rows = given.logits.requires_grad_(), (given.positive, given.unlabelled)
    if method == "nnpu":
        found = nnpu_loss(logits, *rows, prior=PRIOR, risk=risk)
    elif method == "imbalanced":
        found = imbalanced_nnpu_loss(logits, *rows, prior=PRIOR, target_prior=TARGET, risk=risk)
    else:
        found = pubn_loss(logits, *rows, given.reviewed, prior=PRIOR, threshold=THRESHOLD, risk=risk)
    target = TARGET if method == "imbalanced" else None
    expected = [parts(head, risk, target=target, reviewed=method == "pubn") for head in range(3)]
    assert [rest.value < -beta for _, rest in expected][:2] == [beta < 1, False]  # both branches, side by side
    whole = [reference(labelled, rest, risk) for labelled, rest in expected]
    assert found.tolist() == pytest.approx([each.value for each in whole])
    gradient = gradient_of(found, logits)
    for head, each in enumerate(whole):
        assert gradient[:, head].tolist() == pytest.approx(each.gradient)


def test_numbers_of_one_positive_and_one_unlabelled() -> None:
    logits = torch.tensor([[math.log(3)], [0.0]], requires_grad=True)  # sigmoid 3/4 and 1/2
    rows = torch.tensor([[True], [False]]), torch.tensor([[False], [True]])
    assert nnpu_loss(logits, *rows, prior=0.5).item() == pytest.approx(0.5 / 4 + 1 / 2 - 0.5 * 3 / 4)
    # the negative part is 1/2 - 0.8 * 3/4 = -0.1, so that only 0.8 * 1/4 is left, and the gradient lifts the -0.1
    corrected = nnpu_loss(logits, *rows, prior=0.8)
    assert corrected.item() == pytest.approx(0.2)
    assert gradient_of(corrected, logits).flatten().tolist() == pytest.approx([0.8 * 3 / 16, -1 / 4])
    # halfway: 0.5 / 4 + 0.5 / 0.8 * (1/2 - 0.2 * 3/4)
    assert imbalanced_nnpu_loss(logits, *rows, prior=0.2).item() == pytest.approx(0.125 + 0.625 * 0.35)


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_imbalanced_with_the_prior_as_its_target_is_nnpu(surrogate: Surrogate) -> None:
    given, risk = batch(), NonNegativeRisk(surrogate, beta=0.05)
    logits, rows = given.logits.requires_grad_(), (given.positive, given.unlabelled)
    found = imbalanced_nnpu_loss(logits, *rows, prior=PRIOR, target_prior=PRIOR, risk=risk)
    expected = nnpu_loss(logits, *rows, prior=PRIOR, risk=risk)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient_of(found, logits), gradient_of(expected, logits))


def test_a_rare_positive_weighs_as_much_as_the_target_prior_says() -> None:
    logits, positive = torch.zeros(2, 1, requires_grad=True), torch.tensor([[True], [False]])
    rows = positive, ~positive
    plain = gradient_of(nnpu_loss(logits, *rows, prior=0.01), logits)
    balanced = gradient_of(imbalanced_nnpu_loss(logits, *rows, prior=0.01), logits)
    # at 0 the slope of either cost is 1/4: the positive pulls with t + (1 - t) / (1 - prior) * prior quarters
    assert plain.flatten().tolist() == pytest.approx([-0.02 / 4, 1 / 4])
    assert balanced.flatten().tolist() == pytest.approx([-(0.5 + 0.005 / 0.99) / 4, 0.5 / 0.99 / 4])


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.55, 0.9])
def test_over_a_whole_population_pubn_is_the_risk_of_its_true_labels(threshold: float, surrogate: Surrogate) -> None:
    """Four kinds of rows, of which review sees 0.6, 0.5, 1/9 and none of the negatives."""
    rows, positives, reviewed = [20, 20, 30, 40], [10, 2, 3, 1], [6, 9, 3, 0]
    kind = torch.arange(4).repeat_interleave(torch.tensor(rows))
    rank = torch.cat([torch.arange(n) for n in rows])
    first, seen = torch.tensor(positives)[kind], torch.tensor(reviewed)[kind]
    positive = (rank < first)[:, None]
    negative = ((rank >= first) & (rank < first + seen))[:, None]
    e = torch.tensor([6 / 10, 9 / 18, 3 / 27, 0.0], dtype=torch.float64)
    z = torch.tensor([1.5, 0.4, -0.3, -2.0], dtype=torch.float64, requires_grad=True)
    found = pubn_loss(
        z[kind][:, None], positive, torch.ones_like(positive), Reviewed(negative, e[kind][:, None], 18 / 110),
        prior=16 / 110, threshold=threshold, risk=NonNegativeRisk(surrogate),
    )  # fmt: skip
    value, gradient = 0.0, []
    for n, p, logit in zip(rows, positives, z.tolist(), strict=True):
        value += (p * cost(surrogate, logit) + (n - p) * cost(surrogate, -logit)) / 110
        gradient.append((p * slope(surrogate, logit) - (n - p) * slope(surrogate, -logit)) / 110)
    assert found.item() == pytest.approx(value)
    assert gradient_of(found, z).tolist() == pytest.approx(gradient)


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_where_review_sees_every_negative_pubn_is_the_risk_of_positives_and_negatives(surrogate: Surrogate) -> None:
    given, risk = batch(), NonNegativeRisk(surrogate)
    negative = given.reviewed.negative
    found = pubn_loss(
        given.logits, given.positive, given.unlabelled,
        Reviewed(negative, torch.ones(14, 3), 1 - PRIOR), prior=PRIOR, threshold=THRESHOLD, risk=risk,
    )  # fmt: skip
    for head in range(3):
        as_positive = [cost(surrogate, z) for z in given.logits[given.positive[:, head], head].tolist()]
        as_negative = [cost(surrogate, -z) for z in given.logits[negative[:, head], head].tolist()]
        pi = PRIOR[head].item()
        expected = pi * sum(as_positive) / len(as_positive) + (1 - pi) * sum(as_negative) / len(as_negative)
        assert found[head].item() == pytest.approx(expected)


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_where_review_sees_no_negative_pubn_is_nnpu_and_the_negatives(threshold: float) -> None:
    given, risk = batch(), NonNegativeRisk("logistic")
    logits, rows = given.logits.requires_grad_(), (given.positive, given.unlabelled)
    reviewed = Reviewed(given.reviewed.negative, torch.zeros(14, 3), SHARE)
    found = pubn_loss(logits, *rows, reviewed, prior=PRIOR, threshold=threshold, risk=risk)
    expected = nnpu_loss(logits, *rows, prior=PRIOR, risk=risk)
    for head in range(3):
        costs = [cost("logistic", -z) for z in logits[reviewed.negative[:, head], head].tolist()]
        extra = SHARE[head].item() * sum(costs) / len(costs)
        assert found[head].item() == pytest.approx(expected[head].item() + extra)


EXTREME = torch.tensor([[1e4], [-1e4], [1e4], [-1e4], [1e4], [-1e4]])
EXTREME_ROWS = torch.tensor([[True]] * 2 + [[False]] * 4), torch.tensor([[False]] * 2 + [[True]] * 2 + [[False]] * 2)
EXTREME_NEGATIVE = torch.tensor([[False]] * 4 + [[True]] * 2)


@pytest.mark.parametrize(
    ("surrogate", "value", "gradient"),
    [("sigmoid", 0.5, [0.0, 0.0, 0.0, 0.0]), ("logistic", 5000.0, [-0.25, -0.25, 0.5, 0.0])],
)
def test_extreme_logits_have_finite_values_and_gradients(
    surrogate: Surrogate, value: float, gradient: list[float]
) -> None:
    logits, risk = EXTREME.clone().requires_grad_(), NonNegativeRisk(surrogate)
    loss = nnpu_loss(logits, *EXTREME_ROWS, prior=0.5, risk=risk)
    assert loss.item() == value
    assert gradient_of(loss, logits).flatten().tolist() == [*gradient, 0.0, 0.0]
    balanced = imbalanced_nnpu_loss(logits, *EXTREME_ROWS, prior=0.5, risk=risk)
    assert balanced.item() == value
    # propensity 1/2 above and below the threshold: negatives weigh 2, or 1 and the negative part half of nnPU's
    reviewed = Reviewed(EXTREME_NEGATIVE, torch.full((6, 1), 0.5), 0.25)
    weighed = pubn_loss(logits, *EXTREME_ROWS, reviewed, prior=0.5, threshold=0.4, risk=risk)
    counted = pubn_loss(logits, *EXTREME_ROWS, reviewed, prior=0.5, threshold=0.6, risk=risk)
    assert (weighed.item(), counted.item()) == (value, value)
    # d/dz of l(-z) at 1e4, where only the logistic loss has a slope: 2 * 0.25 / 2 and 0.25 / 2
    steep = float(surrogate == "logistic")
    assert gradient_of(weighed, logits).flatten().tolist() == [0.0, -0.25 * steep, 0.0, 0.0, 0.25 * steep, 0.0]
    expected = [-0.125 * steep, -0.25 * steep, 0.25 * steep, 0.0, 0.125 * steep, 0.0]
    assert gradient_of(counted, logits).flatten().tolist() == expected


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_extreme_logits_are_corrected_to_finite_values_and_gradients(surrogate: Surrogate) -> None:
    logits = torch.tensor([[1e4], [0.1], [-1e4]], requires_grad=True)  # two positives and an unlabelled row
    rows, risk = torch.tensor([[True], [True], [False]]), NonNegativeRisk(surrogate)
    loss = nnpu_loss(logits, rows, ~rows, prior=0.5, risk=risk)
    # to the last digits, although the negative part of the logistic loss is -2500
    assert loss.item() == pytest.approx(0.5 / 2 * cost(surrogate, 0.1), rel=1e-6)
    expected = [0.25 * (surrogate == "logistic"), -0.25 * slope(surrogate, -0.1), 0.0]
    assert gradient_of(loss, logits).flatten().tolist() == pytest.approx(expected)


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("unknown", [math.nan, math.inf, -1e38])
@pytest.mark.parametrize("prior", [0.2, 0.9])
def test_what_is_unknown_reaches_neither_value_nor_gradient(prior: float, unknown: float, surrogate: Surrogate) -> None:
    targets = torch.tensor([[1.0, math.nan], [1.0, 1.0], [math.nan, math.nan], [0.0, 0.0], [math.nan, 1.0]])
    asked = torch.tensor([[True]] * 4 + [[False]]).expand(5, 2)  # the last row belongs to another source
    positive, unlabelled, negative = (targets > 0) & asked, targets.isnan() & asked, targets == 0
    logits = torch.tensor([[2.0, -1.0], [1.0, 3.0], [-2.0, 0.5], [0.3, -0.7], [unknown, unknown]], requires_grad=True)
    propensity = torch.tensor([[0.1, 0.2], [0.9, 0.3], [0.2, 0.4], [0.6, 0.2], [unknown, unknown]])
    risk = NonNegativeRisk(surrogate)
    found, expected = (
        (
            nnpu_loss(logits[:n].masked_fill(negative[:n], fill), positive[:n], unlabelled[:n], prior=prior, risk=risk),
            pubn_loss(
                logits[:n], positive[:n], unlabelled[:n], Reviewed(negative[:n], propensity[:n], 0.1),
                prior=prior, threshold=THRESHOLD, risk=risk,
            ),
        )
        for n, fill in ((5, unknown), (4, 0.0))
    )  # fmt: skip
    for one, other in zip(found, expected, strict=True):
        assert bool(one.isfinite().all())
        torch.testing.assert_close(one, other)
        torch.testing.assert_close(gradient_of(one, logits), gradient_of(other, logits))


@pytest.mark.parametrize("prior", [0.0, 1.0, -0.5, 1.5, math.nan, torch.tensor([0.5, 0.5, 2.0])])
def test_a_prior_that_is_no_share_is_refused(prior: float | Tensor) -> None:
    given = batch()
    rows, allowed = (given.positive, given.unlabelled), "it must be above 0 and below 1"
    value = prior[2].item() if isinstance(prior, Tensor) else prior
    with pytest.raises(ValueError, match=f"^prior is {value}; {allowed}"):
        nnpu_loss(given.logits, *rows, prior=prior)
    with pytest.raises(ValueError, match=f"^target_prior is {value}; {allowed}"):
        imbalanced_nnpu_loss(given.logits, *rows, prior=0.5, target_prior=prior)
    with pytest.raises(ValueError, match=f"^prior is {value}; {allowed}"):
        pubn_loss(given.logits, *rows, given.reviewed, prior=prior, threshold=0.5)
    with pytest.raises(ValueError, match=f"^share is {value}; {allowed}"):
        pubn_loss(given.logits, *rows, replace(given.reviewed, share=prior), prior=0.5, threshold=0.5)


@pytest.mark.parametrize("lacking", ["positive", "unlabelled", "negative"])
def test_a_head_without_rows_of_a_group_is_refused(lacking: str) -> None:
    given = batch()
    groups = {"positive": given.positive, "unlabelled": given.unlabelled, "negative": given.reviewed.negative}
    groups[lacking][:, 1] = False
    message = f"^{lacking} has 0 rows for head 1; each head must have at least 1$"
    reviewed = replace(given.reviewed, propensity=torch.ones(14, 3))
    with pytest.raises(ValueError, match=message):
        pubn_loss(given.logits, given.positive, given.unlabelled, reviewed, prior=0.5, threshold=0.5)
    if lacking != "negative":
        with pytest.raises(ValueError, match=message):
            nnpu_loss(given.logits, given.positive, given.unlabelled, prior=0.5)


@pytest.mark.parametrize("propensity", [-0.25, 1.5, math.nan])
def test_a_propensity_that_is_no_probability_is_refused(propensity: float) -> None:
    given = batch()
    given.reviewed.propensity[0, 1] = propensity
    rows = given.positive, given.unlabelled, given.reviewed
    with pytest.raises(ValueError, match=f"^propensity is {propensity}; it must be at least 0 and at most 1"):
        pubn_loss(given.logits, *rows, prior=0.5, threshold=0.5)


@pytest.mark.parametrize("threshold", [-0.1, 1.0, math.nan])
def test_a_threshold_outside_its_range_is_refused(threshold: float) -> None:
    given = batch()
    with pytest.raises(ValueError, match=f"^threshold is {threshold}; it must be at least 0 and below 1"):
        pubn_loss(given.logits, given.positive, given.unlabelled, given.reviewed, prior=0.5, threshold=threshold)


def test_a_risk_out_of_its_ranges_is_refused() -> None:
    with pytest.raises(ValueError, match="^surrogate is 'hinge'; it must be one of sigmoid, logistic"):
        NonNegativeRisk("hinge")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^beta is -1; it must be at least 0"):
        NonNegativeRisk(beta=-1)
    with pytest.raises(ValueError, match="^gamma is 2; it must be at least 0 and at most 1"):
        NonNegativeRisk(gamma=2)
