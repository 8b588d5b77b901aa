from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from training.loop import LoopConfig, learning_rate_factor, padded_batches, read_curve, row_batches, run_steps

STEPS = 23


class Interrupted(Exception):
    """Stops a run as a power cut would."""


def run(folder: Path, *, stop_at: int | None = None, after: Callable[[int], None] | None = None) -> dict[str, Tensor]:
    """Train a network with dropout for `STEPS` steps and return its weights; stop before step `stop_at`.

    The upper layer learns from the first step, the lower one from the third step on.
    """
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1)).train()
    net[0].bias.requires_grad_(False)
    data = torch.randn(STEPS, 16, 4, generator=torch.Generator().manual_seed(4))
    optimizer = torch.optim.AdamW(
        [
            {"params": list(net[0].parameters())[:1], "lr": 0.05, "start": 3 / STEPS},
            {"params": net[2].parameters(), "lr": 0.01},
        ]
    )

    def loss(step: int) -> Tensor:
        if step == stop_at:
            raise Interrupted
        squares: Tensor = (net(data[step]) - data[step].sum(1, keepdim=True)) ** 2
        return squares.mean()

    steps: list[Callable[[], Tensor]] = [partial(loss, step) for step in range(STEPS)]
    loop = LoopConfig(0.2, 5, folder / "deep" / "checkpoint.pt")
    run_steps([net], optimizer, steps, loop, title="toy", after=after)
    return {name: value.clone() for name, value in net.state_dict().items()}


def test_a_stopped_run_that_resumes_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    unbroken = run(tmp_path / "a")
    for stop in (13, 19):  # twice: each time the run takes up the last checkpoint, of step 10 and 15
        with pytest.raises(Interrupted):
            run(tmp_path / "b", stop_at=stop)
    checkpoint = tmp_path / "b" / "deep" / "checkpoint.pt"
    assert torch.load(checkpoint, weights_only=True)["step"] == 15
    resumed = run(tmp_path / "b")
    assert not checkpoint.exists()
    for name, value in unbroken.items():
        assert torch.equal(resumed[name], value), name


def test_learning_rate_rises_then_falls_to_nothing() -> None:
    factors = [learning_rate_factor(step, steps=10, warmup=0.4) for step in range(11)]
    np.testing.assert_allclose(factors, [0.25, 0.5, 0.75, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0])


def test_what_is_unfrozen_later_rises_later_and_falls_with_the_others() -> None:
    factors = [learning_rate_factor(step, steps=10, warmup=0.2, start=0.5) for step in range(11)]
    np.testing.assert_allclose(factors, [0, 0, 0, 0, 0, 0.5, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0])
    whole = [learning_rate_factor(step, steps=10, warmup=0.2) for step in range(11)]
    np.testing.assert_allclose(factors[6:], whole[6:])


def test_a_start_of_nothing_changes_nothing() -> None:
    for step in range(8):
        assert learning_rate_factor(step, steps=7, warmup=0.3, start=0.0) == learning_rate_factor(
            step, steps=7, warmup=0.3
        )


def test_learning_rate_of_a_single_step() -> None:
    assert learning_rate_factor(0, steps=1, warmup=0.06) == 1


def test_a_group_of_the_optimiser_learns_from_its_start_on(tmp_path: Path) -> None:
    """Plain gradient descent on a sum: each step moves a weight by the learning rate of its group."""
    early, late = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.SGD(
        [{"params": early.parameters(), "lr": 1.0}, {"params": late.parameters(), "lr": 10.0, "start": 0.5}]
    )
    steps: list[Callable[[], Tensor]] = [lambda: 0.01 * (early.weight.sum() + late.weight.sum())] * 4
    noted = [(early.weight.item(), late.weight.item())]
    run_steps(
        [early, late],
        optimizer,
        steps,
        LoopConfig(0.25, 9, tmp_path / "c.pt"),
        title="toy",
        after=lambda _: noted.append((early.weight.item(), late.weight.item())),
    )
    # One step of warm-up, then from 4/3 down: factors 1, 1, 2/3, 1/3; the late group has the last two of them.
    moved = -np.diff(np.array(noted), axis=0) / 0.01
    expected = np.array([[1, 0], [1, 0], [2 / 3, 20 / 3], [1 / 3, 10 / 3]])
    np.testing.assert_allclose(moved, expected, atol=1e-3)


