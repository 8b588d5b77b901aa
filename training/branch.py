"""Training above the trunk: from cached trunk states, or from tokens, to states and vectors with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch import Tensor, nn

from retrieval_shared.batching import pad
from retrieval_shared.torch_paths import JoinedPaths
from retrieval_shared.torch_rows import mean_pool
from training.base_model import BaseModel
from training.states import TokenStates, padded_states

HALF = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
"""Whether this processor has instructions for bfloat16."""


class Branch(Protocol):
    """Rows under the adapter of a model that is being trained."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the tokens of each row, `[n]`."""

    def read(self, model: nn.Module, rows: NDArray[np.intp]) -> tuple[Tensor, Tensor, Tensor]:
        """Return states `[b, t, d]`, their mask int64 `[b, t]` and unit vectors `[b, d]` of some rows."""


@dataclass(frozen=True)
class TrunkBranch:
    """A BERT's upper layers over cached trunk states: a step costs as many layers as carry LoRA."""

    trunk: TokenStates
    """The trunk's states and static vectors of all rows."""
    layers: int
    """Blocks above the trunk."""
    paths: JoinedPaths | None
    """How the two paths of the encoder meet; None: it has one."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the tokens of each row, `[n]`."""
        return self.trunk.lengths

    def read(self, model: nn.Module, rows: NDArray[np.intp]) -> tuple[Tensor, Tensor, Tensor]:
        """Return states `[b, t, d]`, their mask int64 `[b, t]` and unit vectors `[b, d]` of some rows."""
        x, mask, static = padded_states(self.trunk, rows)
        # Twice as fast where the processor multiplies in bfloat16; parameters and their gradients stay in float32.
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=HALF):
            x = upper_layers(model, x, mask, layers=self.layers).float()
        transformer = mean_pool(x, mask)
        return x, mask, transformer if self.paths is None else self.paths.join(transformer, static)


@dataclass(frozen=True)
class TokenBranch:
    """A whole encoder of any family, from token ids."""

    token_ids: Sequence[Sequence[int]]
    base: BaseModel
    """Gives the vector of the states."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the tokens of each row, `[n]`."""
        return np.array([len(ids) for ids in self.token_ids], dtype=np.int64)

    def read(self, model: nn.Module, rows: NDArray[np.intp]) -> tuple[Tensor, Tensor, Tensor]:
        """Return states `[b, t, d]`, their mask int64 `[b, t]` and unit vectors `[b, d]` of some rows."""
        ids, mask = (torch.from_numpy(each) for each in pad([self.token_ids[i] for i in rows]))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=HALF):
            states = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        return states, mask, self.base.vector(ids, mask, states)


def upper_layers(model: nn.Module, x: Tensor, mask: Tensor, *, layers: int) -> Tensor:
    """Return the states `[b, t, d]` after the upper `layers` blocks of a `BertModel`, or of a PEFT model over one.

    Args:
        model: the encoder.
        x: float `[b, t, d]`, the states below those blocks.
        mask: int64 `[b, t]`, 1 = token.
        layers: how many blocks, at least 1.
    """
    bert = cast("Any", model.get_base_model() if isinstance(model, PeftModel) else model)
    bias = torch.zeros(mask.shape, dtype=x.dtype).masked_fill(mask == 0, torch.finfo(x.dtype).min)[:, None, None, :]
    for layer in bert.encoder.layer[-layers:]:
        x = layer(x, bias)
    return x
