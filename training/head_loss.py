"""What the heads are trained with: each known label under its own head's loss, together a weighted mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.config import HeadsConfig
from training.examples import HEADS
from training.losses.asymmetric import asymmetric_loss
from training.losses.class_balanced import class_weights
from training.losses.focal import focal_loss
from training.losses.masked_bce import masked_bce
from training.sampling import Weighted


@dataclass(frozen=True)
class HeadLoss:
    """A loss per head."""

    names: Sequence[str]
    """`[H]`, of `LOSSES`."""
    focal_gamma: float
    negative_gamma: float
    clip: float

    @classmethod
    def of(cls, config: HeadsConfig) -> HeadLoss:
        """Return the losses a configuration names."""
        names = [config.loss_of.get(head, "bce") for head in HEADS]
        return cls(names, config.focal_gamma, config.negative_gamma, config.clip)

    def __call__(self, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Return the weighted mean over all known labels, as a scalar; the arguments are those of `masked_bce`."""
        total, found = weights.sum().clamp(min=1e-12), torch.zeros(())
        for name in dict.fromkeys(self.names):
            own = torch.tensor([other == name for other in self.names])
            part = logits[:, own], targets[:, own], weights[:, own]
            found = found + part[2].sum() / total * self._loss(name, *part)
        return found

    def _loss(self, name: str, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        if name == "focal":
            return focal_loss(logits, targets, weights, gamma=self.focal_gamma)
        if name == "asymmetric":
            return asymmetric_loss(
                logits, targets, weights, gamma_positive=0.0, gamma_negative=self.negative_gamma, clip=self.clip
            )
        return masked_bce(logits, targets, weights)  # `class_balanced` has its balance in the weights


def balanced(weighted: Weighted, config: HeadsConfig) -> Weighted:
    """Return targets and weights with both classes of the heads named `class_balanced` weighed by effective number.

    Under them `masked_bce` is the class-balanced cross-entropy of Cui et al. 2019 (arXiv 1901.05555, section 4):
    `sum_i w_i b_i BCE(z_i, y_i) / sum_i w_i b_i`, with w the weights given and b those of `class_weights`. Departure:
    the paper divides by the number of examples; here b is in the denominator too, so that what a positive weighs
    depends on the rest of its batch.

    Args:
        weighted: targets and weights `[n, H]`; a known target above 0 is a positive. Left as it was.
        config: names the heads, and beta.
    """
    heads = [h for h, head in enumerate(HEADS) if config.loss_of.get(head) == "class_balanced"]
    weights = weighted.weights.copy()
    for h in heads:
        known = weights[:, h] > 0
        positive = known & (weighted.targets[:, h] > 0)
        counts = torch.tensor([[positive.sum()], [(known & ~positive).sum()]])
        balance = class_weights(counts[0], counts[1], beta=config.beta)
        weights[:, h] *= torch.where(torch.from_numpy(positive), balance.positive, balance.negative).numpy()
    return Weighted(targets=weighted.targets, weights=weights)


def check_heads(config: HeadsConfig) -> None:
    """Raise `ValueError` where a configuration gives something of its own to a head that there is not."""
    for name in ("dropout_of", "weight_decay_of", "loss_of"):
        unknown = sorted(set(getattr(config, name)) - set(HEADS))
        if unknown:
            raise ValueError(f"heads.{name}: found {unknown[0]!r}, allowed {', '.join(HEADS)}")
