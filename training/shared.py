"""The joint adaptation: the finished encoder meets what it will serve, once; the LoRA is merged and the base frozen.

Throw-away heads for violations and product verticals and the pairs of translations pull together; what keeps the
geometry of sentences is the cosine to the encoder's own vectors from before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from peft import PeftModel, get_peft_model
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from retrieval_shared.torch_rows import mean_pool
from training.adapter import lora_config
from training.config import DataConfig
from training.distill import vectors_of
from training.encoder_config import SharedConfig
from training.examples import HEADS, OWN_ADS, Examples, concatenate, fold_of
from training.heads import PooledHeads
from training.loop import LoopConfig, padded_batches, run_steps
from training.losses.infonce import infonce
from training.losses.masked_bce import masked_bce
from training.parallel import PackedTokens, Sentences
from training.pooling import pooling_block
from training.sampling import Weighted, balanced_sample, weigh
from training.two_paths import TwoPathEncoder

log = structlog.get_logger()

_BETWEEN = " > "
"""What stands between the parts of a category's path."""
_TEMPERATURE = 0.05

Batch = tuple[NDArray[np.intp], Tensor, Tensor]
"""Row numbers `[b]`, their ids and their mask, both int64 `[b, t]`."""


@dataclass(frozen=True)
class Topics:
    """n names of categories in any language."""

    texts: tuple[str, ...]
    """The path below its vertical."""
    labels: NDArray[np.int64]
    """`[n]`, numbers of the verticals."""


@dataclass(frozen=True)
class Pairs:
    """Translations by steps."""

    tokens: PackedTokens
    """Token ids of S sentences."""
    english: NDArray[np.int64]
    """`[S]`, the number of the English sentence each translates."""
    batches: Sequence[NDArray[np.int64]]
    """The translations of each step."""


@dataclass(frozen=True)
class Tasks:
    """What the encoder is adapted to."""

    moderation: Examples
    """Rows for the violation heads."""
    topics: Topics
    """Rows for the topic head."""
    pairs: Pairs
    """Translations."""


def category_names(sentences: Sentences, *, source: str, rows: int, rng: np.random.Generator) -> Topics:
    """Return up to `rows` category names of `source`: the text is the path below its first part, the label that part.

    A row is left out where its own language's path has no second part.
    """
    found = [
        (parts[1], sentences.texts[sentences.english[i]].split(_BETWEEN)[0])
        for i in rng.permutation(np.flatnonzero(sentences.source == source))
        if len(parts := sentences.texts[i].split(_BETWEEN, 1)) == 2
    ][:rows]
    names = sorted({vertical for _, vertical in found})
    labels = np.array([names.index(vertical) for _, vertical in found], dtype=np.int64)
    return Topics(tuple(text for text, _ in found), labels)


def moderation_rows(examples: Examples, data: DataConfig, config: SharedConfig, *, seed: int) -> Examples:
    """Return our own ads and a balanced sample of the other rows that may shape the base.

    The fold that calibration and thresholds are fitted on is left out: `seed` must be that of the moderation run.
    """
    fold = fold_of(examples.group, folds=data.folds, seed=seed)
    allowed = np.isin(examples.licence, data.licences) | np.isin(examples.source, data.also_sources)
    seen = examples.take(np.flatnonzero(allowed & (fold != 0) & ~np.isin(examples.source, data.without_sources)))
    own = seen.source == OWN_ADS
    public = seen.take(np.flatnonzero(~own))
    rng = np.random.default_rng(seed)
    rows = balanced_sample(public, rows=config.moderation_rows, english_share=config.english_share, rng=rng)
    return concatenate([public.take(rows), seen.take(np.flatnonzero(own))])


