from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import training.separate
from retrieval_shared.adapters import WEIGHTS
from retrieval_shared.batching import token_budget_batches
from tests.training.conftest import Interrupted, Stopping, random_heads
from training.adapter import Rows, load_peft
from training.base_model import BaseModel, load_rounded
from training.branch import TokenBranch
from training.config import ModerationConfig, RegionConfig
from training.examples import HEADS
from training.heads import PooledHeads
from training.loop import LoopConfig, run_steps
from training.sampling import Weighted
from training.separate import separate_logits

LEARNT = ("free bet win cash", "fresh tea and bread", "casino cash", "bread every morning to your door") * 8
HELD = ("win", "fresh bread and tea every morning", "casino", "tea", "free bet now win cash now", "morning bread")
"""Of several lengths, so that they are read in another order."""
BETS = np.array([1, 0, 1, 0, 1, 0])

pytestmark = pytest.mark.usefixtures("in_float32")


@dataclass(frozen=True)
class Setting:
    """A region where bets are no gambling and bread is."""

    config: ModerationConfig
    base: BaseModel
    heads: PooledHeads
    moderation: Path
    folder: Path

    def branch(self, texts: Sequence[str]) -> TokenBranch:
        return TokenBranch([encoding.ids for encoding in self.base.tokenizer.encode_batch(list(texts))], self.base)

    def rows(self) -> Rows:
        targets, weights = (np.zeros((len(LEARNT), len(HEADS)), dtype=np.float32) for _ in range(2))
        targets[:, 0], weights[:, 0] = np.arange(len(LEARNT)) % 2, 1
        return Rows(self.branch(LEARNT), Weighted(targets, weights))

    def logits(self, *, rows: Rows | None = None, name: str = "separate") -> NDArray[np.float32]:
        return separate_logits(
            self.config, rows or self.rows(), self.branch(HELD), self.heads, moderation=self.moderation,
            folder=self.folder / name, seed=7,
        )  # fmt: skip


@pytest.fixture
def setting(
    tiny_config: ModerationConfig, tiny_adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Setting:
    monkeypatch.setattr(training.separate, "LEARNING_RATE", 5e-3)  # a tiny model wants larger steps
    config = dataclasses.replace(
        tiny_config,
        adapter=dataclasses.replace(tiny_config.adapter, tokens_per_step=64, checkpoint_steps=4),
        regions=RegionConfig(epochs=4),
    )
    base = load_rounded(config)
    return Setting(config, base, random_heads(base.model), tiny_adapter, tmp_path)


def test_it_starts_as_the_encoder_under_the_moderation_adapter(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.separate, "LEARNING_RATE", 0.0)
    monkeypatch.setattr(training.separate, "HEAD_LEARNING_RATE", 0.0)
    adapted = load_peft(load_rounded(setting.config).model, setting.moderation)
    for row, found in enumerate(setting.logits()):  # in the order of the held-out rows
        with torch.no_grad():
            expected = setting.heads(*setting.branch(HELD).read(adapted, np.array([row])))[0][0]
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_it_learns_what_the_shared_heads_do_not_say(setting: Setting) -> None:
    logits = setting.logits()
    assert logits.shape == (len(HELD), len(HEADS))
    assert logits.dtype == np.float32
    assert logits[BETS == 0, 0].min() > logits[BETS == 1, 0].max()


def test_shared_heads_base_and_adapter_stay_as_they_were(setting: Setting) -> None:
    kept: list[nn.Module] = [setting.heads, setting.base.model]
    before = [copy.deepcopy(module.state_dict()) for module in kept]
    saved = (setting.moderation / WEIGHTS).read_bytes()
    setting.logits()
    for module, state in zip(kept, before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
        assert all(value.grad is None for value in module.parameters())
    assert not setting.heads.training
    assert (setting.moderation / WEIGHTS).read_bytes() == saved


def test_every_weight_is_trained_as_often_as_an_adapters(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    def watched(
        modules: Sequence[nn.Module],
        optimizer: torch.optim.Optimizer,
        steps: Sequence[Callable[[], Tensor]],
        config: LoopConfig,
        *,
        title: str,
    ) -> None:
        both = nn.ModuleList(modules)
        names.update(name for name, _ in both.named_parameters())
        before = copy.deepcopy(both.state_dict())
        assert [module.training for module in modules] == [False, True]  # heads drop, the encoder does not
        run_steps(modules, optimizer, steps, config, title=title)
        still.extend(name for name in names if torch.equal(both.get_parameter(name), before[name]))
        taken.append(len(steps))

    names, still, taken = set[str](), list[str](), list[int]()
    monkeypatch.setattr(training.separate, "run_steps", watched)
    setting.logits()
    base, heads = (dict(module.named_parameters()).keys() for module in (setting.base.model, setting.heads))
    assert names == {f"0.{name}" for name in base} | {f"1.{name}" for name in heads}  # the adapter is merged
    assert still == ["1.block.key.bias"]  # a softmax does not see it
    batches = token_budget_batches(setting.rows().branch.lengths, budget=64)
    assert taken == [4 * len(batches)]  # of the configuration's epochs


def test_a_stopped_run_that_resumes_ends_where_an_unbroken_one_does(setting: Setting) -> None:
    setting.heads.dropout.fill_(0.5)
    unbroken = setting.logits(name="unbroken")
    rows = setting.rows()
    with pytest.raises(Interrupted):
        setting.logits(rows=Rows(Stopping(rows.branch, 6), rows.weighted))
    assert torch.load(setting.folder / "separate" / "checkpoint.pt", weights_only=True)["step"] == 4
    np.testing.assert_array_equal(setting.logits(), unbroken)
