"""Fixtures of the training tests, and what several of their files make up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor, nn

    from training.base_model import BaseModel
    from training.branch import Branch, TokenBranch
    from training.config import ModerationConfig
    from training.examples import Examples
    from training.heads import PooledHeads
    from training.states import CachedStates


class Interrupted(Exception):
    """Stops a run as a power cut would."""


@dataclass
class Stopping:
    """A branch that is cut off after some steps."""

    branch: Branch
    left: int

    @property
    def lengths(self) -> NDArray[np.int64]:
        return self.branch.lengths

    def read(self, model: nn.Module, rows: NDArray[np.intp]) -> tuple[Tensor, Tensor, Tensor]:
        if not self.left:
            raise Interrupted
        self.left -= 1
        return self.branch.read(model, rows)


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Branches compute in float32 on every processor."""
    import training.branch

    monkeypatch.setattr(training.branch, "HALF", False)


def random_heads(model: nn.Module) -> PooledHeads:
    """Return heads over an encoder's pooling block whose LoRA is at work, for evaluation."""
    import torch

    from training.examples import HEADS
    from training.heads import PooledHeads
    from training.pooling import pooling_block

    torch.manual_seed(3)
    found = PooledHeads(pooling_block(model), len(HEADS), hidden=8, rank=2, alpha=4)
    with torch.no_grad():
        for value in found.lora.values():
            value.normal_(std=0.2)
    return found.eval()


def one_word_tells(*, ads: int, posts: int) -> Examples:
    """Return our own ads, every third disguised; open posts; 40 rows that no adapter may see. One word tells."""
    from training.examples import DISGUISED, HEADS, OWN_ADS, Examples

    n = ads + posts + 40
    i = np.arange(n)
    source = np.repeat([OWN_ADS, "posts", "kept", "closed"], [ads, posts, 20, 20])
    targets = np.full((n, len(HEADS)), np.nan, dtype=np.float32)
    targets[:, HEADS.index("gambling")] = i % 2
    targets[:3, HEADS.index("hate")] = 1  # too few to be counted
    return Examples(
        texts=tuple(f"{('fresh bread and tea', 'win casino bet')[k % 2]} {k}" for k in range(n)),
        targets=targets,
        source=source,
        licence=np.where(source == "closed", "sa", "open"),
        lang=np.full(n, "en"),
        kind=np.where(i < ads, np.where(i % 3 == 0, DISGUISED, "clean"), "post"),
        group=(i // 2).astype(str),
        region=np.full(n, ""),
    )


def in_held_out_fold(examples: Examples, config: ModerationConfig) -> NDArray[np.bool_]:
    """Return which rows no adapter sees."""
    from training.examples import fold_of

    held: NDArray[np.bool_] = fold_of(examples.group, folds=config.data.folds, seed=config.seed) == 0
    return held


@dataclass(frozen=True)
class TorchTexts:
    """A stand-in of `training.texts.Texts` that exports no graph: the encoder itself reads everything, in torch."""

    base: BaseModel
    token_ids: tuple[list[int], ...]

    def branch(self, rows: NDArray[np.intp]) -> TokenBranch:
        """Return some rows, for training an adapter."""
        from training.branch import TokenBranch

        return TokenBranch([self.token_ids[i] for i in rows], self.base)

    def states(self, adapter: Path, *, rows: NDArray[np.intp], **_: object) -> CachedStates:
        """Return states and vectors of some rows under an adapter that PEFT saved."""
        import copy

        import torch

        from training.adapter import load_peft
        from training.states import CachedStates

        branch = self.branch(rows)
        with torch.no_grad():
            x, mask, vectors = branch.read(load_peft(copy.deepcopy(self.base.model), adapter), np.arange(len(rows)))
        offsets = np.concatenate([[0], np.cumsum(branch.lengths)])
        return CachedStates(x[mask > 0].half().numpy(), vectors.half().numpy(), offsets)


@pytest.fixture(scope="session")
def torch_texts() -> Callable[..., Any]:
    """What stands in for `training.texts.read_texts`; called as that is."""

    def read(base: BaseModel, examples: Any, *_: object, **__: object) -> TorchTexts:
        encodings = base.tokenizer.encode_batch(list(examples.texts))
        return TorchTexts(base, tuple(encoding.ids for encoding in encodings))

    return read
