"""What a step of the first stage follows where families of heads pull apart: one loss, gradient surgery, or one pace.

The heads share the adapter and the pooling block. `static` is one loss whose labels weigh what `training.sampling`
gave them. The others look at the gradients that the families' parts of that loss have of what is shared, which costs
a backward pass per family; 16 single heads would cost 16. A head's own parameters always follow the plain loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from training.examples import HEADS
from training.losses.gradnorm import GradNormState, gradnorm
from training.losses.masked_bce import masked_bce
from training.losses.pcgrad import pcgrad
from training.sampling import FAMILIES, Weighted

ALPHA = 0.5
"""How hard GradNorm pulls slow families along; low, for the losses of single batches are noisy."""
LEARNING_RATE = 0.025
"""Of GradNorm's weights, for norms measured against their mean."""
LEAST_LOSS = 1e-3
"""Where a family's losses are taken to begin at the lowest: one all of whose labels agree would begin at 0."""


def family_heads(heads: Sequence[str] = HEADS) -> Tensor:
    """Return which heads each family has, bool `[K, H]`: `FAMILIES`, then those of no family as one more, if any."""
    named = [[head in family for head in heads] for family in FAMILIES]
    alone = [not any(column) for column in zip(*named, strict=True)]
    return torch.tensor([*named, alone] if any(alone) else named)


def family_losses(logits: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the parts `[K]` that sum to `masked_bce`, and each family's share `[K]` of the weight.

    A part is its family's share of the weight times the mean over its own labels; 0 for a family without labels. The
    arguments are those of `masked_bce`, over `HEADS`.
    """
    total = weights.sum().clamp(min=1e-12)
    shares = torch.stack([weights[:, own].sum() / total for own in family_heads()])
    means = [masked_bce(logits[:, own], targets[:, own], weights[:, own]) for own in family_heads()]
    return shares * torch.stack(means), shares


def gradients_of(losses: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return the gradients float `[K, p]` of K losses by the parameters, end to end; the graph is kept."""
    rows = [torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True) for loss in losses]
    return torch.stack([torch.cat([part.reshape(-1) for part in row]) for row in rows])


def surrogate(value: Tensor, parameters: Sequence[nn.Parameter], gradient: Tensor) -> Tensor:
    """Return a scalar of this value, the gradient of which by the parameters, end to end, is `gradient` `[p]`.

    So a loop that calls `backward` itself may follow any gradient. It is not finite where the gradient is not.
    """
    line = gradient @ torch.cat([parameter.reshape(-1) for parameter in parameters])
    return value.detach() + (line - line.detach())


@dataclass(frozen=True)
class Pulls:
    """What K families ask of the shared parameters in one batch."""

    gradients: Tensor
    """float `[K, p]`, of the families' parts of the loss by the shared parameters; they sum to the plain gradient."""
    losses: Tensor
    """float `[K]`, the mean over each family's own labels; NaN where the batch has none."""


