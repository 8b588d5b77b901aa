from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchjd.aggregation import PCGrad as TorchJDPCGrad
from torchjd.autojac import backward, jac_to_grad

import training.balance
from training.balance import (
    ALPHA,
    LEARNING_RATE,
    LEAST_LOSS,
    Balance,
    GradNorm,
    PCGrad,
    PerFamily,
    Pulls,
    balance_of,
    base_rate_losses,
    family_heads,
    family_losses,
    gradients_of,
    surrogate,
)
from training.config import BALANCES
from training.examples import HEADS
from training.loop import LoopConfig, run_steps
from training.losses.gradnorm import GradNormState, gradnorm
from training.losses.masked_bce import masked_bce
from training.losses.pcgrad import pcgrad
from training.sampling import FAMILIES, Weighted

H, ROWS, STEPS = len(HEADS), 24, 13
TWO = [h for h, head in enumerate(HEADS) if head in FAMILIES[0] | FAMILIES[1]]
"""The heads of two families."""


class Interrupted(Exception):
    """Stops a run as a power cut would."""


class Net(nn.Module):
    """A trunk that H heads share, and a vector of its own for each head; one shared parameter that nothing reads."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.trunk = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 6))
        self.unread = nn.Parameter(torch.ones(3))
        self.judges = nn.Parameter(torch.randn(6, H))
        self.bias = nn.Parameter(torch.zeros(H))

    @property
    def shared(self) -> list[nn.Parameter]:
        return [*self.trunk.parameters(), self.unread]

    @property
    def own(self) -> list[nn.Parameter]:
        return [self.judges, self.bias]

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.trunk(x) @ self.judges + self.bias
        return logits


def batch(seed: int = 0, heads: list[int] | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, targets and weights; a third of the labels is unknown, its targets not a number, as are other heads'."""
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.5, 3.0, size=(ROWS, H)) * (rng.random((ROWS, H)) < 0.67)
    if heads is not None:
        weights[:, [h for h in range(H) if h not in heads]] = 0
    targets = np.where(weights > 0, rng.random((ROWS, H)) < 0.4, np.nan)
    x = rng.normal(size=(ROWS, 5))
    return (torch.from_numpy(each.astype(np.float32)) for each in (x, targets, weights))  # type: ignore[return-value]


def weighted(seed: int = 0) -> Weighted:
    _, targets, weights = batch(seed)
    return Weighted(targets=targets.nan_to_num().numpy(), weights=weights.numpy())


def gradients(net: Net, loss: Tensor) -> dict[str, Tensor]:
    net.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in net.named_parameters()}


def plain(net: Net, x: Tensor, targets: Tensor, weights: Tensor) -> dict[str, Tensor]:
    return gradients(net, masked_bce(net(x), targets, weights))


def flat(found: dict[str, Tensor], names: list[str]) -> Tensor:
    return torch.cat([found[name].reshape(-1) for name in names])


def shared_names(net: Net) -> list[str]:
    """Return the names of `net.shared`, in its order."""
    return [next(name for name, p in net.named_parameters() if p is shared) for shared in net.shared]


class Summed(PerFamily):
    """The plain sum, by way of the families."""

    def combined(self, pulls: Pulls) -> Tensor:
        return pulls.gradients.sum(dim=0)


def test_every_head_is_of_one_family() -> None:
    families = family_heads()
    assert families.shape == (len(FAMILIES), H)
    assert families.sum(dim=0).tolist() == [1] * H
    for row, family in zip(families, FAMILIES, strict=True):
        assert {HEADS[h] for h in row.nonzero().flatten()} == family


def test_heads_of_no_family_make_one_more() -> None:
    families = family_heads(["scam", "other", "hate", "new"])
    assert families.int().tolist() == [[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 1]]


def test_the_parts_of_the_loss_by_hand() -> None:
    logits = torch.zeros(1, H)
    targets, weights = torch.full((2, 1, H), torch.nan)
    weights = torch.zeros(1, H)
    for head, weight, logit, target in (("hate", 1, 0, 1), ("scam", 2, 0, 0), ("scam", 2, 0, 0), ("gambling", 1, 3, 1)):
        h = HEADS.index(head)
        logits[0, h], weights[0, h], targets[0, h] = logit, weight, target
    parts, shares = family_losses(logits, targets, weights)
    assert shares.tolist() == [0.25, 0.75, 0]
    gambling = math.log(1 + math.exp(-3))
    assert parts.tolist() == pytest.approx([math.log(2) / 4, (2 * math.log(2) + gambling) / 4, 0])


@pytest.mark.parametrize("heads", [None, TWO, []])
def test_the_parts_sum_to_the_loss(heads: list[int] | None) -> None:
    x, targets, weights = batch(3, heads)
    logits = Net()(x)
    parts, shares = family_losses(logits, targets, weights)
    torch.testing.assert_close(parts.sum(), masked_bce(logits, targets, weights))
    assert float(shares.sum()) == pytest.approx(1 if heads != [] else 0)


