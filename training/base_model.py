"""The pretrained encoder a run starts from: a folder, an installed package that carries one, or a hub name."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from retrieval_shared.bundle import BASE_WEIGHTS, TOKENIZER
from retrieval_shared.torch_families import adapted_linears, family_of, longest_text, word_table
from retrieval_shared.torch_paths import TwoPaths, load_two_paths
from retrieval_shared.torch_rows import ROW_LEVELS, mean_pool, rounded_rows
from training.config import ModerationConfig
from training.encoder_record import read_record
from training.shipped_base import is_bundle, shipped_base

REPOSITORY = Path(__file__).resolve().parent.parent
LINEAR_LEVELS = 64
"""Largest int8 value of a linear layer's weight: 7 bits, so that 16-bit sums on a CPU without VNNI cannot saturate."""


@dataclass(frozen=True)
class BaseModel:
    """A Hugging Face encoder and its tokenizer."""

    model: nn.Module
    """An encoder of one of `FAMILIES`, in float32 and evaluation mode."""
    tokenizer: Tokenizer
    """The fast tokenizer, without truncation or padding set."""
    name: str
    """What the configuration called it."""
    sha256: str
    """Hash of its weights file; empty when it came from the hub."""
    two_paths: TwoPaths | None = None
    """Its rows and its second path; None where the sentence vector is the mean of the token states."""
    record: dict[str, Any] | None = None
    """How it was trained, where that was by us (`encoder_record`)."""

    @property
    def identity(self) -> str:
        """Return 64 hex digits that tell it from others in caches; of the hub's, without a hash here, its name's."""
        return self.sha256 or hashlib.sha256(self.name.encode()).hexdigest()

    def vector(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """Return the unit vectors `[b, d]` of texts with the token states `[b, t, d]`."""
        if self.two_paths is None:
            return mean_pool(states, attention_mask)
        rows = self.two_paths.rows[input_ids, 1]  # [b, t, d]
        found: torch.Tensor = self.two_paths.paths(rows, states, input_ids, attention_mask)
        return found

    @property
    def dim(self) -> int:
        """Return the width d of a token state."""
        return int(self.model.config.hidden_size)  # type: ignore[union-attr, arg-type]

    @property
    def max_tokens(self) -> int:
        """Return how many tokens, special tokens included, the encoder can read at once."""
        return longest_text(self.model.config)


def load_base_model(name: str, *, sha256: str = "") -> BaseModel:
    """Return the encoder `name` names.

    Args:
        name: a bundle's folder or a folder in Hugging Face layout, relative to the working folder or to the
            repository; an importable package with a `model/` folder; or a hub name.
        sha256: expected hash of the weights file (`base.int8.bin` of a bundle, else `model.safetensors`); empty
            accepts any.

    Raises:
        ValueError: the weights have another hash, or the encoder is of none of `FAMILIES`.
    """
    folder = _folder(name)
    shipped = folder is not None and is_bundle(folder)
    weights = folder / (BASE_WEIGHTS if shipped else "model.safetensors") if folder else None
    found = hashlib.sha256(weights.read_bytes()).hexdigest() if weights and weights.is_file() else ""
    if sha256 and found != sha256:
        raise ValueError(f"base_model {name!r}: weights have sha256 {found or 'unknown'}, expected {sha256}")
    if folder and shipped:
        model, two_paths = shipped_base(folder)
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        return BaseModel(model, tokenizer, name=name, sha256=found, two_paths=two_paths, record=read_record(folder))
    source = str(folder) if folder else name
    # Asked before the weights are fetched; a checkpoint's own code is never run.
    family = family_of(AutoConfig.from_pretrained(source, trust_remote_code=False))
    tokenizer = AutoTokenizer.from_pretrained(source).backend_tokenizer
    tokenizer.no_padding()
    tokenizer.no_truncation()
    # Some checkpoints are stored in half precision; everything here computes in float32.
    without_pooler = {"add_pooling_layer": False} if family.pooler else {}
    model = AutoModel.from_pretrained(source, dtype=torch.float32, **without_pooler)
    two_paths, record = (load_two_paths(folder), read_record(folder)) if folder else (None, None)
    return BaseModel(model.eval(), tokenizer, name=name, sha256=found, two_paths=two_paths, record=record)


def load_rounded(config: ModerationConfig) -> BaseModel:
    """Return the base encoder that a configuration names, rounded as it is served.

    Raises:
        ValueError: a length of the configuration is beyond what it reads, or its weights are others than named.
    """
    base = load_base_model(config.base_model, sha256=config.base_sha256)
    check_max_tokens(base, {"max_tokens": config.max_tokens, "adapter.max_tokens": config.adapter.max_tokens})
    round_to_int8(base)
    return base


def check_max_tokens(base: BaseModel, wanted: Mapping[str, int]) -> None:
    """Raise `ValueError` where a length of the configuration is beyond what the encoder reads.

    Args:
        base: the encoder.
        wanted: key of the configuration -> tokens of one pass, special tokens included.
    """
    for name, found in wanted.items():
        if found > base.max_tokens:
            raise ValueError(f"{name}: found {found}, allowed up to {base.max_tokens}, which {base.name!r} reads")


def _folder(name: str) -> Path | None:
    for folder in (Path(name), REPOSITORY / name):
        if folder.is_dir():
            return folder
    if "/" not in name and name.isidentifier():
        found = importlib.util.find_spec(name)
        if found is not None and found.submodule_search_locations:
            return Path(next(iter(found.submodule_search_locations))) / "model"
    return None


def round_to_int8(base: BaseModel) -> None:
    """Round the encoder's matrices, in place, to what their int8 form can hold.

    Linear layers get one symmetric scale per output channel, the word table one per row; where there are two paths,
    their rows get 4 bits each. Adapters and heads are then trained on the rounded weights they will meet in serving.
    """
    with torch.no_grad():
        words = word_table(base.model)
        if base.two_paths is None:
            words.copy_(rounded_rows(words))
        else:
            base.two_paths.rows.copy_(rounded_rows(base.two_paths.rows, levels=ROW_LEVELS))
            words.copy_(base.two_paths.input_rows())
        for linear in adapted_linears(base.model).values():
            linear.weight.copy_(rounded_rows(linear.weight, levels=LINEAR_LEVELS))
