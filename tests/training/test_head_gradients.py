from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import get_peft_model
from safetensors.torch import load_file, save_file

import training.head_gradients
from retrieval_shared.adapters import WEIGHTS
from retrieval_shared.head import ATTENTION_HEADS_KEY
from training.adapter import Rows, TrainedAdapter, load_peft, lora_config
from training.base_model import load_rounded
from training.branch import TokenBranch
from training.config import HeadsConfig, ModerationConfig
from training.examples import HEADS
from training.head_gradients import PARTS, head_gradients
from training.heads import PooledHeads
from training.losses.masked_bce import masked_bce
from training.pooling import pooling_block
from training.sampling import Weighted
from training.violation_heads import load_heads

H, ROWS = len(HEADS), 90
HATE, SCAM, DRUGS, TOXIC, POLITICAL = (HEADS.index(head) for head in ("hate", "scam", "drugs", "toxic", "political"))


@pytest.fixture(scope="module")
def config(tiny_config: ModerationConfig) -> ModerationConfig:
    adapter = dataclasses.replace(tiny_config.adapter, tokens_per_step=64)
    return dataclasses.replace(tiny_config, adapter=adapter, heads=HeadsConfig(hidden=4))


@pytest.fixture(scope="module")
def rows(config: ModerationConfig) -> Rows:
    """Hate and scam have the same labels but all the other way round, toxic those of hate; drugs has too few."""
    rng = np.random.default_rng(0)
    ids = [[2, *rng.integers(60, 110, size=rng.integers(3, 9)), 3] for _ in range(ROWS)]
    targets, weights = np.zeros((2, ROWS, H), dtype=np.float32)
    for h, labels in ((HATE, np.arange(ROWS) % 2), (SCAM, 1 - np.arange(ROWS) % 2), (DRUGS, np.arange(ROWS) < 9)):
        targets[:, h] = labels
        weights[:, h] = rng.uniform(0.5, 2.0, size=ROWS)
    targets[:, TOXIC], weights[:, TOXIC] = targets[:, HATE], weights[:, HATE]
    weights[:30, SCAM] = 0
    return Rows(TokenBranch(ids, load_rounded(config)), Weighted(targets=targets, weights=weights))


@pytest.fixture(scope="module")
def trained(config: ModerationConfig, tmp_path_factory: pytest.TempPathFactory) -> TrainedAdapter:
    """A first stage as one might have ended: every part of the adapter is at work, all heads judge alike."""
    folder, base = tmp_path_factory.mktemp("stage"), load_rounded(config).model
    torch.manual_seed(3)
    pool = PooledHeads(pooling_block(base), H, hidden=4)
    with torch.no_grad():
        for parameter in pool.judge.parameters():
            parameter.copy_(parameter[:1].clone().expand_as(parameter))
        pool.judge.outer.mul_(0.1)  # undecided, so that it is the labels that pull
        pool.judge.bias.zero_()
    model = get_peft_model(base, lora_config(config.adapter, base))
    model.save_pretrained(str(folder / "adapter"))
    state = load_file(str(folder / "adapter" / WEIGHTS))
    save_file({name: torch.randn_like(value) / 5 for name, value in state.items()}, str(folder / "adapter" / WEIGHTS))
    metadata = {ATTENTION_HEADS_KEY: str(pool.block.attention_heads)}
    save_file({n: v.contiguous() for n, v in pool.state_dict().items()}, str(folder / "heads.safetensors"), metadata)
    return TrainedAdapter(folder / "adapter", folder / "heads.safetensors")


def by_hand(trained: TrainedAdapter, rows: Rows, config: ModerationConfig, h: int) -> torch.Tensor:
    """Return the gradient of a head's part of the loss over all rows at once, by all that is shared."""
    model, pool = load_peft(load_rounded(config).model, trained.folder), load_heads(trained.heads, config.heads).eval()
    lora = [parameter for name, parameter in model.named_parameters() if ".lora_" in name]
    shared = [parameter.requires_grad_() for parameter in (*lora, *pool.block.parameters())]
    logits, _ = pool(*rows.branch.read(model, np.arange(ROWS)))
    targets, weights = (torch.from_numpy(each[:, h]) for each in (rows.weighted.targets, rows.weighted.weights))
    loss = weights.sum() * masked_bce(logits[:, h], targets, weights)
    found = torch.autograd.grad(loss, shared, materialize_grads=True)
    return torch.cat([part.flatten() for part in found])


