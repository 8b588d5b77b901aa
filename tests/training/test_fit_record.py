from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import training.fit_record
from retrieval_shared.bundle import CONFIG, DEFAULT_BUNDLE
from training.examples import HEADS
from training.fit_record import fit_record, learnt_by_heart
from training.states import CachedStates
from training.violation_heads import TrainedHeads

H = len(HEADS)
DRUGS, SCAM = HEADS.index("drugs"), HEADS.index("scam")


class Stub(nn.Module):
    """Heads whose logits are the vector of a row."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0

    def forward(self, states: Tensor, mask: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        self.rows += len(vector)
        return vector, mask[:, None].expand(-1, H, -1) * states[:, None, :, 0]


def states_of(logits: np.ndarray) -> CachedStates:
    n = len(logits)
    return CachedStates(
        states=np.zeros((n, H), np.float16), vectors=logits.astype(np.float16), offsets=np.arange(n + 1)
    )


def trained(passes: tuple[int, ...] = (1,) * H) -> TrainedHeads:
    return TrainedHeads(Stub(), passes, np.zeros((1, H)))  # type: ignore[arg-type]


def test_by_hand() -> None:
    logits = np.zeros((30, H))
    targets = np.full((30, H), np.nan, dtype=np.float32)
    # Rows 0 to 9, learnt from: every positive above every negative.
    targets[:10, DRUGS], logits[:10, DRUGS] = [1, 0] * 5, [2, -1] * 5
    # Rows 10 to 19, held out, from the highest score down: n p p n p n p n p n, in another order on disk.
    targets[10:20, DRUGS], logits[10:20, DRUGS] = [0, 1, 1, 0, 1, 0, 1, 0, 1, 0], np.arange(9, -1, -1)
    order = np.random.default_rng(0).permutation(10)
    targets[10:20], logits[10:20] = targets[10:20][order], logits[10:20][order]
    # Rows 20 to 29, to stop by: four positives are too few.
    targets[20:, DRUGS], logits[20:, DRUGS] = [1] * 4 + [0] * 6, np.arange(10)
    logits[:, SCAM] = 5  # whom nobody labelled
    sides = {"train": np.arange(10), "stop": np.arange(20, 30), "held_out": np.arange(10, 20)}
    record = fit_record(trained(tuple(range(H))), states_of(logits), targets, sides)
    assert list(record) == list(HEADS)
    assert record["drugs"] == {
        "pass": 0,
        "train_positives": 5,
        "train_auc": 1.0,
        "train_ap": 1.0,
        "stop_positives": 4,
        "stop_auc": None,
        "stop_ap": None,
        "held_out_positives": 5,
        # Of the 25 pairs 4 + 4 + 3 + 2 + 1 stand in the right order; precision at the positives: 1/2 2/3 3/5 4/7 5/9.
        "held_out_auc": pytest.approx(14 / 25),
        "held_out_ap": pytest.approx((1 / 2 + 2 / 3 + 3 / 5 + 4 / 7 + 5 / 9) / 5),
    }
    assert record["scam"]["pass"] == SCAM
    assert (record["scam"]["train_positives"], record["scam"]["train_auc"]) == (0, None)


def test_unknown_labels_count_for_nothing() -> None:
    targets = np.full((20, H), np.nan, dtype=np.float32)
    targets[:10, DRUGS] = [1, 0] * 5
    logits = np.zeros((20, H))
    logits[:10, DRUGS] = [2, -1] * 5
    logits[10:, DRUGS] = 9  # above all positives, but nobody knows
    record = fit_record(trained(), states_of(logits), targets, {"train": np.arange(20)})
    assert (record["drugs"]["train_positives"], record["drugs"]["train_ap"]) == (5, 1.0)


def test_of_a_large_side_some_rows_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.fit_record, "ROWS", 12)
    targets = np.full((40, H), np.nan, dtype=np.float32)
    targets[:, DRUGS] = 1
    heads = trained()
    record = fit_record(heads, states_of(np.zeros((40, H))), targets, {"train": np.arange(40), "stop": np.arange(7)})
    assert (record["drugs"]["train_positives"], record["drugs"]["stop_positives"]) == (12, 7)
    assert heads.heads.rows == 19  # type: ignore[comparison-overlap]


def test_a_side_without_rows_says_so() -> None:
    targets = np.full((3, H), 1.0, dtype=np.float32)
    record = fit_record(trained(), states_of(np.zeros((3, H))), targets, {"stop": np.zeros(0, dtype=np.intp)})
    assert record["drugs"] == {"pass": 1, "stop_positives": 0, "stop_auc": None, "stop_ap": None}


@pytest.mark.parametrize(
    ("train", "held_out", "by_heart"),
    [
        (0.995, 0.69, True),
        (0.995, 0.0, True),  # worse than any guess
        (0.995, 0.70, False),
        (0.99, 0.5, False),
        (0.98, 0.5, False),
        (0.995, None, False),
        (None, 0.5, False),
    ],
)
def test_a_head_that_knows_its_rows_and_no_others_has_learnt_them_by_heart(
    train: float | None, held_out: float | None, *, by_heart: bool
) -> None:
    good: dict[str, float | int | None] = {"train_auc": 1.0, "held_out_auc": 0.9}
    record = {"drugs": good, "scam": {"train_auc": train, "held_out_auc": held_out}}
    assert learnt_by_heart(record) == (["scam"] if by_heart else [])


def test_a_record_holds_numbers_that_json_knows() -> None:
    targets = np.tile(np.array([[1.0], [0.0]], dtype=np.float32), (6, H))
    logits = np.random.default_rng(0).normal(size=(12, H))
    record = fit_record(trained(), states_of(logits), targets, {"train": np.arange(12)})
    kinds = {type(value) for scores in record.values() for value in scores.values()}
    assert kinds == {int, float}
    assert torch.tensor([scores["train_auc"] for scores in record.values()]).isfinite().all()


def test_no_shipped_head_has_learnt_its_rows_by_heart() -> None:
    record = json.loads((DEFAULT_BUNDLE / CONFIG).read_text(encoding="utf-8"))["fit"]
    assert record.keys() == set(HEADS)
    assert learnt_by_heart(record) == []