def test_a_surrogate_has_the_value_and_the_gradient_it_is_given() -> None:
    first, second = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.full((3,), 1e4))
    wanted = torch.arange(7.0) * 1e3
    loss = surrogate(torch.tensor(0.1), [first, second], wanted)
    assert loss.item() == torch.tensor(0.1).item()
    loss.backward()  # type: ignore[no-untyped-call]
    assert first.grad is not None
    assert second.grad is not None
    assert torch.equal(torch.cat([first.grad.flatten(), second.grad]), wanted)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_gradient_that_is_not_finite_shows_in_the_value(value: float) -> None:
    assert not surrogate(torch.tensor(0.1), [nn.Parameter(torch.ones(1))], torch.tensor([value])).isfinite()


def test_static_is_the_loss_itself() -> None:
    net, (x, targets, weights) = Net(), batch()
    balance = balance_of("static", net.shared, net.own, weighted(), seed=0)
    assert type(balance) is Balance
    assert list(balance.parameters()) == []
    expected, loss = plain(net, x, targets, weights), balance(net(x), targets, weights)
    assert torch.equal(loss, masked_bce(net(x), targets, weights))
    for name, found in gradients(net, loss).items():
        assert torch.equal(found, expected[name]), name


@pytest.mark.parametrize("heads", [None, TWO])
def test_families_whose_gradients_are_summed_give_the_gradient_of_the_loss(heads: list[int] | None) -> None:
    net, (x, targets, weights) = Net(), batch(1, heads)
    loss = Summed(net.shared, net.own)(net(x), targets, weights)
    torch.testing.assert_close(loss, masked_bce(net(x), targets, weights))
    expected = plain(net, x, targets, weights)
    for name, found in gradients(net, loss).items():
        torch.testing.assert_close(found, expected[name], msg=name)


def test_parameters_of_others_are_not_those_of_the_balance() -> None:
    net = Net()
    for name, state in (("pcgrad", {"step"}), ("gradnorm", {"weights"})):
        balance = balance_of(name, net.shared, net.own, weighted(), seed=0)
        assert {key for key, p in balance.named_parameters() if p.requires_grad} == state


@pytest.mark.parametrize("seed", range(6))
def test_pcgrad_on_two_families_is_as_torchjd_has_it(seed: int) -> None:
    net, (x, targets, weights) = Net(seed), batch(seed, TWO)
    losses, _ = family_losses(net(x), targets, weights)
    pull = gradients_of(losses[:2], net.shared)
    net.zero_grad()
    read = [parameter for parameter in net.shared if parameter is not net.unread]
    backward(list(losses[:2]), inputs=read)
    jac_to_grad(read, TorchJDPCGrad())
    expected = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    balance = balance_of("pcgrad", net.shared, net.own, weighted(), seed=0)
    found = gradients(net, balance(net(x), targets, weights))
    for name in shared_names(net):
        torch.testing.assert_close(found[name], expected.get(name, torch.zeros(3)), msg=name)
    changed = not torch.allclose(flat(found, shared_names(net)), pull.sum(dim=0), atol=1e-6)
    assert changed == bool(pull[0] @ pull[1] < 0)


def test_some_of_those_families_are_in_conflict() -> None:
    """Otherwise the comparison with torchjd would be one of sums."""
    found = []
    for seed in range(6):
        net, (x, targets, weights) = Net(seed), batch(seed, TWO)
        first, second = gradients_of(family_losses(net(x), targets, weights)[0][:2], net.shared)
        found.append(bool(first @ second < 0))
    assert {True, False} == set(found)


@pytest.mark.parametrize("name", ["pcgrad", "gradnorm"])
def test_what_a_head_has_of_its_own_follows_the_plain_loss(name: str) -> None:
    net = Net()
    balance = balance_of(name, net.shared, net.own, weighted(), seed=0)
    for seed in range(4):
        x, targets, weights = batch(seed)
        expected = plain(net, x, targets, weights)
        loss = balance(net(x), targets, weights)
        found = gradients(net, loss)
        torch.testing.assert_close(loss, masked_bce(net(x), targets, weights))
        for own in ("judges", "bias"):
            torch.testing.assert_close(found[own], expected[own])
    assert not torch.allclose(found["trunk.0.weight"], expected["trunk.0.weight"], rtol=1e-3)


def test_pcgrad_draws_other_orders_in_every_step_and_the_same_in_every_run() -> None:
    # Three tasks whose result depends on the order.
    pulls = Pulls(torch.tensor([[1.0, 0.0], [-1.0, 1.0], [-2.0, -1.0]]), torch.ones(3))
    runs = []
    for seed in (0, 0, 1):
        balance = PCGrad([], [], seed=seed)
        runs.append([tuple(balance.combined(pulls).tolist()) for _ in range(12)])
    assert runs[0] == runs[1] != runs[2]
    assert len(set(runs[0])) > 1
    possible = {tuple(pcgrad(pulls.gradients, generator=torch.Generator().manual_seed(i)).tolist()) for i in range(50)}
    assert set(runs[0]) <= possible