class Balance(nn.Module):
    """`static`: one loss over all heads. What a strategy keeps between steps are parameters that nobody optimises.

    `training.loop` saves the parameters of every module it is given, so such a state outlives a stopped run.
    """

    def forward(self, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Return the loss of a step, a scalar whose `backward` gives the gradients to follow.

        The arguments are those of `masked_bce`, over `HEADS`, the logits with their graph.
        """
        return masked_bce(logits, targets, weights)


class PerFamily(Balance):
    """The loss as `static` has it, with another gradient of what the families share."""

    def __init__(self, shared: Sequence[nn.Parameter], own: Sequence[nn.Parameter]) -> None:
        """Note what all heads share, and what each has of its own; neither becomes this module's."""
        super().__init__()
        self.shared, self.own = tuple(shared), tuple(own)  # in a tuple they are not registered

    def forward(self, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Return the loss of a step: its gradient is `combined` for shared parameters and the plain one for own."""
        losses, shares = family_losses(logits, targets, weights)
        parameters = (*self.shared, *self.own)
        gradients = gradients_of(losses, parameters)  # [K, p + q]
        p = sum(parameter.numel() for parameter in self.shared)
        combined = self.combined(Pulls(gradients[:, :p], losses.detach() / shares))
        return surrogate(losses.sum(), parameters, torch.cat([combined, gradients[:, p:].sum(dim=0)]))

    def combined(self, pulls: Pulls) -> Tensor:
        """Return the gradient float `[p]` that the shared parameters follow in this step."""
        raise NotImplementedError


class PCGrad(PerFamily):
    """`pcgrad`: the sum of the families' gradients after projecting conflicts away (`training.losses.pcgrad`).

    Every step draws its orders from the seed and its number, which is all that is kept between steps.
    """

    def __init__(self, shared: Sequence[nn.Parameter], own: Sequence[nn.Parameter], *, seed: int) -> None:
        """Note the parameters and the seed."""
        super().__init__(shared, own)
        self.seed = seed
        self.step = nn.Parameter(torch.zeros(()))

    def combined(self, pulls: Pulls) -> Tensor:
        """Return the gradient float `[p]` that the shared parameters follow in this step."""
        drawn = int(np.random.default_rng([self.seed, int(self.step)]).integers(2**62))
        self.step.data += 1
        return pcgrad(pulls.gradients, generator=torch.Generator().manual_seed(drawn))


class GradNorm(PerFamily):
    """`gradnorm`: the families' gradients under weights that make them train at one pace (`training.losses.gradnorm`).

    A batch without labels of some family says nothing about its pace: the weights stay. They are all that is kept
    between steps: losses begin at the known `initial_losses`, in place of one noisy batch's (the paper, too, takes a
    theoretical value such as log 2 where the first loss depends on the initialisation).
    """

    def __init__(self, shared: Sequence[nn.Parameter], own: Sequence[nn.Parameter], *, initial_losses: Tensor) -> None:
        """Note the parameters; `initial_losses` is float `[K]`, above 0."""
        super().__init__(shared, own)
        self.initial_losses = initial_losses
        self.weights = nn.Parameter(torch.ones(len(initial_losses)))

    def combined(self, pulls: Pulls) -> Tensor:
        """Return the gradient float `[p]` that the shared parameters follow in this step."""
        weights = self.weights.detach().clone()
        norms = weights * pulls.gradients.norm(dim=1)
        if bool(pulls.losses.isfinite().all()) and bool(norms.sum() > 0):
            state = GradNormState(self.initial_losses, weights)
            # Against their mean, so that a step does not depend on the scale of the loss.
            after = gradnorm(state, norms / norms.mean(), pulls.losses, alpha=ALPHA, learning_rate=LEARNING_RATE)
            self.weights.data.copy_(after.weights)
        return weights @ pulls.gradients


def base_rate_losses(weighted: Weighted) -> Tensor:
    """Return the loss float `[K]` of each family whose heads know nothing but their share of positives.

    That is the entropy of the labels in nats, weighted over the family's heads: log 2, the usual initial loss of two
    classes, where both are as heavy. At least `LEAST_LOSS`.
    """
    weights, targets = (torch.from_numpy(each).double() for each in (weighted.weights, weighted.targets))
    total = weights.sum(dim=0)  # [H]
    positive = (weights * targets).sum(dim=0) / total.clamp(min=1e-12)
    entropy: Tensor = torch.special.entr(positive) + torch.special.entr(1 - positive)
    families = family_heads().double()
    found: Tensor = families @ (entropy * total) / (families @ total).clamp(min=1e-12)
    return found.clamp(min=LEAST_LOSS).float()


def balance_of(
    name: str, shared: Sequence[nn.Parameter], own: Sequence[nn.Parameter], weighted: Weighted, *, seed: int
) -> Balance:
    """Return the strategy of a name, one of `training.config.BALANCES`.

    Args:
        name: the strategy.
        shared: what all heads share and train.
        own: what each head has of its own, trained along.
        weighted: all labels the stage learns from.
        seed: seeds what is drawn.
    """
    if name == "pcgrad":
        return PCGrad(shared, own, seed=seed)
    if name == "gradnorm":
        return GradNorm(shared, own, initial_losses=base_rate_losses(weighted))
    return Balance()
