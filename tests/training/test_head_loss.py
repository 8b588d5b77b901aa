from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from training.config import HeadsConfig
from training.examples import HEADS
from training.head_loss import HeadLoss, balanced, check_heads
from training.losses.masked_bce import masked_bce
from training.sampling import Weighted

ROWS = 15
MIXED = HeadsConfig(
    loss_of={"drugs": "focal", "hate": "focal", "scam": "asymmetric", "political": "class_balanced", "toxic": "bce"},
    focal_gamma=1.5, negative_gamma=3.0, clip=0.1, beta=0.5,
)  # fmt: skip


def batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, targets and weights `[n, H]`; a third is unknown, its targets not a number."""
    rng = np.random.default_rng(seed)
    shape = (ROWS, len(HEADS))
    logits = rng.normal(scale=2.0, size=shape)
    weights = rng.uniform(0.5, 3.0, size=shape) * (rng.random(shape) < 0.67)
    targets = np.where(weights > 0, rng.random(shape) < 0.4, np.nan)
    return (torch.from_numpy(each.astype(np.float32)) for each in (logits, targets, weights))  # type: ignore[return-value]


def cost(loss: str, z: float, y: float) -> float:
    """Return what one label costs, by the formulas of the papers."""
    p = 1 / (1 + math.exp(-z))
    if loss == "focal":
        return -math.pow(1 - p, 1.5) * math.log(p) if y else -math.pow(p, 1.5) * math.log(1 - p)
    if loss == "asymmetric":
        q = max(p - 0.1, 0.0)
        return -math.log(p) if y else -math.pow(q, 3.0) * math.log(1 - q)
    return -math.log(p) if y else -math.log(1 - p)


def test_every_label_costs_what_its_own_heads_loss_says() -> None:
    logits, targets, weights = batch()
    total = 0.0
    for h, head in enumerate(HEADS):
        for i in range(ROWS):
            w = weights[i, h].item()
            if w > 0:
                total += w * cost(MIXED.loss_of.get(head, "bce"), logits[i, h].item(), targets[i, h].item())
    found = HeadLoss.of(MIXED)(logits, targets, weights)
    assert found.item() == pytest.approx(total / weights.sum().item(), rel=1e-5)


def test_heads_apart_and_weighted_give_the_mixture() -> None:
    logits, targets, weights = batch(1)
    loss = HeadLoss.of(MIXED)
    apart = torch.zeros(())
    for h in range(len(HEADS)):
        alone = torch.zeros_like(weights)
        alone[:, h] = weights[:, h]
        apart = apart + alone.sum() / weights.sum() * loss(logits, targets, alone)
    torch.testing.assert_close(loss(logits, targets, weights), apart)


def test_without_losses_of_their_own_all_heads_have_cross_entropy() -> None:
    loss = HeadLoss.of(HeadsConfig())
    assert list(loss.names) == ["bce"] * len(HEADS)
    torch.testing.assert_close(loss(*batch()), masked_bce(*batch()))


def test_unknown_labels_reach_neither_value_nor_gradient() -> None:
    logits, targets, weights = batch(2)
    loss, unknown = HeadLoss.of(MIXED), weights == 0
    assert unknown[:, [HEADS.index(head) for head in MIXED.loss_of]].any(0).all()
    found = []
    for z, y in ((logits, targets), (torch.where(unknown, 99.0, logits), torch.where(unknown, 7.0, targets))):
        z = z.clone().requires_grad_()
        value = loss(z, y, weights)
        torch.autograd.backward([value])
        assert z.grad is not None
        assert z.grad[unknown].tolist() == [0.0] * int(unknown.sum())
        assert (z.grad[:, HEADS.index("hate")][~unknown[:, HEADS.index("hate")]] != 0).all()
        found.append((value.item(), z.grad))
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1], found[1][1])


def test_a_batch_without_a_known_label_costs_nothing() -> None:
    logits, targets, weights = batch()
    z = logits.clone().requires_grad_()
    value = HeadLoss.of(MIXED)(z, targets, 0 * weights)
    torch.autograd.backward([value])
    assert value.item() == 0
    assert z.grad is not None
    assert not z.grad.any()


def test_both_classes_of_a_balanced_head_weigh_by_their_effective_number() -> None:
    targets = np.zeros((9, len(HEADS)), dtype=np.float32)
    targets[:2] = 1
    weights = np.full_like(targets, 3.0)
    weights[8] = 0  # unknown
    before = weights.copy()
    found = balanced(Weighted(targets=targets, weights=weights), MIXED)
    # Two positives and six negatives at beta 1/2: effective numbers 1.5 and 1.96875. Inverse to them, and 1 on average:
    # 8 / (2 / 1.5 + 6 / 1.96875) = 1.826087, over 1.5 and over 1.96875.
    political = HEADS.index("political")
    expected = np.array([3 * 1.217391] * 2 + [3 * 0.927536] * 6 + [0])
    np.testing.assert_allclose(found.weights[:, political], expected, rtol=1e-5)
    others = [h for h in range(len(HEADS)) if h != political]
    np.testing.assert_array_equal(found.weights[:, others], before[:, others])
    np.testing.assert_array_equal(found.targets, targets)
    np.testing.assert_array_equal(weights, before)  # what was given is left as it was
    assert found.weights.dtype == np.float32


def test_a_balanced_head_of_one_class_alone_keeps_its_weights() -> None:
    weighted = Weighted(targets=np.zeros((4, len(HEADS)), np.float32), weights=np.ones((4, len(HEADS)), np.float32))
    np.testing.assert_array_equal(balanced(weighted, MIXED).weights, weighted.weights)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (HeadsConfig(loss_of={"hat": "focal"}), r"heads\.loss_of: found 'hat', allowed drugs, weapons, .*toxic"),
        (HeadsConfig(dropout_of={"hate": 0.2, "drug": 0.3}), r"heads\.dropout_of: found 'drug'"),
        (HeadsConfig(weight_decay_of={"bias": 0.1}), r"heads\.weight_decay_of: found 'bias'"),
    ],
)
def test_what_is_meant_for_a_head_that_there_is_not_is_refused(config: HeadsConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_heads(config)


def test_what_is_meant_for_a_head_that_there_is_passes() -> None:
    check_heads(MIXED)
    check_heads(HeadsConfig())
