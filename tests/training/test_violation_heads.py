from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from sklearn.metrics import average_precision_score

import training.loop
import training.violation_heads
from retrieval_shared.head import ATTENTION_HEADS_KEY
from training.config import HeadsConfig
from training.examples import HEADS, OWN_ADS, Examples
from training.heads import PooledHeads, PoolingBlock
from training.loop import LoopConfig
from training.sampling import Weighted
from training.states import CachedStates, padded_states
from training.violation_heads import HeadRows, TrainedHeads, load_heads, logits_of, train_heads

DIM, ROWS = 6, 200
CONFIG = HeadsConfig(hidden=4, rank=2, alpha=3, epochs=5, batch_rows=16, learning_rate=0.02, dropout=0.0)
DRUGS, SCAM, HATE = (HEADS.index(head) for head in ("drugs", "scam", "hate"))
LEARN, STOP = np.arange(140), np.arange(140, ROWS)
SOME = np.arange(ROWS)


class Interrupted(Exception):
    """Stops a run as a power cut would."""


@dataclass
class Stopping:
    """Token states that are cut off after some rows were read."""

    of: CachedStates
    left: int

    @property
    def dim(self) -> int:
        return self.of.dim

    @property
    def lengths(self) -> NDArray[np.int64]:
        return self.of.lengths

    def row(self, number: int) -> NDArray[np.float16]:
        self.left -= 1
        if self.left < 0:
            raise Interrupted
        return self.of.row(number)

    def vector(self, number: int) -> NDArray[np.float16]:
        return self.of.vector(number)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Block and judges of a first stage, random."""
    path = tmp_path_factory.mktemp("heads") / "heads.safetensors"
    torch.manual_seed(0)
    heads = PooledHeads(PoolingBlock(DIM, 2), len(HEADS), hidden=CONFIG.hidden)
    save_file(heads.state_dict(), str(path), {ATTENTION_HEADS_KEY: "2"})
    return path


def toy() -> HeadRows:
    """Drugs: one token of the row has its first feature at 3. Scam: so it is in rows to learn from, and the other way
    round in those to stop by: what a head learns there does harm here. Hate: five labels, none on rows to stop by.
    """
    rng = np.random.default_rng(1)
    lengths = rng.integers(2, 9, size=ROWS)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    states = rng.normal(scale=0.3, size=(offsets[-1], DIM)).astype(np.float16)
    targets = np.zeros((ROWS, len(HEADS)), dtype=np.float32)
    targets[:, DRUGS] = rng.random(ROWS) < 0.5
    for row in np.flatnonzero(targets[:, DRUGS]):
        states[offsets[row] + rng.integers(lengths[row]), 0] = 3
    targets[:, SCAM] = targets[:, DRUGS]
    targets[STOP, SCAM] = 1 - targets[STOP, DRUGS]
    targets[:2, HATE] = 1
    weights = np.zeros_like(targets)
    weights[:, [DRUGS, SCAM]] = 1
    weights[:5, HATE] = 1
    vectors = np.zeros((ROWS, DIM), dtype=np.float16)
    examples = Examples(
        texts=tuple(map(str, range(ROWS))),
        targets=np.where(weights > 0, targets, np.nan).astype(np.float32),
        source=np.array([("public", OWN_ADS)[i % 2] for i in range(ROWS)]),
        licence=np.full(ROWS, "open"),
        lang=np.full(ROWS, "en"),
        kind=np.full(ROWS, "post"),
        group=np.arange(ROWS).astype(str),
        region=np.full(ROWS, ""),
    )
    cached = CachedStates(states=states, vectors=vectors, offsets=offsets)
    return HeadRows(cached, Weighted(targets=targets, weights=weights), examples, LEARN, STOP)


def train(
    start: Path,
    folder: Path,
    config: HeadsConfig = CONFIG,
    *,
    rows: HeadRows | None = None,
    passes: tuple[int, ...] | None = None,
    seed: int = 0,
) -> TrainedHeads:
    checkpoint = folder / "deep" / "heads.pt"
    return train_heads(rows or toy(), config, start_from=start, checkpoint=checkpoint, seed=seed, passes=passes)


def logits(heads: PooledHeads, rows: NDArray[np.intp] = SOME) -> NDArray[np.float32]:
    return logits_of(heads, toy().states, rows)


@pytest.fixture(scope="module")
def trained(start: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedHeads:
    return train(start, tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def after_pass(start: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, TrainedHeads]:
    """The same run, all heads taken from one pass."""
    folder = tmp_path_factory.mktemp("passes")
    return {
        number: train(start, folder / str(number), passes=(number,) * len(HEADS))
        for number in range(1, CONFIG.epochs + 1)
    }


def test_a_head_learns_which_token_matters(trained: TrainedHeads) -> None:
    assert not trained.heads.training
    right = (logits(trained.heads, STOP)[:, DRUGS] > 0) == (toy().weighted.targets[STOP, DRUGS] == 1)
    assert right.mean() >= 0.9


def test_a_head_that_overfits_keeps_an_early_pass_while_another_goes_on(trained: TrainedHeads) -> None:
    assert trained.stop_ap.shape == (CONFIG.epochs, len(HEADS))
    assert trained.passes[SCAM] == 1
    assert trained.passes[DRUGS] > 1
    for h in (SCAM, DRUGS):
        assert trained.passes[h] == 1 + int(np.argmax(trained.stop_ap[:, h]))
    assert np.isnan(trained.stop_ap[:, HATE]).all()
    assert trained.passes[HATE] == CONFIG.epochs  # too few labels to stop by: the last


def test_each_head_is_what_it_was_after_its_own_pass(
    trained: TrainedHeads, after_pass: dict[int, TrainedHeads]
) -> None:
    found = logits(trained.heads)
    for h in range(len(HEADS)):
        np.testing.assert_array_equal(found[:, h], logits(after_pass[trained.passes[h]].heads)[:, h])
    first, last = (logits(after_pass[number].heads) for number in (1, CONFIG.epochs))
    assert np.abs(first - last)[:, [SCAM, DRUGS]].max(0).min() > 0.1


def test_the_scores_to_stop_by_are_average_precision_on_the_rows_to_stop_by(
    trained: TrainedHeads, after_pass: dict[int, TrainedHeads]
) -> None:
    targets = toy().weighted.targets[STOP]
    for number, other in after_pass.items():
        for h in (SCAM, DRUGS):
            expected = average_precision_score(targets[:, h], logits(other.heads, STOP)[:, h])
            assert trained.stop_ap[number - 1, h] == pytest.approx(expected)


def test_passes_that_are_given_are_kept(after_pass: dict[int, TrainedHeads], start: Path, tmp_path: Path) -> None:
    given = tuple(1 + h % CONFIG.epochs for h in range(len(HEADS)))
    rows = dataclasses.replace(toy(), stop=STOP[:0])
    found = train(start, tmp_path, rows=rows, passes=given)
    assert found.passes == given
    assert np.isnan(found.stop_ap).all()
    for h, number in enumerate(given):
        np.testing.assert_array_equal(logits(found.heads)[:, h], logits(after_pass[number].heads)[:, h])


def test_finished_heads_are_not_trained_again(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    first = train(start, tmp_path)
    assert not (tmp_path / "deep" / "heads.pt").exists()  # the checkpoint is gone
    monkeypatch.setattr(training.violation_heads, "run_steps", never)
    again = train(start, tmp_path)
    assert again.passes == first.passes
    np.testing.assert_array_equal(again.stop_ap, first.stop_ap)
    np.testing.assert_array_equal(logits(again.heads), logits(first.heads))


def test_the_block_is_frozen_and_rounded_to_half(trained: TrainedHeads, start: Path) -> None:
    state = load_file(str(start))
    for name, value in trained.heads.block.named_parameters():
        assert not value.requires_grad
        assert torch.equal(value, state[f"block.{name}"].half().float()), name
        assert not torch.equal(value, state[f"block.{name}"]), name


def test_heads_begin_as_the_first_stage_left_them(start: Path) -> None:
    first = PooledHeads(PoolingBlock(DIM, 2), len(HEADS), hidden=CONFIG.hidden)
    state = load_file(str(start))
    first.load_state_dict({name: v.half().float() if name.startswith("block.") else v for name, v in state.items()})
    loaded = load_heads(start, CONFIG)
    assert (loaded.rank, loaded.alpha, loaded.block.attention_heads) == (2, 3, 2)
    np.testing.assert_allclose(logits(loaded), logits(first), atol=1e-6)  # B of the fresh LoRA is zero
    assert bool(loaded.lora["query_a"].any())


def test_lora_learns_after_its_start_and_the_judges_before(start: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, epochs=4, lora_start=0.5)
    second, third = (train(start, tmp_path / str(n), config, passes=(n,) * len(HEADS)).heads for n in (2, 3))
    state = load_file(str(start))
    assert not torch.equal(second.judge.look[DRUGS], state["judge.look"][DRUGS])
    for name in ("query", "key", "value", "out"):
        assert not second.lora[f"{name}_b"].any()
        assert third.lora[f"{name}_b"][DRUGS].any()


def test_the_decay_of_one_head_shrinks_that_head_alone(start: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, weight_decay=0.0)
    decayed = dataclasses.replace(config, weight_decay_of={"scam": 0.02})
    last = (config.epochs,) * len(HEADS)
    plain, other = (train(start, tmp_path / str(i), c, passes=last).heads for i, c in enumerate((config, decayed)))
    for name, value in plain.judge.named_parameters():
        found = other.judge.get_parameter(name)
        kept = [h for h in range(len(HEADS)) if h != SCAM]
        assert torch.equal(value[kept], found[kept]), name
        assert not torch.equal(value[SCAM], found[SCAM]), name
    with torch.no_grad():
        size, shrunk = (
            sum(p[SCAM].square().sum().item() for p in heads.judge.parameters()) for heads in (plain, other)
        )
    assert shrunk < 0.9 * size


def test_each_head_has_its_own_dropout(start: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, dropout_of={"scam": 0.75, "hate": 0.5})
    last = (config.epochs,) * len(HEADS)
    plain, other = (train(start, tmp_path / str(i), c, passes=last).heads for i, c in enumerate((CONFIG, config)))
    expected = torch.zeros(len(HEADS))
    expected[SCAM], expected[HATE] = 0.75, 0.5
    assert torch.equal(other.dropout, expected)
    first, second = logits(plain), logits(other)
    np.testing.assert_allclose(first[:, DRUGS], second[:, DRUGS], atol=1e-5)
    assert np.abs(first - second)[:, SCAM].max() > 0.1


def test_a_stopped_run_that_resumes_ends_where_an_unbroken_one_does(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passes that ended before the stop are those of the first run: they are not taken again."""
    monkeypatch.setattr(
        training.violation_heads, "LoopConfig", lambda warmup, _, checkpoint: LoopConfig(warmup, 4, checkpoint)
    )
    config = dataclasses.replace(CONFIG, dropout=0.3)
    unbroken = train(start, tmp_path / "a", config)
    rows = toy()
    with pytest.raises(Interrupted):
        train(start, tmp_path / "b", config, rows=dataclasses.replace(rows, states=Stopping(rows.states, 400)))  # type: ignore[arg-type]
    assert {path.name for path in (tmp_path / "b" / "deep").iterdir()} == {
        "heads.pt", "heads.pass1.pt", "heads.pass2.pt"
    }  # fmt: skip
    resumed = train(start, tmp_path / "b", config)
    assert resumed.passes == unbroken.passes
    np.testing.assert_array_equal(resumed.stop_ap, unbroken.stop_ap)
    np.testing.assert_array_equal(logits(resumed.heads), logits(unbroken.heads))