def test_after_is_told_of_every_step_with_its_weights(tmp_path: Path) -> None:
    """Also of those that a resumed run takes a second time, and of no other."""
    told: list[int] = []
    with pytest.raises(Interrupted):
        run(tmp_path, stop_at=13, after=told.append)
    assert told == list(range(1, 14))
    told.clear()
    run(tmp_path, after=told.append)
    assert told == list(range(11, STEPS + 1))


def test_the_curve_of_a_resumed_run_holds_its_last_step(tmp_path: Path) -> None:
    run(tmp_path)
    curve = read_curve(tmp_path / "deep" / "checkpoint.pt")
    assert curve is not None
    assert (curve["stage"], curve["steps"], curve["points"][-1][0]) == ("toy", STEPS, STEPS)
    assert read_curve(tmp_path / "deep" / "other.pt") is None


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, value: float) -> None:
    weight = nn.Linear(1, 1)
    before = weight.weight.item()
    optimizer = torch.optim.SGD(weight.parameters(), lr=1.0)
    with pytest.raises(FloatingPointError, match="toy: the loss of step 0 is"):
        run_steps(
            [weight],
            optimizer,
            [lambda: weight.weight.sum() * value],
            LoopConfig(0.1, 5, tmp_path / "c.pt"),
            title="toy",
        )
    assert weight.weight.item() == before


def test_gradients_are_clipped(tmp_path: Path) -> None:
    weight = nn.Linear(1, 1, bias=False)
    before = weight.weight.item()
    optimizer = torch.optim.SGD(weight.parameters(), lr=1.0)
    run_steps(
        [weight], optimizer, [lambda: 1e6 * weight.weight.sum()], LoopConfig(0.1, 5, tmp_path / "c.pt"), title="toy"
    )
    assert before - weight.weight.item() == pytest.approx(1.0, abs=1e-4)


def test_padded_batches_hold_every_row_once_in_the_order_of_the_seed() -> None:
    token_ids = [[1] * n for n in (3, 9, 1, 4, 4, 7)]
    first, second, other = (
        [
            (rows.tolist(), ids, mask)
            for rows, ids, mask in padded_batches(token_ids, budget=9, rng=np.random.default_rng(s))
        ]
        for s in (0, 0, 3)
    )
    assert sorted(row for rows, _, _ in first for row in rows) == list(range(6))
    assert [rows for rows, _, _ in first] == [rows for rows, _, _ in second] != [rows for rows, _, _ in other]
    for rows, ids, mask in first:
        assert mask.sum(1).tolist() == [len(token_ids[row]) for row in rows]
        assert torch.equal(ids, mask)  # ids are 1, padding is 0


def test_row_batches_hold_every_row_once_within_the_budget() -> None:
    lengths = [3, 9, 1, 4, 4, 7, 30]
    batches = row_batches(lengths, budget=12, rng=np.random.default_rng(0))
    assert sorted(row for rows in batches for row in rows) == list(range(7))
    for rows in batches:
        longest = max(lengths[row] for row in rows)
        assert len(rows) == 1 or len(rows) * longest <= 12  # a row beyond the budget stands alone
    orders = {tuple(map(tuple, row_batches(lengths, budget=12, rng=np.random.default_rng(s)))) for s in range(5)}
    assert len({tuple(sorted(order)) for order in orders}) == 1  # the same batches ...
    assert len(orders) > 1  # ... in another order
