"""The optimisation loop: token-budget steps, warm-up and linear decay, checkpoints that a stopped run resumes from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from retrieval_shared.batching import pad, token_budget_batches

log = structlog.get_logger()

NOTED_STEPS = 50
"""Steps between two points of the loss curve."""


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast."""

    warmup: float
    """Share of the steps with a rising learning rate."""
    checkpoint_steps: int
    """Steps between two checkpoints."""
    checkpoint: Path
    """Where the checkpoint lies; removed when the run has finished."""
    clip: float = 1.0
    """Largest gradient norm."""


def learning_rate_factor(step: int, *, steps: int, warmup: float, start: float = 0.0) -> float:
    """Return the factor in [0, 1] of the peak learning rate: a linear rise, then a linear fall to 0.

    Args:
        step: number of the step, from 0.
        steps: how many there are.
        warmup: share of the steps with a rising rate.
        start: share of the steps before the rise, at rate 0: parameters that are unfrozen later.
    """
    rise, frozen = max(1, round(steps * warmup)), round(steps * start)
    if step < frozen:
        return 0.0
    return min((step - frozen + 1) / rise, max(0.0, (steps - step) / max(1, steps - rise)))


def row_batches(
    lengths: Sequence[int] | NDArray[np.int64], *, budget: int, rng: np.random.Generator
) -> list[NDArray[np.intp]]:
    """Return batches of row numbers in random order, each of like lengths and at most `budget` padded tokens."""
    batches = token_budget_batches(lengths, budget=budget)
    return [batches[i] for i in rng.permutation(len(batches))]


def padded_batches(
    token_ids: Sequence[Sequence[int]], *, budget: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
    """Yield `(rows [b], ids [b, t], mask [b, t])` in random order; rows of like length share a batch."""
    for rows in row_batches([len(ids) for ids in token_ids], budget=budget, rng=rng):
        ids, mask = pad([token_ids[row] for row in rows])
        yield rows, torch.from_numpy(ids), torch.from_numpy(mask)


def run_steps(
    modules: Sequence[nn.Module],
    optimizer: torch.optim.Optimizer,
    steps: Sequence[Callable[[], Tensor]],
    config: LoopConfig,
    *,
    title: str,
    after: Callable[[int], None] | None = None,
) -> None:
    """Take one optimiser step per entry of `steps`, each of which returns the loss of its batch.

    The order of `steps` must be the same in every run of one configuration: a run that finds a checkpoint skips the
    steps already taken. A group of the optimiser may name a `start`, the share of the steps before it learns. A loss
    that is not finite stops the run. `after` is called with the number of steps taken, after each of them.

    Raises:
        FloatingPointError: a loss is NaN or infinite.
    """
    done, curve = _resume(modules, optimizer, config.checkpoint)
    peaks = (
        [group["lr"] for group in optimizer.param_groups] if not done else [g["peak"] for g in optimizer.param_groups]
    )
    average = 0.0
    with _progress() as progress:
        task = progress.add_task(title, total=len(steps), completed=done, loss=float("nan"))
        for step in range(done, len(steps)):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                factor = learning_rate_factor(
                    step, steps=len(steps), warmup=config.warmup, start=group.get("start", 0.0)
                )
                group["peak"], group["lr"] = peak, peak * factor
            loss = steps[step]()
            if not torch.isfinite(loss):
                raise FloatingPointError(f"{title}: the loss of step {step} is {loss.item()}")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_([p for module in modules for p in module.parameters()], config.clip)
            optimizer.step()
            average = loss.item() if step == done else 0.98 * average + 0.02 * loss.item()
            progress.update(task, advance=1, loss=average)
            if (step + 1) % NOTED_STEPS == 0 or step + 1 == len(steps):
                curve.append((step + 1, round(average, 5)))
                log.info("training", stage=title, step=step + 1, steps=len(steps), loss=round(average, 5))
            if after is not None:
                after(step + 1)
            if (step + 1) % config.checkpoint_steps == 0:
                _save(modules, optimizer, config.checkpoint, step + 1, curve)
    config.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    write_curve(config.checkpoint, title, len(steps), curve)
    config.checkpoint.unlink(missing_ok=True)


def write_curve(checkpoint: Path, stage: str, steps: int, points: Sequence[tuple[int, float]]) -> None:
    """Write the running mean of the loss beside where the checkpoint lay; `read_curve` returns it."""
    document = {"stage": stage, "steps": steps, "points": [list(point) for point in points]}
    _curve(checkpoint).write_text(json.dumps(document) + "\n", encoding="utf-8")


def read_curve(checkpoint: Path) -> dict[str, Any] | None:
    """Return `{stage, steps, points: [[step, loss], ...]}` of a finished stage, None where it left none."""
    path = _curve(checkpoint)
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _curve(checkpoint: Path) -> Path:
    return checkpoint.with_suffix(".curve.json")


def _trainable(modules: Sequence[nn.Module]) -> list[dict[str, Tensor]]:
    return [{n: p.detach() for n, p in module.named_parameters() if p.requires_grad} for module in modules]


def _save(
    modules: Sequence[nn.Module],
    optimizer: torch.optim.Optimizer,
    path: Path,
    step: int,
    curve: Sequence[tuple[int, float]],
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    state = {
        "step": step,
        "curve": [list(point) for point in curve],
        "modules": _trainable(modules),
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
    }
    torch.save(state, part)
    part.replace(path)


def _resume(
    modules: Sequence[nn.Module], optimizer: torch.optim.Optimizer, path: Path
) -> tuple[int, list[tuple[int, float]]]:
    """Return how many steps were taken, and the curve so far."""
    if not path.is_file():
        return 0, []
    state = torch.load(path, weights_only=True)
    for module, saved in zip(modules, state["modules"], strict=True):
        with torch.no_grad():
            for name, value in saved.items():
                module.get_parameter(name).copy_(value)
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state.get("rng", torch.get_rng_state()))  # dropout goes on where it stopped
    log.info("resumed", checkpoint=path.name, step=state["step"])
    return int(state["step"]), [(int(step), float(loss)) for step, loss in state.get("curve", [])]


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
