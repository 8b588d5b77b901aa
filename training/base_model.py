"""The pretrained encoder a run starts from: a folder, an installed package that carries one, or a hub name."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoModel, AutoTokenizer

from retrieval_shared.torch_encoder import HUGGING_FACE_LINEARS, SharedTable, int8_rows, load_shared

LINEAR_LEVELS = 64
"""Largest int8 value of a linear layer's weight: 7 bits, so that 16-bit sums on a CPU without VNNI cannot saturate."""


@dataclass(frozen=True)
class BaseModel:
    """A Hugging Face encoder and its tokenizer."""

    model: nn.Module
    """A `BertModel` in evaluation mode."""
    tokenizer: Tokenizer
    """The fast tokenizer, without truncation or padding set."""
    name: str
    """What the configuration called it."""
    sha256: str
    """Hash of its weights file; empty when it came from the hub."""
    shared: SharedTable | None = None
    """Its shared table and second path; None where the sentence vector is the mean of the token states."""

    @property
    def dim(self) -> int:
        """Return the width d of a token state."""
        return int(self.model.config.hidden_size)  # type: ignore[union-attr, arg-type]


def load_base_model(name: str, *, sha256: str = "") -> BaseModel:
    """Return the encoder `name` names.

    Args:
        name: a folder in Hugging Face layout, an importable package with a `model/` folder, or a hub name.
        sha256: expected hash of `model.safetensors`; empty accepts any.

    Raises:
        ValueError: the weights have another hash.
    """
    folder = _folder(name)
    weights = folder / "model.safetensors" if folder else None
    found = hashlib.sha256(weights.read_bytes()).hexdigest() if weights and weights.is_file() else ""
    if sha256 and found != sha256:
        raise ValueError(f"base_model {name!r}: weights have sha256 {found or 'unknown'}, expected {sha256}")
    source = str(folder) if folder else name
    tokenizer = AutoTokenizer.from_pretrained(source).backend_tokenizer
    tokenizer.no_padding()
    tokenizer.no_truncation()
    model = AutoModel.from_pretrained(source, add_pooling_layer=False)
    shared = load_shared(folder) if folder else None
    return BaseModel(model=model.eval(), tokenizer=tokenizer, name=name, sha256=found, shared=shared)


def _folder(name: str) -> Path | None:
    if Path(name).is_dir():
        return Path(name)
    if "/" not in name and name.isidentifier():
        found = importlib.util.find_spec(name)
        if found is not None and found.submodule_search_locations:
            return Path(next(iter(found.submodule_search_locations))) / "model"
    return None


def round_to_int8(base: BaseModel) -> None:
    """Round the encoder's matrices, in place, to what their int8 form can hold.

    Linear layers get one symmetric scale per output channel, the word table (the shared one, where there is one) one
    per row. Adapters and heads are then trained on the rounded weights they will meet in serving.
    """
    with torch.no_grad():
        words = base.model.get_parameter("embeddings.word_embeddings.weight")
        if base.shared is None:
            words.copy_(_rounded(words))
        else:
            base.shared.rows.copy_(_rounded(base.shared.rows))
            words.copy_(base.shared.input_rows())
        for name, parameter in base.model.named_parameters():
            if any(name.endswith(f"{path}.weight") for path in HUGGING_FACE_LINEARS.values()):
                parameter.copy_(_rounded(parameter, levels=LINEAR_LEVELS))


def _rounded(weight: torch.Tensor, *, levels: int = 127) -> torch.Tensor:
    values, scale = int8_rows(weight, levels=levels)
    return values.to(torch.float32) * scale
