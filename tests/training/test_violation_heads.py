from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from training.config import HeadsConfig
from training.examples import HEADS
from training.heads import AttentionHeads
from training.sampling import Weighted
from training.states import CachedStates, padded_states
from training.violation_heads import train_heads

DIM, ROWS = 6, 200
CONFIG = HeadsConfig(hidden=4, epochs=20, batch_rows=64, learning_rate=0.05)
DRUGS, SCAM = HEADS.index("drugs"), HEADS.index("scam")


@pytest.fixture
def start(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "heads.safetensors"
    save_file(AttentionHeads(len(HEADS), DIM, hidden=CONFIG.hidden).state_dict(), str(path))
    return path


def toy() -> tuple[CachedStates, Weighted]:
    """Drugs: one token of the row has its first feature at 3; scam is labelled in rows 100 to 199 only, at random."""
    rng = np.random.default_rng(1)
    lengths = rng.integers(2, 9, size=ROWS)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    states = rng.normal(scale=0.3, size=(offsets[-1], DIM)).astype(np.float16)
    targets = np.zeros((ROWS, len(HEADS)), dtype=np.float32)
    targets[:, DRUGS] = rng.random(ROWS) < 0.5
    targets[:, SCAM] = rng.random(ROWS) < 0.5
    for row in np.flatnonzero(targets[:, DRUGS]):
        states[offsets[row] + rng.integers(lengths[row]), 0] = 3
    weights = np.zeros_like(targets)
    weights[:, DRUGS] = 1
    weights[100:, SCAM] = 1
    vectors = np.zeros((ROWS, DIM), dtype=np.float16)
    return CachedStates(states=states, vectors=vectors, offsets=offsets), Weighted(targets=targets, weights=weights)


def train(start: Path, rows: np.ndarray, weighted: Weighted, *, seed: int = 0) -> AttentionHeads:
    states, _ = toy()
    checkpoint = start.with_name("checkpoint.pt")
    return train_heads(states, weighted, rows, CONFIG, start_from=start, checkpoint=checkpoint, seed=seed)


def logits(heads: AttentionHeads, rows: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return heads(*padded_states(toy()[0], rows))[0].numpy()


def test_a_head_learns_which_token_matters(start: Path) -> None:
    _, weighted = toy()
    heads = train(start, np.arange(150), weighted)
    assert not heads.training
    unseen = np.arange(150, ROWS)
    right = (logits(heads, unseen)[:, DRUGS] > 0) == (weighted.targets[unseen, DRUGS] == 1)
    assert right.mean() >= 0.9


def test_what_weighs_nothing_and_rows_left_out_are_not_learnt_from(start: Path) -> None:
    _, weighted = toy()
    rows = np.arange(100)
    other = Weighted(targets=weighted.targets.copy(), weights=weighted.weights)
    other.targets[:100, SCAM] = 1 - other.targets[:100, SCAM]
    other.targets[100:] = 7
    first, second = train(start, rows, weighted), train(start, rows, other)
    np.testing.assert_array_equal(logits(first, rows), logits(second, rows))


def test_the_seed_decides(start: Path) -> None:
    _, weighted = toy()
    rows = np.arange(ROWS)
    first, again, other = (logits(train(start, rows, weighted, seed=seed), rows) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0
