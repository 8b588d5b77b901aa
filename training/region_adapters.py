"""Region adapters: each a LoRA that starts from its parent's, is held near it, and learns its region's rows.

A region's rows are few, and label few heads. So an adapter starts as a copy of its parent's (region -> language area ->
moderation), sees as many rows from everywhere as of its own region, and pays for every step away from the parent: where
its rows say little it stays its parent.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch import Tensor, nn

from training.adapter import Rows, lora_groups, weighted_tensors
from training.base_model import BaseModel
from training.config import AdapterConfig, RegionConfig
from training.examples import OWN_ADS, Examples
from training.heads import PooledHeads
from training.loop import LoopConfig, row_batches, run_steps
from training.losses.masked_bce import masked_bce
from training.regions import AREAS, parent_slot

log = structlog.get_logger()


def region_slots(examples: Examples, allowed: NDArray[np.bool_], config: RegionConfig) -> list[str]:
    """Return the slots with enough rows, parents first: language areas of several regions, then regions.

    Args:
        examples: n examples.
        allowed: `[n]`, the rows an adapter may learn from.
        config: how many rows are enough.
    """
    names, counts = np.unique(examples.region[allowed], return_counts=True)
    rows = {str(name): int(count) for name, count in zip(names, counts, strict=True) if name}
    regions = sorted(name for name, count in rows.items() if count >= config.least_rows)
    shared = [AREAS[name] for name in regions if name in AREAS]
    areas = sorted({area for area in shared if shared.count(area) > 1})
    return [*areas, *(f"region:{name}" for name in regions)]


def rows_of(slot: str, examples: Examples) -> NDArray[np.bool_]:
    """Return which examples `[n]` are of a slot's region, or of any region of its language area."""
    kind, _, name = slot.partition(":")
    members = [region for region, area in AREAS.items() if area == slot] if kind == "area" else [name]
    return np.isin(examples.region, members)


def parent_of(slot: str, trained: Sequence[str]) -> str:
    """Return the slot an adapter starts from: its parent, or the parent's where the parent has no adapter."""
    parent = parent_slot(slot)
    return parent if parent in trained or parent == parent_slot(parent) else parent_slot(parent)


def sample_region(
    slot: str, examples: Examples, usable: NDArray[np.bool_], config: RegionConfig, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Return row numbers: the region's own, at most `most_rows`, and as many others, half of them our own ads."""
    own = np.flatnonzero(usable & rows_of(slot, examples))
    own = rng.choice(own, min(len(own), config.most_rows), replace=False)
    ads = np.flatnonzero(usable & (examples.source == OWN_ADS))
    others = np.flatnonzero(usable & ~rows_of(slot, examples) & (examples.source != OWN_ADS))
    wanted = round(config.global_share * len(own))
    ads = rng.choice(ads, min(len(ads), wanted // 2), replace=False)
    others = rng.choice(others, min(len(others), wanted - len(ads)), replace=False)
    return np.concatenate([own, ads, others])


def train_region(
    base: BaseModel,
    rows: Rows,
    heads: PooledHeads,
    config: AdapterConfig,
    region: RegionConfig,
    *,
    parent: Path,
    folder: Path,
    seed: int,
) -> Path:
    """Return the folder of a region's adapter as PEFT saves it, training it unless it is there.

    Args:
        base: the encoder, rounded; its layers are wrapped.
        rows: the region's rows and as many others.
        heads: the violation heads; they judge for every region alike, and stay as they are.
        config: the moderation adapter's configuration.
        region: this stage.
        parent: PEFT's folder of the adapter it starts from.
        folder: where checkpoint and result lie.
        seed: seeds the order.
    """
    done = folder / "adapter"
    if (done / "adapter_config.json").is_file():
        log.info("region adapter found, not trained again", folder=folder.name)
        return done
    torch.manual_seed(seed)
    model = PeftModel.from_pretrained(base.model, str(parent), is_trainable=True)
    # A copy without gradients: the caller's heads serve the next region, and would gather gradients that nobody clears.
    judges = copy.deepcopy(heads).eval().requires_grad_(False)
    start = {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}
    rng = np.random.default_rng(seed)
    steps: list[Callable[[], Tensor]] = [
        partial(_loss, model, judges, rows, batch, start, region.parent_weight)
        for _ in range(region.epochs)
        for batch in row_batches(rows.branch.lengths, budget=config.tokens_per_step, rng=rng)
    ]
    groups = [group | {"lr": region.learning_rate, "start": 0.0} for group in lora_groups(model, config)]
    # Decay would pull towards zero; the parent is what an adapter is held to.
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    loop = LoopConfig(config.warmup, config.checkpoint_steps, folder / "checkpoint.pt")
    run_steps([model.eval()], optimizer, steps, loop, title=folder.name)
    model.save_pretrained(str(done))
    return done


def _loss(
    model: PeftModel,
    heads: PooledHeads,
    rows: Rows,
    batch: NDArray[np.intp],
    start: dict[str, Tensor],
    weight: float,
) -> Tensor:
    logits, _ = heads(*rows.branch.read(model, batch))
    return masked_bce(logits, *weighted_tensors(rows.weighted, batch)) + weight * distance(model, start)


def distance(model: nn.Module, start: dict[str, Tensor]) -> Tensor:
    """Return half the squared distance of the trained parameters from where they started, as a scalar.

    L2-SP (Li, Grandvalet and Davoine 2018, arXiv 1802.01483, eq. 3) with the parent as starting point.
    """
    parts = [(model.get_parameter(name) - value).square().sum() for name, value in start.items()]
    return sum(parts, start=torch.zeros(())) / 2
