"""Violation heads as they are served: LoRA files in PEFT's layout, folded into the graph's resident inputs; no torch.

A head attends over the token states with one learned query, through the attention-pooling block that all heads share
and under a LoRA of its own on the block's Q, K, V and O; a small classifier judges what it found beside the vector of
the text. The query is a constant of the head, so nothing but the states stands between the projections: `fold`
multiplies them out, and a head costs the graph a score per token and attention head, and one product.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from retrieval_shared.adapters import ENCODER_KEY, NAME_KEY, PEFT_PREFIX, WEIGHTS, rank_and_scale
from retrieval_shared.bundle import sha256_of
from retrieval_shared.errors import AdapterError

PROJECTIONS = ("query", "key", "value", "out")
"""The block's linear layers, and the modules a head's LoRA adapts."""
JUDGE = ("look", "inner", "inner_bias", "outer", "bias")
"""A head's own parameters: `look` `[d]`, `inner` `[2d, hidden]`, `inner_bias` and `outer` `[hidden]`, `bias` `[]`."""
FOLDED = ("look", "found", "whole", "inner_bias", "outer", "bias")
"""What the graph holds of the heads, as `heads.<name>`."""
HEADS_PREFIX = "heads."
BLOCK = "pooling.safetensors"
"""The shared block's file; its metadata holds the number of attention heads."""
ATTENTION_HEADS_KEY = "wardline.attention_heads"

Array = Any
"""A numpy array or a torch tensor: `fold` needs `@`, `.mT`, `.reshape`, `.sum`, `+`, `*` and slices of it."""


@dataclass(frozen=True)
class HeadParameters:
    """The parameters of H heads over one block, stacked."""

    attention_heads: int
    """Attention heads A of the block; they divide d."""
    block: Mapping[str, Array]
    """`<projection>.weight` `[d, d]` as `[out, in]`, and `<projection>.bias` `[d]`."""
    lora: Mapping[str, Array]
    """`<projection>.a` `[H, r, d]` and `<projection>.b` `[H, d, r]`, the scale in B; empty: no LoRA."""
    judge: Mapping[str, Array]
    """The names of `JUDGE`, each with the head as its first axis."""


