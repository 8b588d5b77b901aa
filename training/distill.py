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
from retrieval_shared.torch_rows import mean_pool
from training.base_model import BaseModel
from training.encoder_config import DistillConfig
from training.loop import LoopConfig, run_steps
from training.losses.infonce import infonce
from training.losses.similarity import similarity_loss
from training.parallel import PackedTokens
from training.tokenizer import FIRST, LAST, SPECIAL
from training.two_paths import TwoPathEncoder, Vectors

log = structlog.get_logger()

_RUN_TOKENS = {"cpu": 2_048, "cuda": 65_536}
"""Padded tokens of one run through the encoder, by device."""
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
    title: str,
    checkpoint: Path,
) -> TwoPathEncoder:
    """Train the encoder in place, one step per batch, and return it in evaluation mode.

    The loss is the weighted sum of: `infonce` between translations, for both paths together (`joint_weight`), for the
    transformer and for the static path; `similarity` of both together to the teacher's similarities, between the
    English sides and across; of the transformer to the teacher's vectors, `1 - cosine` (`teacher_weight`) and `infonce`
    (`anchor_weight`). The teacher's vector of an English sentence is that of its translations too.

    Args:
        encoder: what is trained.
        tokens: token ids of S sentences.
        english: `[S]`, the number of the English sentence each translates.
        batches: the sentences of each step (`like_length_batches`).
        teacher: vectors of the English sides.
        config: this stage.
        title: what the stage is called.
        checkpoint: where a stopped run resumes from.
    """
    rows = encoder.table.weight
    others = [parameter for parameter in encoder.parameters() if parameter.requires_grad and parameter is not rows]
    optimizer = torch.optim.AdamW(
        [{"params": others, "lr": config.learning_rate}, {"params": [rows], "lr": config.rows_learning_rate}],
        weight_decay=0.0, betas=(0.9, 0.98), fused=True,
    )  # fmt: skip
    steps: list[Callable[[], Tensor]] = [
        partial(_loss, encoder, tokens, english, batch, teacher, config) for batch in batches
    ]
    loop = LoopConfig(config.warmup, config.checkpoint_steps, checkpoint)
    # In evaluation mode: a fraction of one pass over the pairs cannot overfit, and dropout costs bitext accuracy.
    run_steps([encoder.eval()], optimizer, steps, loop, title=title)
    return encoder.eval()


def near_batches(
    vectors: NDArray[np.float16], *, size: int, neighbours: int, pool: int, rng: np.random.Generator
) -> list[NDArray[np.intp]]:
    """Return batches of row numbers in which each row meets rows of like meaning; a rest is left out.

    Random negatives are easy, and their similarities say little. Each pool is cut into leaves of near rows by a random
    projection tree (Dasgupta and Freund 2008, section 2: a random direction, the median splits), and every batch joins
    leaves from all over the pool: few rows are so near to most of their batch that only false negatives are left.

    Args:
        vectors: `[n, d]`, unit vectors, in random order.
        size: rows of a batch, a multiple of `neighbours`.
        neighbours: rows of a leaf; 1 leaves the order as it is.
        pool: batches whose rows are cut together.
        rng: draws directions and order.

    Raises:
        ValueError: `neighbours` does not divide `size`.
    """
    if size % neighbours:
        raise ValueError(f"batch_sentences={size} must be a multiple of neighbours={neighbours}")
    batches = []
    for start in range(0, len(vectors) - size + 1, size * pool):
        rows = np.arange(start, min(start + size * pool, len(vectors)))
        rows = rows[: len(rows) // size * size]
        leaves = _leaves(rows, vectors, size=neighbours, rng=rng)
        order = rng.permutation(len(leaves))
        shuffled = np.concatenate([leaves[i] for i in order])
        batches += list(shuffled.reshape(-1, size))
    return batches


def _leaves(
    rows: NDArray[np.intp], vectors: NDArray[np.float16], *, size: int, rng: np.random.Generator
) -> list[NDArray[np.intp]]:
    if len(rows) <= size:
        return [rows]
    a, b = rng.choice(rows, 2, replace=False)
    direction = vectors[a].astype(np.float32) - vectors[b].astype(np.float32)
    order = np.argsort(vectors[rows].astype(np.float32) @ direction, kind="stable")
    # Half of the leaves on either side: each leaf is then of the same size.
    half = len(rows) // size // 2 * size
    return [leaf for side in (order[:half], order[half:]) for leaf in _leaves(rows[side], vectors, size=size, rng=rng)]


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
    device = encoder.device
    both = vectors_of(encoder, tokens, np.concatenate([unique, rows]), max_tokens=config.max_tokens)
    left, right = both.split(len(unique))
    return _pair_loss(left, right, torch.from_numpy(place).to(device), teacher.of(unique).to(device), config)


def vectors_of(encoder: TwoPathEncoder, tokens: PackedTokens, rows: NDArray[np.int64], *, max_tokens: int) -> Vectors:
    """Return the float32 vectors of `rows`, in their order; like lengths run together, so that little is padded.

    On a GPU the encoder runs in bfloat16.
    """
    device = encoder.device
    lengths = np.minimum(tokens.offsets[rows + 1] - tokens.offsets[rows] + 2, max_tokens)
    parts = list(token_budget_batches(lengths.tolist(), budget=_RUN_TOKENS[device.type]))
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        batches = [padded(tokens, rows[part], max_tokens=max_tokens) for part in parts]
        # Looked up once: each look-up's gradient is as large as the whole table.
        used = torch.from_numpy(np.unique(np.concatenate([ids.numpy().ravel() for ids, _ in batches])))
        small = encoder.rows(used.to(device))  # [u, d]
        found = [
            encoder.read(small[torch.searchsorted(used, ids).to(device)], ids.to(device), mask.to(device))
            for ids, mask in batches
        ]
    back = torch.from_numpy(np.argsort(np.concatenate(parts))).to(device)
    return Vectors(*(torch.cat(vectors).float()[back] for vectors in zip(*found, strict=True)))


def _pair_loss(left: Vectors, right: Vectors, place: Tensor, teacher: Tensor, config: DistillConfig) -> Tensor:
    """Return the loss of b translations whose English side is row `place` `[b]` of `left` `[u, d]`."""
    pairs = partial(infonce, temperature=config.temperature, group=place)
    loss = config.joint_weight * pairs(left.joint[place], right.joint)
    loss = loss + config.transformer_weight * pairs(left.transformer[place], right.transformer)
    loss = loss + config.static_weight * pairs(left.static[place], right.static)
    english = similarity_loss(left.joint, left.joint, teacher)
    across = similarity_loss(left.joint[place], right.joint, teacher[place])
    loss = loss + config.similarity_weight * (english + across) / 2
    near = (left.transformer * teacher).sum(-1).mean() + (right.transformer * teacher[place]).sum(-1).mean()
    loss = loss + config.teacher_weight * (1 - near / 2)
    # The teacher's vectors stay where they are: what is drawn to them keeps the likenesses of English sentences.
    found = infonce(left.transformer, teacher, temperature=config.temperature)
    found = found + pairs(right.transformer, teacher[place])
    return loss + config.anchor_weight * found / 2