def test_where_all_rows_are_drawn_the_parts_add_up_to_the_gradient_of_the_loss(
    trained: TrainedAdapter, rows: Rows, config: ModerationConfig
) -> None:
    """With equal weights within a class, so that every part of a class is as heavy as the next."""
    weights = np.where(rows.weighted.weights > 0, np.where(rows.weighted.targets > 0, 2.0, 0.5), 0.0)
    even = Rows(rows.branch, Weighted(targets=rows.weighted.targets, weights=weights.astype(np.float32)))
    found = head_gradients(trained, even, config)
    assert found.rows.tolist() == [{HATE: 90, TOXIC: 90, SCAM: 60}.get(h, 0) for h in range(H)]
    for h in (HATE, SCAM):
        expected = by_hand(trained, even, config, h)
        assert float(expected.norm()) > 0
        torch.testing.assert_close(found.whole[h], expected, rtol=0, atol=1e-3 * float(expected.norm()))


def test_draws_of_some_rows_have_the_whole_gradient_as_their_mean(
    trained: TrainedAdapter, rows: Rows, config: ModerationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.head_gradients, "MOST_ROWS", 25)
    weights = rows.weighted.weights * (np.arange(H) == HATE)
    weights[rows.weighted.targets[:, HATE] > 0] *= 3  # the classes weigh differently in the loss and alike in a draw
    alone = Rows(rows.branch, Weighted(targets=rows.weighted.targets, weights=weights))
    found = [head_gradients(trained, alone, dataclasses.replace(config, seed=seed)) for seed in range(12)]
    assert {int(each.rows[HATE]) for each in found} == {50}
    mean, expected = torch.stack([each.whole[HATE] for each in found]).mean(0), by_hand(trained, alone, config, HATE)
    assert torch.cosine_similarity(mean, expected, dim=0) > 0.95
    assert float(mean.norm() / expected.norm()) == pytest.approx(1, abs=0.2)


def test_parts_are_disjoint_and_as_heavy_as_the_whole_class(rows: Rows) -> None:
    drawn = list(training.head_gradients._parts(rows.weighted, SCAM, np.random.default_rng(0)))
    assert len(drawn) == PARTS
    every = np.concatenate([chosen for chosen, _ in drawn])
    assert sorted(every.tolist()) == list(range(30, ROWS))  # those with a label, each once
    targets, weights = rows.weighted.targets[:, SCAM], rows.weighted.weights[:, SCAM]
    for chosen, scaled in drawn:
        for value in (0, 1):
            assert (targets[chosen] == value).any()
            total = weights[targets == value].sum()
            assert scaled[targets[chosen] == value].sum() == pytest.approx(total, rel=1e-5)


def test_a_head_with_too_few_labels_has_no_gradient(
    trained: TrainedAdapter, rows: Rows, config: ModerationConfig
) -> None:
    found = head_gradients(trained, rows, config)
    assert found.rows[[DRUGS, POLITICAL]].tolist() == [0, 0]
    assert not found.whole[[DRUGS, POLITICAL]].any()
    assert found.parts.shape[:2] == (PARTS, H)


def test_equal_labels_pull_together_and_opposite_ones_apart(
    trained: TrainedAdapter, rows: Rows, config: ModerationConfig
) -> None:
    whole = head_gradients(trained, rows, config).whole
    assert torch.cosine_similarity(whole[HATE], whole[TOXIC], dim=0) > 0.9  # not 1: rows of its own
    assert torch.cosine_similarity(whole[HATE], whole[SCAM], dim=0) < 0


def test_the_seed_decides(trained: TrainedAdapter, rows: Rows, config: ModerationConfig) -> None:
    first, again = head_gradients(trained, rows, config), head_gradients(trained, rows, config)
    assert torch.equal(first.parts, again.parts)
    other = head_gradients(trained, rows, dataclasses.replace(config, seed=config.seed + 1))
    assert not torch.equal(first.parts, other.parts)


def test_what_was_trained_stays_as_it_is(trained: TrainedAdapter, rows: Rows, config: ModerationConfig) -> None:
    def read(path: Path) -> bytes:
        return path.read_bytes()

    before = [read(trained.heads), read(trained.folder / WEIGHTS)]
    head_gradients(trained, rows, config)
    assert [read(trained.heads), read(trained.folder / WEIGHTS)] == before
