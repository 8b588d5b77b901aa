"""First stage: a LoRA over the whole encoder, learnt together with the heads on a balanced sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import structlog
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from retrieval_shared.torch_families import (
    BERT,
    FAMILIES,
    AnySlotEncoder,
    Family,
    family_adapter,
    family_of,
    slot_encoder,
)
from training.base_model import BaseModel
from training.config import AdapterConfig, HeadsConfig, SharedConfig
from training.examples import DISGUISED, HEADS, OWN_ADS, Examples, concatenate
from training.heads import AttentionHeads
from training.loop import LoopConfig, padded_batches, run_steps
from training.losses.masked_bce import masked_bce
from training.sampling import Weighted, balanced_sample, weigh

log = structlog.get_logger()


@dataclass(frozen=True)
class TrainedAdapter:
    """What the first stage leaves behind."""

    folder: Path
    """The adapter as PEFT saves it, loadable with `PeftModel.from_pretrained`."""
    heads: Path
    """The heads trained along, where the second stage starts from."""


def train_adapter(
    base: BaseModel, examples: Examples, config: AdapterConfig, heads: HeadsConfig, *, folder: Path, seed: int
) -> TrainedAdapter:
    """Train the adapter, or return it when `folder` already holds it.

    Args:
        base: the encoder, its weights already rounded to int8.
        examples: rows it may see (the held-out fold is not among them).
        config: this stage.
        heads: width of the heads and weights of the labels.
        folder: where checkpoints and the result lie; a stopped run resumes from there.
        seed: seeds the sample, the initialisation and the order.
    """
    done = TrainedAdapter(folder=folder / "adapter", heads=folder / "heads.safetensors")
    if done.heads.is_file():
        log.info("adapter found, not trained again", folder=folder.name)
        return done
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    sample = _sample(examples, config, rng)
    weighted = weigh(sample, ad_weight=1.0, unlabelled_share=heads.unlabelled_share)
    token_ids = [encoding.ids[: config.max_tokens] for encoding in base.tokenizer.encode_batch(list(sample.texts))]
    model = get_peft_model(base.model, lora_config(config, family_of(base.model.config)))
    pool = AttentionHeads(len(HEADS), base.dim, hidden=heads.hidden, dropout=heads.dropout)
    steps: list[Callable[[], Tensor]] = [
        partial(_loss, base, model, pool, weighted, (rows, ids, mask))
        for rows, ids, mask in padded_batches(token_ids, budget=config.tokens_per_step, rng=rng)
    ]
    log.info("adapter", rows=len(sample), tokens=sum(map(len, token_ids)), steps=len(steps))
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.requires_grad], "lr": config.learning_rate},
            {"params": list(pool.parameters()), "lr": config.head_learning_rate},
        ],
        weight_decay=0.01,
    )
    loop = LoopConfig(config.warmup, config.checkpoint_steps, folder / "checkpoint.pt")
    # The encoder stays in evaluation mode: in one pass over the rows dropout doubles a step's cost and gains nothing.
    run_steps([model.eval(), pool.train()], optimizer, steps, loop, title="adapter")
    model.save_pretrained(str(done.folder))
    save_file({name: value.contiguous() for name, value in pool.state_dict().items()}, str(done.heads))
    return done


def lora_config(config: AdapterConfig | SharedConfig, family: Family = FAMILIES[BERT]) -> LoraConfig:
    """Return the PEFT configuration: LoRA on the linear layers of every block that the encoder's family names."""
    return LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=0.0,
        target_modules=list(family.linears.values()),
        bias="none",
    )


def load_slots(base: BaseModel, trained: TrainedAdapter, config: AdapterConfig) -> AnySlotEncoder:
    """Return the encoder with the trained adapter in slot 1; `base` is rounded, without PEFT layers."""
    state = load_file(str(trained.folder / "adapter_model.safetensors"))
    adapter = family_adapter(state, base.model)
    scale = config.alpha / config.rank
    return slot_encoder(base.model, [adapter], rank=config.rank, scale=scale, two_paths=base.two_paths)


def load_peft(base: nn.Module, trained: TrainedAdapter) -> PeftModel:
    """Return PEFT's own form of the trained encoder: the oracle the exported graph is checked against."""
    return PeftModel.from_pretrained(base, str(trained.folder)).eval()


def _sample(examples: Examples, config: AdapterConfig, rng: np.random.Generator) -> Examples:
    own = examples.source == OWN_ADS
    copies = examples.kind == DISGUISED
    public, ads, disguised = (examples.take(np.flatnonzero(rows)) for rows in (~own, own & ~copies, copies))
    rows = balanced_sample(public, rows=config.rows, english_share=config.english_share, rng=rng)
    return concatenate([public.take(rows), *[ads] * config.ad_repeats, disguised])


def _loss(
    base: BaseModel, model: nn.Module, pool: nn.Module, weighted: Weighted, batch: tuple[np.ndarray, Tensor, Tensor]
) -> Tensor:
    rows, ids, mask = batch
    states = model(input_ids=ids, attention_mask=mask).last_hidden_state  # [b, t, d]
    logits, _ = pool(states, mask, base.vector(ids, mask, states))  # [b, H]
    targets, weights = (torch.from_numpy(values[rows]) for values in (weighted.targets, weighted.weights))
    return masked_bce(logits, targets, weights)