def fold(heads: HeadParameters) -> dict[str, Array]:
    """Return the heads with their projections multiplied out, by the names of `FOLDED`.

    With W_h = W + B_h A_h per projection, q = Wq z + bq of the learned query z, and attention head a's rows or columns:
    `look_a = Wk_a^T q_a / sqrt(d/A)`; `found_a = Wv_a^T Wo_a^T I` with the upper half I of the classifier's inner
    layer. bk adds the same to every score, which a softmax does not see.

    Returns:
        `look` `[H*A, d]`, `found` `[H, A*d, hidden]`, `whole` `[H, d, hidden]`, `inner_bias` and `outer`
        `[H, 1, hidden]`, `bias` `[H]`.
    """
    judge, block, a = heads.judge, heads.block, heads.attention_heads
    h, d = judge["look"].shape
    split = (h, a, d // a)
    query = _project(heads, "query", judge["look"].reshape(h, 1, d)) + block["query.bias"]  # [H, 1, d]
    key, value, out = (_weight(heads, name) for name in ("key", "value", "out"))  # [H or 1, d, d]
    look = query.reshape(*split, 1).mT @ key.reshape(-1, a, d // a, d) / math.sqrt(d / a)  # [H, A, 1, d]
    inner = judge["inner"][:, :d]  # [H, d, hidden]
    onward = (out.mT @ inner).reshape(*split, -1)  # [H, A, d/A, hidden]
    found = value.reshape(-1, a, d // a, d).mT @ onward  # [H, A, d, hidden]
    constant = (block["value.bias"].reshape(1, a, 1, d // a) @ onward).sum(1)  # [H, 1, hidden]
    constant = constant + block["out.bias"].reshape(1, 1, d) @ inner
    bias = judge["inner_bias"].reshape(h, 1, -1) + constant
    return {
        "look": look.reshape(h * a, d),
        "found": found.reshape(h, a * d, -1),
        # A unit vector's values are as small as sqrt(d) is large: of the size of a state's.
        "whole": judge["inner"][:, d:] * math.sqrt(d),
        "inner_bias": bias,
        "outer": judge["outer"].reshape(h, 1, -1),
        "bias": judge["bias"],
    }


def _weight(heads: HeadParameters, name: str) -> Array:
    """Return a projection's weight under each head's LoRA, `[H, d, d]` as `[out, in]`; `[1, d, d]` without."""
    weight = heads.block[f"{name}.weight"]
    if f"{name}.a" not in heads.lora:
        return weight.reshape(1, *weight.shape)
    return weight + heads.lora[f"{name}.b"] @ heads.lora[f"{name}.a"]


def _project(heads: HeadParameters, name: str, x: Array) -> Array:
    """Return `x` `[H, n, d]` through a projection under each head's LoRA, without its bias."""
    return x @ _weight(heads, name).mT


@dataclass(frozen=True)
class Heads:
    """The heads of a bundle, ready for the graph."""

    names: tuple[str, ...]
    versions: tuple[str, ...]
    """First 12 hex digits of the sha256 of each head's weights file."""
    inputs: Mapping[str, NDArray[np.float32]]
    """Name of a resident input -> its values."""


def read_heads(folder: Path, names: Sequence[str], *, encoder: str) -> Heads:
    """Return the heads `names` in a bundle's folder of heads, in that order.

    Args:
        folder: holds the block and a folder per head, as PEFT saves it.
        names: H names.
        encoder: sha256 of the base weights that they must have been trained over.

    Raises:
        AdapterError: a file is missing or malformed, or a head belongs to another encoder.
    """
    if not names:
        raise AdapterError(f"heads {folder.name}: found no names, expected one per head")
    try:
        metadata, block = _read(folder / BLOCK)
        each = [_read_head(folder / name, name, encoder=encoder) for name in names]
        parameters = HeadParameters(
            attention_heads=int(metadata[ATTENTION_HEADS_KEY]),
            block=block,
            lora=_stacked([lora for lora, _ in each]),
            judge=_stacked([judge for _, judge in each]),
        )
        folded = fold(parameters)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise AdapterError(f"heads {folder.name}: cannot be read: {type(error).__name__}: {error}") from error
    inputs = {HEADS_PREFIX + name: np.ascontiguousarray(folded[name], dtype=np.float32) for name in FOLDED}
    return Heads(tuple(names), tuple(sha256_of(folder / name / WEIGHTS)[:12] for name in names), inputs)


Tensors = dict[str, NDArray[np.float32]]


def _read(path: Path) -> tuple[dict[str, str], Tensors]:
    with safe_open(str(path), framework="numpy") as file:
        tensors = {key: np.asarray(file.get_tensor(key), dtype=np.float32) for key in file.keys()}  # noqa: SIM118
        metadata = file.metadata() or {}
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise ValueError(f"{path.parent.name}/{path.name}: a value is not finite")
    return metadata, tensors


def _read_head(folder: Path, name: str, *, encoder: str) -> tuple[Tensors, Tensors]:
    """Return the LoRA, its scale in B, and the judge of one head."""
    _, scale = rank_and_scale(folder)
    metadata, tensors = _read(folder / WEIGHTS)
    if metadata.get(NAME_KEY) != f"head:{name}" or metadata.get(ENCODER_KEY) != encoder:
        raise AdapterError(
            f"head {name!r}: its file says {metadata.get(NAME_KEY)!r} over base weights "
            f"{metadata.get(ENCODER_KEY, 'unknown')[:12]}, this bundle has {encoder[:12]}"
        )
    own = {key.removeprefix(PEFT_PREFIX): tensor for key, tensor in tensors.items()}
    lora = {f"{part}.a": own[f"{part}.lora_A.weight"] for part in PROJECTIONS}
    lora |= {f"{part}.b": own[f"{part}.lora_B.weight"] * np.float32(scale) for part in PROJECTIONS}
    return lora, {part: own[f"judge.{part}"] for part in JUDGE}


def _stacked(each: Sequence[Tensors]) -> Tensors:
    return {name: np.stack([tensors[name] for tensors in each]) for name in each[0]}
