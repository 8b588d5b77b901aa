"""Training of the two-path encoder: translations lead, an English teacher's similarities assist."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from retrieval_shared.batching import pad, token_budget_batches
from retrieval_shared.torch_encoder import mean_pool
from training.base_model import BaseModel
from training.config import DistillConfig
from training.loop import LoopConfig, run_steps
from training.losses.infonce import infonce
from training.losses.similarity import similarity_loss
from training.parallel import PackedTokens
from training.tokenizer import FIRST, LAST, SPECIAL
from training.two_paths import TwoPathEncoder, Vectors

log = structlog.get_logger()

_TEACHER_BATCHES = 200
"""Batches of teacher vectors between two notes of progress."""


@dataclass(frozen=True)
class TeacherVectors:
    """The teacher's vectors of some sentences."""

    rows: NDArray[np.int64]
    """`[n]`, ascending numbers of the sentences."""
    vectors: NDArray[np.float16]
    """`[n, t]`, unit vectors."""

    def of(self, rows: NDArray[np.int64]) -> Tensor:
        """Return float32 vectors `[len(rows), t]`; each of `rows` must be among the sentences."""
        return torch.from_numpy(self.vectors[np.searchsorted(self.rows, rows)].astype(np.float32))


def teach(teacher: BaseModel, texts: Sequence[str], rows: NDArray[np.int64], *, max_tokens: int) -> TeacherVectors:
    """Return the teacher's mean-pooled vectors of the sentences `rows` of `texts`."""
    rows = np.unique(rows)
    ids = [encoding.ids for encoding in teacher.tokenizer.encode_batch([texts[i] for i in rows])]
    ids = [row if len(row) <= max_tokens else [*row[: max_tokens - 1], row[-1]] for row in ids]
    vectors = np.zeros((len(rows), teacher.dim), dtype=np.float16)
    batches = token_budget_batches([len(row) for row in ids], budget=4_096)
    with torch.inference_mode():
        for step, batch in enumerate(track(batches, description="teacher")):
            padded, mask = (torch.from_numpy(part) for part in pad([ids[i] for i in batch]))
            states = teacher.model(input_ids=padded, attention_mask=mask).last_hidden_state
            vectors[batch] = mean_pool(states, mask).numpy()
            if step % _TEACHER_BATCHES == 0:
                log.info("teacher", batches=step, of=len(batches))
    return TeacherVectors(rows, vectors)


def distil(
    encoder: TwoPathEncoder,
    tokens: PackedTokens,
    english: NDArray[np.int64],
    batches: Sequence[NDArray[np.int64]],
    teacher: TeacherVectors,
    config: DistillConfig,
    *,
    checkpoint: Path,
) -> TwoPathEncoder:
    """Train the encoder in place, one step per batch, and return it in evaluation mode.

    The loss is `infonce(joint) + transformer_weight * infonce(transformer) + similarity_weight * similarity(joint)`,
    the last between the English sides and across.

    Args:
        encoder: what is trained.
        tokens: token ids of S sentences.
        english: `[S]`, the number of the English sentence each translates.
        batches: the sentences of each step (`like_length_batches`).
        teacher: vectors of the English sides.
        config: this stage.
        checkpoint: where a stopped run resumes from.
    """
    words = encoder.bert.embeddings.word_embeddings.weight
    others = [parameter for parameter in encoder.parameters() if parameter is not words]
    optimizer = torch.optim.AdamW(
        [{"params": others, "lr": config.learning_rate}, {"params": [words], "lr": config.rows_learning_rate}],
        weight_decay=0.0, betas=(0.9, 0.98), fused=True,
    )  # fmt: skip
    steps: list[Callable[[], Tensor]] = [
        partial(_loss, encoder, tokens, english, rows, teacher, config) for rows in batches
    ]
    loop = LoopConfig(config.warmup, config.checkpoint_steps, checkpoint)
    # In evaluation mode: a fraction of one pass over the pairs cannot overfit, and dropout costs bitext accuracy.
    run_steps([encoder.eval()], optimizer, steps, loop, title="two paths")
    return encoder.eval()


def like_length_batches(
    rows: NDArray[np.int64], lengths: NDArray[np.int64], *, size: int, pool: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Return `rows` in batches of `size`, like lengths together within pools of `pool` batches; a rest is left out.

    Args:
        rows: sentence numbers, in random order.
        lengths: `[len(rows)]`, tokens of each.
        size: rows of a batch.
        pool: batches sorted together.
        rng: shuffles the batches of each pool.
    """
    batches = []
    for start in range(0, len(rows), size * pool):
        here = slice(start, start + size * pool)
        by_length = rows[here][np.argsort(lengths[here], kind="stable")]
        parts = [by_length[at : at + size] for at in range(0, len(by_length) - size + 1, size)]
        batches += [parts[i] for i in rng.permutation(len(parts))]
    return batches


def padded(tokens: PackedTokens, rows: NDArray[np.int64], *, max_tokens: int) -> tuple[Tensor, Tensor]:
    """Return int64 ids and mask `[b, t]` of `rows` with their special tokens, at most `max_tokens` long."""
    first, last = SPECIAL.index(FIRST), SPECIAL.index(LAST)
    spans = zip(tokens.offsets[rows], tokens.offsets[rows + 1], strict=True)
    ids, mask = pad([[first, *tokens.ids[a : min(b, a + max_tokens - 2)].tolist(), last] for a, b in spans])
    return torch.from_numpy(ids), torch.from_numpy(mask)


def _loss(
    encoder: TwoPathEncoder,
    tokens: PackedTokens,
    english: NDArray[np.int64],
    rows: NDArray[np.int64],
    teacher: TeacherVectors,
    config: DistillConfig,
) -> Tensor:
    # One pass per English sentence, however many of its translations are in the batch.
    unique, place = np.unique(english[rows], return_inverse=True)
    left = encoder(*padded(tokens, unique, max_tokens=config.max_tokens))
    right = encoder(*padded(tokens, rows, max_tokens=config.max_tokens))
    return _pair_loss(left, right, torch.from_numpy(place), teacher.of(unique), config)


def _pair_loss(left: Vectors, right: Vectors, place: Tensor, teacher: Tensor, config: DistillConfig) -> Tensor:
    """Return the loss of b translations whose English side is row `place` `[b]` of `left` `[u, d]`."""
    pairs = partial(infonce, temperature=config.temperature, group=place)
    loss = pairs(left.joint[place], right.joint)
    loss = loss + config.transformer_weight * pairs(left.transformer[place], right.transformer)
    if config.similarity_weight:
        english = similarity_loss(left.joint, left.joint, teacher)
        across = similarity_loss(left.joint[place], right.joint, teacher[place])
        loss = loss + config.similarity_weight * (english + across) / 2
    return loss
