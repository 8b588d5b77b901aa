"""Fixtures of the training tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

if TYPE_CHECKING:
    from training.base_model import BaseModel
    from training.branch import TokenBranch
    from training.states import CachedStates


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