@pytest.mark.parametrize("number", [2, CONFIG.epochs])
def test_a_run_killed_while_it_writes_a_snapshot_ends_where_an_unbroken_one_does(
    number: int, trained: TrainedHeads, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = torch.save

    def killed(state: object, path: Path) -> None:
        save(state, path)
        if path.stem == f"heads.pass{number}":
            path.write_bytes(path.read_bytes()[:100])
            raise Interrupted

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(torch, "save", killed)
        train(start, tmp_path)
    whole = {path.name for path in (tmp_path / "deep").glob("*.pt")}
    assert whole == {f"heads.pass{i}.pt" for i in range(1, number)}
    resumed = train(start, tmp_path)
    assert resumed.passes == trained.passes
    np.testing.assert_array_equal(logits(resumed.heads), logits(trained.heads))


def test_a_run_killed_after_its_last_snapshot_is_finished_by_the_next(
    trained: TrainedHeads, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        training.violation_heads, "LoopConfig", lambda warmup, _, checkpoint: LoopConfig(warmup, 4, checkpoint)
    )

    def killed(*_: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(training.loop, "write_curve", killed)
        train(start, tmp_path)
    left, snapshots = tmp_path / "deep" / "heads.pt", [f"heads.pass{i}.pt" for i in range(1, CONFIG.epochs + 1)]
    assert {path.name for path in left.parent.iterdir()} == {"heads.pt", *snapshots}
    resumed = train(start, tmp_path)
    assert {path.name for path in left.parent.iterdir()} == {"heads.curve.json", *snapshots}
    np.testing.assert_array_equal(logits(resumed.heads), logits(trained.heads))


def test_what_weighs_nothing_and_rows_left_out_are_not_learnt_from(start: Path, tmp_path: Path) -> None:
    rows = dataclasses.replace(toy(), learn=np.arange(100), stop=STOP[:0])
    targets = rows.weighted.targets.copy()
    targets[5:100, HATE] = 1 - targets[5:100, HATE]  # weighs nothing
    targets[100:] = 7  # not learnt from
    other = dataclasses.replace(rows, weighted=Weighted(targets=targets, weights=rows.weighted.weights))
    first, second = (train(start, tmp_path / str(i), rows=each) for i, each in enumerate((rows, other)))
    np.testing.assert_array_equal(logits(first.heads), logits(second.heads))


def test_a_head_has_the_loss_that_the_configuration_names(start: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, loss_of={"scam": "focal"})
    last = (config.epochs,) * len(HEADS)
    plain, other = (train(start, tmp_path / str(i), c, passes=last).heads for i, c in enumerate((CONFIG, config)))
    first, second = logits(plain), logits(other)
    np.testing.assert_allclose(first[:, DRUGS], second[:, DRUGS], atol=1e-5)
    assert np.abs(second[:, SCAM]).mean() < np.abs(first[:, SCAM]).mean()  # focal loss lets go of what is easy


def test_the_seed_decides(start: Path, tmp_path: Path) -> None:
    first, again, other = (logits(train(start, tmp_path / str(i), seed=seed).heads) for i, seed in enumerate((0, 0, 1)))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0


def test_logits_come_in_the_order_of_the_rows(trained: TrainedHeads) -> None:
    rows = np.array([7, 3, 150, 3])
    with torch.no_grad():
        alone = [trained.heads(*padded_states(toy().states, rows[i : i + 1]))[0].numpy() for i in range(4)]
    np.testing.assert_allclose(logits_of(trained.heads, toy().states, rows, budget=8), np.concatenate(alone), atol=1e-5)
    assert logits_of(trained.heads, toy().states, rows[:0]).shape == (0, len(HEADS))