def test_gradnorm_weighs_the_families_and_learns_the_weights() -> None:
    initial = torch.tensor([0.5, 0.25, 0.7])
    balance = GradNorm([], [], initial_losses=initial)
    pulls = Pulls(torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.0, -3.0]]), torch.tensor([0.4, 0.25, 0.1]))
    assert balance.combined(pulls).tolist() == [3, 2]  # weights 1: the plain sum
    norms = torch.tensor([5.0, 1.0, 3.0]) / 3
    state = gradnorm(
        GradNormState(initial, torch.ones(3)), norms, pulls.losses, alpha=ALPHA, learning_rate=LEARNING_RATE
    )
    torch.testing.assert_close(balance.weights.detach(), state.weights)
    assert balance.weights[1] > 1 > balance.weights[0]  # the weakest gain, and the second has not come far
    w = state.weights.tolist()
    assert balance.combined(pulls).tolist() == pytest.approx([3 * w[0], 4 * w[0] + w[1] - 3 * w[2]])


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_gradnorm_does_not_depend_on_the_scale_of_the_loss(scale: float) -> None:
    found = []
    for times in (1.0, scale):
        balance = GradNorm([], [], initial_losses=torch.ones(3))
        pulls = Pulls(times * torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.0, -3.0]]), torch.ones(3))
        for _ in range(3):
            balance.combined(pulls)
        found.append(balance.weights.detach())
    torch.testing.assert_close(found[0], found[1])
    assert not torch.allclose(found[0], torch.ones(3))


def test_a_batch_without_labels_of_a_family_leaves_the_weights() -> None:
    net, (x, targets, weights) = Net(), batch(0, TWO)
    balance = balance_of("gradnorm", net.shared, net.own, weighted(), seed=0)
    expected = plain(net, x, targets, weights)
    found = gradients(net, balance(net(x), targets, weights))
    assert [parameter.tolist() for parameter in balance.parameters()] == [[1, 1, 1]]
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], msg=name)
    x, targets, weights = batch(0)
    assert balance(net(x), targets, weights).isfinite()
    assert [parameter.tolist() for parameter in balance.parameters()] != [[1, 1, 1]]


def test_losses_begin_at_those_of_the_share_of_positives() -> None:
    targets, weights = np.zeros((2, 4, H), dtype=np.float32)
    for head, positives, weight in (("hate", 2, 1.0), ("toxic", 1, 3.0), ("scam", 0, 1.0)):
        h = HEADS.index(head)
        targets[:positives, h], weights[:, h] = 1, weight
    quarter = -0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    found = base_rate_losses(Weighted(targets=targets, weights=weights))
    # scam is always 0, and the third family has no labels
    assert found.tolist() == pytest.approx([(math.log(2) + 3 * quarter) / 4, LEAST_LOSS, LEAST_LOSS])
    assert found.dtype == torch.float32


@pytest.mark.parametrize("name", BALANCES)
def test_every_balance_has_a_strategy(name: str) -> None:
    kinds = {"static": Balance, "pcgrad": PCGrad, "gradnorm": GradNorm}
    assert type(balance_of(name, [], [], weighted(), seed=0)) is kinds[name]


def trained(name: str, folder: Path, *, stop_at: int | None = None) -> dict[str, Tensor]:
    """Train for `STEPS` steps and return all that is known then; stop before step `stop_at`."""
    net = Net()
    balance = balance_of(name, net.shared, net.own, weighted(), seed=3)

    def loss(step: int) -> Tensor:
        if step == stop_at:
            raise Interrupted
        x, targets, weights = batch(step)
        found: Tensor = balance(net(x), targets, weights)
        return found

    steps: list[Callable[[], Tensor]] = [partial(loss, step) for step in range(STEPS)]
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.05)
    run_steps([net, balance], optimizer, steps, LoopConfig(0.1, 4, folder / "checkpoint.pt"), title="toy")
    return {
        f"{kind}.{n}": p.detach() for kind, m in (("net", net), ("balance", balance)) for n, p in m.named_parameters()
    }


@pytest.mark.parametrize("name", BALANCES)
def test_a_stopped_run_that_resumes_ends_where_an_unbroken_one_does(name: str, tmp_path: Path) -> None:
    unbroken = trained(name, tmp_path / "a")
    for stop in (7, 10):
        with pytest.raises(Interrupted):
            trained(name, tmp_path / "b", stop_at=stop)
    resumed = trained(name, tmp_path / "b")
    for key, value in unbroken.items():
        assert torch.equal(resumed[key], value), key


def test_the_strategies_end_in_different_places(tmp_path: Path) -> None:
    ends = [trained(name, tmp_path / name)["net.trunk.0.weight"] for name in BALANCES]
    assert not any(torch.allclose(ends[i], ends[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_a_step_costs_a_backward_pass_per_family(monkeypatch: pytest.MonkeyPatch) -> None:
    net, (x, targets, weights) = Net(), batch()
    passes: list[int] = []
    real = gradients_of

    def counted(losses: Tensor, parameters: list[nn.Parameter]) -> Tensor:
        passes.append(len(losses))
        return real(losses, parameters)

    monkeypatch.setattr(training.balance, "gradients_of", counted)
    balance_of("pcgrad", net.shared, net.own, weighted(), seed=0)(net(x), targets, weights)
    assert passes == [len(FAMILIES)]
