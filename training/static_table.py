"""The static path of the encoder: one row per subword, a sentence is the mean of its rows, learnt from translations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from training.encoder_config import StaticConfig
from training.loop import LoopConfig, run_steps
from training.losses.infonce import infonce
from training.parallel import PackedTokens

log = structlog.get_logger()


class StaticTable(nn.Module):
    """Rows of subwords; a sentence is the unit vector of their mean."""

    def __init__(self, vocabulary: int, dim: int) -> None:
        super().__init__()
        self.rows = nn.EmbeddingBag(vocabulary, dim, mode="mean")
        nn.init.normal_(self.rows.weight, std=dim**-0.5)

    def forward(self, ids: Tensor, starts: Tensor) -> Tensor:
        """Return unit vectors `[b, d]` of b bags: int64 `ids` joined, and where each bag begins `[b]`."""
        return nn.functional.normalize(self.rows(ids, starts), dim=-1)


def train_static_table(
    tokens: PackedTokens,
    english: NDArray[np.int64],
    chances: NDArray[np.float64],
    config: StaticConfig,
    *,
    vocabulary: int,
    folder: Path,
    seed: int,
) -> StaticTable:
    """Return the trained table, from `folder` where it already lies.

    Args:
        tokens: token ids of S sentences.
        english: `[S]`, the number of the English sentence each translates.
        chances: `[S]`, the chance of each sentence to be drawn.
        config: this stage.
        vocabulary: number of token ids.
        folder: where checkpoint and result lie.
        seed: seeds the initialisation and the draws.
    """
    torch.manual_seed(seed)
    table = StaticTable(vocabulary, config.dim)
    done = folder / "static.safetensors"
    if done.is_file():
        table.load_state_dict(load_file(str(done)))
        return table
    steps: list[Callable[[], Tensor]] = [
        partial(_loss, table, tokens, english, rows, config.temperature)
        for rows in draws(chances, steps=config.pairs // config.batch_pairs, size=config.batch_pairs, seed=seed)
    ]
    optimizer = torch.optim.Adam(table.parameters(), lr=config.learning_rate, fused=True)
    # A bag's gradient is tiny against the table's; a bound on its norm would only rescale the learning rate.
    loop = LoopConfig(0.02, config.checkpoint_steps, folder / "static.checkpoint.pt", clip=float("inf"))
    run_steps([table], optimizer, steps, loop, title="static table")
    folder.mkdir(parents=True, exist_ok=True)
    save_file(table.state_dict(), str(done))
    return table


def draws(chances: NDArray[np.float64], *, steps: int, size: int, seed: int) -> list[NDArray[np.int64]]:
    """Return `steps` batches of `size` sentence numbers, drawn by their chances with replacement."""
    edges = np.cumsum(chances)
    points = np.random.default_rng(seed).random((steps, size)) * edges[-1]
    return list(np.searchsorted(edges, points, side="right"))


def _loss(
    table: StaticTable,
    tokens: PackedTokens,
    english: NDArray[np.int64],
    rows: NDArray[np.int64],
    temperature: float,
) -> Tensor:
    left, right = (table(*(torch.from_numpy(part) for part in tokens.bags(chosen))) for chosen in (english[rows], rows))
    return infonce(left, right, temperature=temperature, group=torch.from_numpy(english[rows]))
