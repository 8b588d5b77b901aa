"""An encoder's second path: rows of its own over the same subwords, and one vector from both paths."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from retrieval_shared.torch_rows import mean_pool

PATHS = "paths.safetensors"
"""The rows and the second path of an encoder that has two, beside its `model.safetensors`."""
TABLE = "table"
"""Name of the rows in that file."""


class Projection(nn.Module):
    """`x W` with W as `[in, out]`: it exports as one MatMul over a named initialiser, which a `Linear` does not."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_in, n_out) / math.sqrt(n_in))

    def forward(self, x: Tensor) -> Tensor:
        """Return `[..., out]` for `x` `[..., in]`."""
        return x @ self.weight


class JoinedPaths(nn.Module):
    """Two paths over the same subwords, each with rows of its own, and one vector from both.

    The transformer reads its rows and gives the states `h_i`; `transformer = unit(mean_i h_i)` over all tokens. With
    the other rows `e_i`, `static = unit(mean_i e_i)` over the tokens that are not special. `joint = unit([transformer;
    static] J)`.
    """

    SPECIAL = 4
    """Ids below this are special tokens."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.joint = Projection(2 * dim, dim)

    def forward(self, rows: Tensor, states: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the joint vectors `[b, d]`.

        Args:
            rows: float `[b, t, d]`, rows e of the static path.
            states: float `[b, t, d]`, the transformer's.
            input_ids: int64 `[b, t]`.
            attention_mask: int64 `[b, t]`, 1 = token.
        """
        return self.join(mean_pool(states, attention_mask), self.static(rows, input_ids, attention_mask))

    def static(self, rows: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the static path's vectors `[b, d]`; zero where a text has special tokens only."""
        return mean_pool(rows, attention_mask * (input_ids >= self.SPECIAL))

    def join(self, transformer: Tensor, static: Tensor) -> Tensor:
        """Return the joint vectors `[b, d]` of the vectors of both paths."""
        return nn.functional.normalize(self.joint(torch.cat([transformer, static], dim=-1)), dim=-1)


@dataclass(frozen=True)
class TwoPaths:
    """What an encoder with two paths has beside its layers."""

    rows: Tensor
    """Float `[V, 2, d]`: of each subword the transformer's row, which is its word row too, and the static path's."""
    paths: JoinedPaths
    """How the paths meet."""

    def input_rows(self) -> Tensor:
        """Return the transformer's rows `[V, d]`."""
        return self.rows[:, 0]


def load_two_paths(folder: Path) -> TwoPaths | None:
    """Return the rows and the second path that lie beside an encoder's weights, None where there are none."""
    if not (folder / PATHS).is_file():
        return None
    state = load_file(str(folder / PATHS))
    rows = state.pop(TABLE)
    paths = JoinedPaths(rows.shape[-1])
    paths.load_state_dict(state)
    return TwoPaths(rows, paths.eval())


def save_two_paths(folder: Path, two_paths: TwoPaths) -> None:
    """Write the file that `load_two_paths` reads."""
    state = {TABLE: two_paths.rows.detach(), **two_paths.paths.state_dict()}
    save_file({name: value.contiguous() for name, value in state.items()}, str(folder / PATHS))
