"""Positive-unlabelled risks: nnPU, imbalanced nnPU, and PUbN for negatives that only review has found.

One file, because they share the estimate of the negative part and what is done where it falls below 0. In all three, g
is the logit, l(z) the cost of a positive with logit z, so that l(-z) is that of a negative, and E_P, E_U and E_bN are
the means over the positive, the unlabelled and the reviewed negative rows. Unlabelled rows stand for all rows, hidden
positives included: a row may be both positive and unlabelled. Each head is a problem of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

Surrogate = Literal["sigmoid", "logistic"]


@dataclass(frozen=True)
class NonNegativeRisk:
    """What one row costs, and what is done where the negative part of a risk falls below 0, which no true risk does.

    Raises:
        ValueError: a field lies outside its range.
    """

    surrogate: Surrogate = "sigmoid"
    """l(z): `sigmoid` is sigmoid(-z), which never exceeds 1; `logistic` is log(1 + exp(-z)), convex."""
    beta: float = 0.0
    """At least 0; how far below 0 the negative part may fall before it is corrected."""
    gamma: float = 1.0
    """In [0, 1]; scales the gradient that lifts the negative part again."""

    def __post_init__(self) -> None:
        if self.surrogate not in get_args(Surrogate):
            raise ValueError(f"surrogate is {self.surrogate!r}; it must be one of {', '.join(get_args(Surrogate))}")
        if not self.beta >= 0:
            raise ValueError(f"beta is {self.beta}; it must be at least 0")
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma is {self.gamma}; it must be at least 0 and at most 1")


DEFAULT = NonNegativeRisk()


def nnpu_loss(
    logits: Tensor, positive: Tensor, unlabelled: Tensor, *, prior: float | Tensor, risk: NonNegativeRisk = DEFAULT
) -> Tensor:
    """Return the non-negative positive-unlabelled risk of each head, float `[L]`.

    `prior E_P[l(g)] + max(-beta, E_U[l(-g)] - prior E_P[l(-g)])`. Where the maximum is -beta, the gradient is that of
    `-gamma (E_U[l(-g)] - prior E_P[l(-g)])` alone, not that of the value (Kiryo et al. 2017, arXiv 1703.00593, and
    their code). Departure: a head without positives or without unlabelled rows is an error; their code lets it cost 0.

    Args:
        logits: float `[n, L]`; anything, NaN included, in rows that are neither positive nor unlabelled.
        positive: bool `[n, L]`, the known positives, a fair sample of all positives. At least one per head.
        unlabelled: bool `[n, L]`. At least one per head.
        prior: in (0, 1); the share of positives among all rows. One for all heads, or float `[L]`.
        risk: the surrogate loss and the correction.

    Raises:
        ValueError: `prior` lies outside (0, 1), or a head has no positive or no unlabelled row.
    """
    return imbalanced_nnpu_loss(logits, positive, unlabelled, prior=prior, target_prior=prior, risk=risk)


def imbalanced_nnpu_loss(
    logits: Tensor,
    positive: Tensor,
    unlabelled: Tensor,
    *,
    prior: float | Tensor,
    target_prior: float | Tensor = 0.5,
    risk: NonNegativeRisk = DEFAULT,
) -> Tensor:
    """Return the non-negative risk of each head as if positives were as frequent as `target_prior`, float `[L]`.

    `t E_P[l(g)] + max(-beta, (1 - t) / (1 - prior) (E_U[l(-g)] - prior E_P[l(-g)]))` with t the target prior (Su, Chen
    and Xu, IJCAI 2021, doi 10.24963/ijcai.2021/412). Under nnPU a rare positive weighs next to nothing. The correction
    is that of `nnpu_loss`, on the weighted negative part, as in the authors' code. Departure: theirs knows no beta and
    no gamma, as here with the defaults. With `target_prior` equal to `prior` it is `nnpu_loss`.

    Args:
        logits: as for `nnpu_loss`.
        positive: as for `nnpu_loss`.
        unlabelled: as for `nnpu_loss`.
        prior: as for `nnpu_loss`.
        target_prior: in (0, 1); 0.5 balances both classes. One for all heads, or float `[L]`.
        risk: as for `nnpu_loss`.

    Raises:
        ValueError: as for `nnpu_loss`, or `target_prior` lies outside (0, 1).
    """
    pi, target = _share("prior", prior, logits), _share("target_prior", target_prior, logits)  # [L]
    _require("positive", positive)
    _require("unlabelled", unlabelled)
    as_positive, as_negative = _costs(logits, positive | unlabelled, risk)  # [n, L]
    rest = _mean(as_negative, unlabelled) - pi * _mean(as_negative, positive)  # [L]
    return _corrected(target * _mean(as_positive, positive), (1 - target) / (1 - pi) * rest, risk)


@dataclass(frozen=True)
class Reviewed:
    """The rows that review found negative, and how likely review is to see each row."""

    negative: Tensor
    """bool `[n, L]`; at least one per head."""
    propensity: Tensor
    """float `[n, L]` in [0, 1]; the probability e that a row like this one is reviewed if it is negative. Of every
    positive, unlabelled and negative row; anything, NaN included, elsewhere."""
    share: float | Tensor
    """In (0, 1); the share of reviewed negatives among all rows. One for all heads, or float `[L]`."""


def pubn_loss(
    logits: Tensor,
    positive: Tensor,
    unlabelled: Tensor,
    reviewed: Reviewed,
    *,
    prior: float | Tensor,
    threshold: float,
    risk: NonNegativeRisk = DEFAULT,
) -> Tensor:
    """Return the risk of each head from positives, unlabelled rows and the negatives that review chose, float `[L]`.

    With c the threshold, `prior E_P[l(g)] + share E_bN[w l(-g)] + max(-beta, E_U[u l(-g)] - prior E_P[u l(-g)])`, where
    `e > c` gives w = 1/e and u = 0, and `e <= c` gives w = 1 and u = 1 - e: where review sees enough, its negatives are
    weighed by inverse propensity, elsewhere the unlabelled rows make up for what it does not see. No w exceeds 1/c, yet
    nothing is cut off. With e = 1 it is the risk of positives and negatives, with e = 0 nnPU plus `share E_bN[l(-g)]`.

    The split and the threshold are those of PUbN (Hsieh, Niu and Sugiyama 2019, arXiv 1810.00846). Departure: they
    weigh by s, the probability that a row is a positive or a reviewed negative, which a first model estimates: 1 - s
    for an unlabelled row, (1 - s) / s for a labelled one. The propensity of review is known, but no such s (positives
    would count as negatives); nor does it tell positives from negatives, hence the subtraction and correction of nnPU.

    Args:
        logits: float `[n, L]`; anything, NaN included, in rows of no group.
        positive: as for `nnpu_loss`; not weighed by propensity.
        unlabelled: as for `nnpu_loss`; reviewed or not.
        reviewed: the negatives that review found, and how likely it was to look.
        prior: as for `nnpu_loss`.
        threshold: in [0, 1); the propensity above which a negative is weighed by its inverse.
        risk: as for `nnpu_loss`.

    Raises:
        ValueError: a head lacks rows of a group, or a number lies outside its range.
    """
    pi, share = _share("prior", prior, logits), _share("share", reviewed.share, logits)  # [L]
    _require("positive", positive)
    _require("unlabelled", unlabelled)
    _require("negative", reviewed.negative)
    known = positive | unlabelled | reviewed.negative  # [n, L]
    weight, unseen = _weights(reviewed.propensity.masked_fill(~known, 1.0), threshold)
    as_positive, as_negative = _costs(logits, known, risk)
    labelled = pi * _mean(as_positive, positive) + share * _mean(weight * as_negative, reviewed.negative)  # [L]
    rest = _mean(unseen * as_negative, unlabelled) - pi * _mean(unseen * as_negative, positive)
    return _corrected(labelled, rest, risk)


def _costs(logits: Tensor, known: Tensor, risk: NonNegativeRisk) -> tuple[Tensor, Tensor]:
    """Return what each row costs as a positive, l(g), and as a negative, l(-g), float `[n, L]` each."""
    z = logits.masked_fill(~known, 0.0)  # before the loss: behind it, the gradient of a masked NaN is NaN
    if risk.surrogate == "sigmoid":
        return torch.sigmoid(-z), torch.sigmoid(z)
    return -logsigmoid(z), -logsigmoid(-z)


def _mean(costs: Tensor, rows: Tensor) -> Tensor:
    """Return the mean cost of some rows of each head, float `[L]`."""
    return costs.masked_fill(~rows, 0.0).sum(dim=0) / rows.sum(dim=0)


def _corrected(labelled: Tensor, rest: Tensor, risk: NonNegativeRisk) -> Tensor:
    """Return the labelled part of a risk and the rest, which is corrected where it lies below -beta, float `[L]`."""
    below = rest < -risk.beta  # [L]
    value = torch.where(below, labelled - risk.beta, labelled + rest)
    descended = torch.where(below, -risk.gamma * rest, labelled + rest)
    return value.detach() + (descended - descended.detach())  # the bracket is 0 and carries the gradient


def _weights(propensity: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Return the weight of a reviewed negative and the share that review does not see, float `[n, L]` each."""
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold is {threshold}; it must be at least 0 and below 1")
    outside = ~((propensity >= 0) & (propensity <= 1))
    if bool(outside.any()):
        raise ValueError(f"propensity is {propensity[outside][0].item()}; it must be at least 0 and at most 1")
    often = propensity > threshold
    return torch.where(often, 1 / propensity, 1.0), (1 - propensity).masked_fill(often, 0.0)


def _share(name: str, value: float | Tensor, logits: Tensor) -> Tensor:
    """Return a share, or one per head, as float `[L]`; `ValueError` unless all lie in (0, 1)."""
    shares = torch.as_tensor(value, dtype=logits.dtype, device=logits.device).expand(logits.shape[1])
    outside = ~((shares > 0) & (shares < 1))
    if bool(outside.any()):
        raise ValueError(f"{name} is {shares[outside][0].item()}; it must be above 0 and below 1")
    return shares


def _require(name: str, rows: Tensor) -> None:
    """Raise `ValueError` where a head has none of the rows it needs."""
    empty = (~rows.any(dim=0)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"{name} has 0 rows for head {empty[0]}; each head must have at least 1")
