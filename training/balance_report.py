"""What balancing the heads' gradients changes: each strategy on held-out rows, and which heads pull apart without."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor

from eval.document import write_json
from training.adapter import TrainedAdapter
from training.balance import family_heads
from training.base_model import load_rounded
from training.config import BALANCES, ModerationConfig
from training.examples import HEADS
from training.first_stage import (
    STATIC,
    Compared,
    gains,
    learnt_rows,
    scores,
    small_stage,
    stage_key,
    train_and_score,
)
from training.head_gradients import HeadGradients, head_gradients
from training.losses.gradient_cosine import gradient_cosines
from training.moderation import Run
from training.texts import read_texts

log = structlog.get_logger()

ROWS = 6_000
"""Public rows of the sample, unless told otherwise."""


def compare_balances(config: ModerationConfig, run: Run, *, rows: int = ROWS) -> dict[str, Any]:
    """Train a small first stage with each strategy, write what they reach and who pulls apart, and return it.

    All see the same sample in the same order: `rows` public rows and our own ads once, without disguised copies.
    Held-out rows are of the fold that no adapter sees; the cosines are taken where the static run ended.
    """
    torch.set_num_threads(run.threads)
    small = small_stage(config, rows)
    compared, base = Compared.of(small, run), load_rounded(small)
    everything = np.ones(len(compared.examples), dtype=np.bool_)
    texts = read_texts(base, compared.examples, small.adapter, runs=run.runs, threads=run.threads, shared=everything)
    trained: dict[str, TrainedAdapter] = {}
    logits: dict[str, NDArray[np.float32]] = {}
    for name in BALANCES:
        stage = dataclasses.replace(small, adapter=dataclasses.replace(small.adapter, balance=name))
        folder = run.runs / f"balance-{name}-{stage_key(base.identity, stage, compared)}"
        trained[name], logits[name] = train_and_score(compared, texts, stage, folder=folder, threads=run.threads)
        log.info("balance", strategy=name)
    gradients = head_gradients(trained[STATIC], learnt_rows(compared, texts, small), small)
    report = {
        "title": "Wardline: balancing the gradients of the heads",
        "created": datetime.now(UTC).date().isoformat(),
        "command": f"python wardline.py train balance --rows {rows}",
        "seed": config.seed,
        "n": compared.counts,
        "strategies": _strategies(logits, compared),
        "gradients": pull_record(gradients),
    }
    write_json(run.out, report)
    return report


def _strategies(logits: Mapping[str, NDArray[np.float32]], compared: Compared) -> dict[str, Any]:
    """Return each strategy's scores and, of all but the static one, what it gains and whether that is enough."""
    held = compared.examples.take(compared.held)
    found: dict[str, Any] = {name: scores(each, held) for name, each in logits.items()}
    for name in found:
        if name != STATIC:
            gain = gains(logits[name], logits[STATIC], held)
            found[name] |= {"gain": gain, "beats_static": beats(gain)}
    return found


def beats(gain: Mapping[str, Mapping[str, float]]) -> bool:
    """Return whether a strategy is better: on public rows beyond doubt, and not beyond doubt worse on our own ads.

    Beyond doubt: the 95% interval of its gain lies on one side of 0. An interval that is not known says nothing.
    """
    return gain["public"]["low"] > 0 and not gain["ads"]["high"] < 0


def pull_record(gradients: HeadGradients) -> dict[str, Any]:
    """Return what the gradients say of pairs of heads and of families, None where a head has no gradient.

    A pair is in conflict where the cosine of its gradients is below 0, and in conflict throughout where it is in every
    part of their rows. `agreement` is the mean cosine between the parts of one head: near 0 its gradient is noise.
    """
    known = gradients.rows > 0
    whole = gradient_cosines(gradients.whole)
    throughout = torch.stack([gradient_cosines(part) < 0 for part in gradients.parts]).all(dim=0)
    pairs = torch.from_numpy(np.triu(known[:, None] & known[None, :], k=1))
    families = family_heads()
    return {
        "heads": list(HEADS),
        "rows": gradients.rows,
        "cosines": _known(whole, known),
        "agreement": [_agreement(gradients.parts[:, h]) if known[h] else None for h in range(len(HEADS))],
        "pairs": int(pairs.sum()),
        "conflicting": int((whole < 0)[pairs].sum()),
        "conflicting_throughout": int(throughout[pairs].sum()),
        "families": [[HEADS[h] for h in np.flatnonzero(own)] for own in families.numpy()],
        "family_cosines": gradient_cosines(families.float() @ gradients.whole).tolist(),
    }


def _agreement(parts: Tensor) -> float:
    """Return the mean cosine between different rows of `[P, p]`."""
    others = ~torch.eye(len(parts), dtype=torch.bool)
    return float(gradient_cosines(parts)[others].mean())


def _known(cosines: Tensor, known: NDArray[np.bool_]) -> list[list[float | None]]:
    """Return cosines `[H, H]` with None in the rows and columns of heads without a gradient."""
    cells: NDArray[np.bool_] = known[:, None] & known[None, :]
    return [
        [value if there else None for value, there in zip(*row, strict=True)]
        for row in zip(cosines.tolist(), cells.tolist(), strict=True)
    ]