def adapt(
    encoder: TwoPathEncoder, tokenizer: Tokenizer, tasks: Tasks, config: SharedConfig, *, checkpoint: Path, seed: int
) -> TwoPathEncoder:
    """Adapt the layers of the encoder in place, merge what was learnt and return it in evaluation mode.

    Each step serves one task, in random order; a task's loss is multiplied by its weight. The rows and the joint
    projection stay as they are, and so does the static path.

    Args:
        encoder: the finished encoder.
        tokenizer: its tokenizer.
        tasks: what it is adapted to.
        config: this stage.
        checkpoint: where a stopped run resumes from.
        seed: seeds the initialisation and the order of steps.
    """
    torch.manual_seed(seed)
    encoder.requires_grad_(requires_grad=False)
    dim = encoder.bert.config.hidden_size
    heads = PooledHeads(pooling_block(encoder.bert), len(HEADS), hidden=32).to(encoder.device)
    verticals = nn.Linear(dim, int(tasks.topics.labels.max(initial=0)) + 1).to(encoder.device)
    adapted = get_peft_model(encoder.bert, lora_config(config))
    encoder.bert = adapted
    rng = np.random.default_rng(seed)
    steps = _steps(encoder, adapted, tokenizer, tasks, (heads, verticals), config, rng)
    steps = [steps[i] for i in rng.permutation(len(steps))]
    log.info("joint adaptation", rows=len(tasks.moderation), names=len(tasks.topics.texts), steps=len(steps))
    modules = [adapted, heads, verticals]
    trained = [p for module in modules for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=0.01, fused=True)
    loop = LoopConfig(config.warmup, config.checkpoint_steps, checkpoint)
    run_steps([module.eval() for module in modules], optimizer, steps, loop, title="joint adaptation")
    encoder.bert = adapted.merge_and_unload()
    return encoder.eval()


def _steps(
    encoder: TwoPathEncoder,
    adapted: PeftModel,
    tokenizer: Tokenizer,
    tasks: Tasks,
    heads: tuple[PooledHeads, nn.Linear],
    config: SharedConfig,
    rng: np.random.Generator,
) -> list[Callable[[], Tensor]]:
    """Return one step per batch of every task."""

    def batched(texts: Sequence[str]) -> list[Batch]:
        ids = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
        cut = [row if len(row) <= config.max_tokens else [*row[: config.max_tokens - 1], row[-1]] for row in ids]
        batches = padded_batches(cut, budget=config.tokens_per_step, rng=rng)
        return [(rows, ids.to(encoder.device), mask.to(encoder.device)) for rows, ids, mask in batches]

    weighted = weigh(tasks.moderation, ad_weight=1.0, unlabelled_share=0.3)
    steps: list[Callable[[], Tensor]] = [
        partial(_moderation, encoder, heads[0], weighted, batch, config) for batch in batched(tasks.moderation.texts)
    ]
    steps += [
        partial(_topics, encoder, heads[1], tasks.topics.labels, batch, config) for batch in batched(tasks.topics.texts)
    ]
    return steps + [partial(_pairs, encoder, adapted, tasks.pairs, rows, config) for rows in tasks.pairs.batches]


def _moderation(
    encoder: TwoPathEncoder, heads: PooledHeads, weighted: Weighted, batch: Batch, config: SharedConfig
) -> Tensor:
    rows, ids, mask = batch
    read = encoder.rows(ids)  # [b, t, 2, d]
    states = encoder.states(read, mask)
    logits, _ = heads(states, mask, encoder.paths(read[..., 1, :], states, ids, mask))  # [b, H]
    both = (weighted.targets, weighted.weights)
    targets, weights = (torch.from_numpy(values[rows]).to(encoder.device) for values in both)
    return config.moderation_weight * masked_bce(logits, targets, weights)


def _topics(
    encoder: TwoPathEncoder, head: nn.Linear, labels: NDArray[np.int64], batch: Batch, config: SharedConfig
) -> Tensor:
    rows, ids, mask = batch
    logits = head(mean_pool(encoder.states(encoder.rows(ids), mask), mask))  # [b, verticals]
    # Unit vectors: a temperature stands in for their length.
    wanted = torch.from_numpy(labels[rows]).to(encoder.device)
    return config.topic_weight * cross_entropy(logits / _TEMPERATURE, wanted)


def _pairs(
    encoder: TwoPathEncoder, adapted: PeftModel, pairs: Pairs, rows: NDArray[np.int64], config: SharedConfig
) -> Tensor:
    """Return the pair loss of both paths together and of the transformer, and how far it moved from before."""
    unique, place = np.unique(pairs.english[rows], return_inverse=True)
    everything = np.concatenate([unique, rows])
    found = vectors_of(encoder, pairs.tokens, everything, max_tokens=config.max_tokens)
    with torch.no_grad(), adapted.disable_adapter():
        before = vectors_of(encoder, pairs.tokens, everything, max_tokens=config.max_tokens)
    moved = 1 - (found.transformer * before.transformer).sum(-1).mean()
    left, right = found.split(len(unique))
    group = torch.from_numpy(place).to(encoder.device)
    loss = sum(
        infonce(getattr(left, path)[group], getattr(right, path), temperature=_TEMPERATURE, group=group) / 2
        for path in ("joint", "transformer")
    )
    return config.pair_weight * loss + config.keep_weight * moved
