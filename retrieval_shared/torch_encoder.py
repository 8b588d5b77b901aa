"""The encoder in torch, for training and export: a BERT-family stack whose every linear layer carries LoRA slots.

Of the serving side only the files named `torch_...` import torch; the served package leaves them out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

LINEARS = ("query", "key", "value", "out", "up", "down")
"""The six adapted linear layers of a block, in the order the data flows."""

HUGGING_FACE_LINEARS = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "out": "attention.output.dense",
    "up": "intermediate.dense",
    "down": "output.dense",
}
"""Our name of a linear layer -> its path inside `encoder.layer.<i>` of a Hugging Face `BertModel`."""

HUGGING_FACE_NORMS = {"attention_norm": "attention.output.LayerNorm", "output_norm": "output.LayerNorm"}


PATHS = "paths.safetensors"
"""The rows and the second path of an encoder that has two, beside its `model.safetensors`."""
TABLE = "table"
"""Name of the rows in that file."""
ROW_LEVELS = 7
"""Largest value of a row that shares its bytes with another: 4 bits each."""


@dataclass(frozen=True)
class EncoderShape:
    """The sizes of a BERT-family encoder."""

    layers: int
    """Number of blocks L."""
    dim: int
    """Width d of a token state."""
    attention_heads: int
    """Attention heads per block; divides `dim`."""
    inner: int
    """Width of the feed-forward layer."""
    vocabulary: int
    """Number of token ids."""
    positions: int
    """Longest token sequence."""
    norm_eps: float = 1e-12
    """Epsilon of the layer norms."""

    def __post_init__(self) -> None:
        """Raise `ValueError` when the attention heads do not divide the width."""
        if self.dim % self.attention_heads:
            raise ValueError(f"attention_heads={self.attention_heads} must divide dim={self.dim}")


class SlotLinear(nn.Module):
    """`x W + b + (x A[slot]) B[slot]`: one linear layer under a different LoRA for every row of a batch.

    The gathered form of Punica (Chen et al. 2023, arXiv 2310.18547, section 4): A is `[K, in, r]`, B is `[K, r, out]`
    with the LoRA scale already in it, and slot 0 holds zeros, which is the plain base layer.
    """

    bias: nn.Parameter | None

    def __init__(self, n_in: int, n_out: int, *, slots: int, rank: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_in, n_out) / math.sqrt(n_in))
        self.bias = nn.Parameter(torch.zeros(n_out)) if bias else None
        self.lora_a = nn.Parameter(torch.zeros(slots, n_in, rank))
        self.lora_b = nn.Parameter(torch.zeros(slots, rank, n_out))

    def forward(self, x: Tensor, slot: Tensor) -> Tensor:
        """Return `[b, t, out]` for `x` `[b, t, in]` and `slot` int64 `[b]` in `[0, K)`."""
        # index_select, not indexing: it exports as one Gather over a named initialiser.
        delta = (x @ self.lora_a.index_select(0, slot)) @ self.lora_b.index_select(0, slot)  # [b, t, out]
        base = x @ self.weight
        return (base if self.bias is None else base + self.bias) + delta


class Block(nn.Module):
    """One post-norm transformer block (BERT, Devlin et al. 2019)."""

    def __init__(self, shape: EncoderShape, *, slots: int, rank: int) -> None:
        super().__init__()
        self.attention_heads = shape.attention_heads
        sizes = {"up": (shape.dim, shape.inner), "down": (shape.inner, shape.dim)}
        self.linears = nn.ModuleDict(
            {name: SlotLinear(*sizes.get(name, (shape.dim, shape.dim)), slots=slots, rank=rank) for name in LINEARS}
        )
        self.attention_norm = nn.LayerNorm(shape.dim, eps=shape.norm_eps)
        self.output_norm = nn.LayerNorm(shape.dim, eps=shape.norm_eps)

    def _split(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        return x.view(b, t, self.attention_heads, d // self.attention_heads).transpose(1, 2)  # [b, a, t, d/a]

    def forward(self, x: Tensor, padding: Tensor, slot: Tensor) -> Tensor:
        """Return the next states `[b, t, d]`; `padding` is bool `[b, 1, 1, t]`, true where a token is padding."""
        b, t, d = x.shape
        query, key, value = (self._split(self.linears[name](x, slot)) for name in ("query", "key", "value"))
        scores = query @ key.transpose(2, 3) / math.sqrt(d / self.attention_heads)  # [b, a, t, t]
        weights = scores.masked_fill(padding, torch.finfo(scores.dtype).min).softmax(-1)
        mixed = (weights @ value).transpose(1, 2).reshape(b, t, d)
        x = self.attention_norm(x + self.linears["out"](mixed, slot))
        inner = nn.functional.gelu(self.linears["up"](x, slot))
        after: Tensor = self.output_norm(x + self.linears["down"](inner, slot))
        return after


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


class SlotEncoder(nn.Module):
    """Token states of a BERT-family encoder, each row under its own LoRA slot.

    The table of subword rows is held as int8 with one scale per row: row i is `table[i] * table_scale[i]`. With `paths`
    each of its bytes holds a value of both rows of a subword, in 4 bits each (`pack_rows`).
    """

    table: Tensor
    table_scale: Tensor

    def __init__(self, shape: EncoderShape, *, slots: int, rank: int, paths: JoinedPaths | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.paths = paths
        kind = torch.int8 if paths is None else torch.uint8
        self.register_buffer("table", torch.zeros(shape.vocabulary, shape.dim, dtype=kind))
        self.register_buffer("table_scale", torch.ones(shape.vocabulary, 1 if paths is None else 2))
        self.position = nn.Parameter(torch.zeros(shape.positions, shape.dim))  # holds the token-type row as well
        self.norm = nn.LayerNorm(shape.dim, eps=shape.norm_eps)
        self.blocks = nn.ModuleList(Block(shape, slots=slots, rank=rank) for _ in range(shape.layers))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, slot: Tensor) -> Tensor:
        """Return float32 states `[b, t, d]` for int64 `input_ids` and `attention_mask` `[b, t]`, and `slot` `[b]`."""
        t = input_ids.shape[1]
        words = self._rows(input_ids)[0]
        x: Tensor = self.norm(words + self.position[:t])
        padding = (attention_mask == 0)[:, None, None, :]  # [b, 1, 1, t]
        for block in self.blocks:
            x = block(x, padding, slot)
        return x

    def vector(self, input_ids: Tensor, attention_mask: Tensor, states: Tensor) -> Tensor:
        """Return the L2-normalised sentence vectors `[b, d]` for the states that `forward` gave."""
        if self.paths is None:
            return mean_pool(states, attention_mask)
        joint: Tensor = self.paths(self._rows(input_ids)[1], states, input_ids, attention_mask)
        return joint

    def _rows(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        """Return the rows `[b, t, d]` of each path."""
        if self.paths is None:
            return (read_rows(self.table, self.table_scale, input_ids),)
        return read_packed(self.table, self.table_scale, input_ids)


def read_rows(table: Tensor, scale: Tensor, input_ids: Tensor) -> Tensor:
    """Return float32 rows `[b, t, d]` for `input_ids` `[b, t]`: int8 `table` `[V, d]` times `scale` `[V, 1]`."""
    b, t = input_ids.shape
    flat = input_ids.reshape(-1)
    rows = table.index_select(0, flat).to(torch.float32) * scale.index_select(0, flat)  # [b*t, d]
    return rows.view(b, t, -1)


def pack_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return `(table, scale)`: rows `[V, 2, d]` as uint8 `[V, d]` and float32 `[V, 2]`, which `read_packed` reads.

    A byte is `16 (s + 8) + (t + 8)`, where t and s in [-7, 7] are values of the first and of the second row.
    """
    values, scale = int8_rows(rows, levels=ROW_LEVELS)
    low, high = (values.to(torch.int16) + ROW_LEVELS + 1).unbind(1)
    return (16 * high + low).to(torch.uint8), scale.squeeze(-1)


def read_packed(table: Tensor, scale: Tensor, input_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return both float32 rows `[b, t, d]` for `input_ids` `[b, t]` from what `pack_rows` gave."""
    b, t = input_ids.shape
    flat = input_ids.reshape(-1)
    # In floats, where a byte is exact: every runtime has these operations for them.
    both = table.index_select(0, flat).to(torch.float32)  # [b*t, d]
    high = torch.floor(both / 16)
    low = both - 16 * high
    own = scale.index_select(0, flat)  # [b*t, 2]
    first, second = (
        ((part - (ROW_LEVELS + 1)) * own[:, i : i + 1]).view(b, t, -1) for i, part in enumerate((low, high))
    )
    return first, second


def mean_pool(states: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the L2-normalised mean `[b, d]` of the states `[b, t, d]` of the tokens that the mask `[b, t]` counts."""
    kept = torch.where(attention_mask[..., None] > 0, states, 0.0)  # [b, t, d]
    mean = kept.sum(1) / attention_mask.sum(1, keepdim=True).clamp(min=1).to(states.dtype)
    return nn.functional.normalize(mean, dim=-1)


def int8_rows(weight: Tensor, *, levels: int = 127) -> tuple[Tensor, Tensor]:
    """Return `(int8, scale)`: `weight` `[..., d]` in [-levels, levels], one scale per row; the product restores it.

    Scales keep 12 bits of mantissa: the products are then exact, and to round again changes no bit.
    """
    scale = weight.abs().amax(-1, keepdim=True).float().clamp(min=1e-12) / levels  # [..., 1]
    scale = ((scale.view(torch.int32) + 0x7FF) & ~0x7FF).view(torch.float32)  # up, so that nothing is clipped
    return (weight / scale).round().clamp(-levels, levels).to(torch.int8), scale


def rounded_rows(weight: Tensor, *, levels: int = 127) -> Tensor:
    """Return `weight` `[..., d]` in float32 as `int8_rows` can hold it."""
    values, scale = int8_rows(weight, levels=levels)
    return values.to(torch.float32) * scale


def shape_of(config: object) -> EncoderShape:
    """Return the shape a Hugging Face `BertConfig` describes."""
    names = {
        "layers": "num_hidden_layers",
        "dim": "hidden_size",
        "attention_heads": "num_attention_heads",
        "inner": "intermediate_size",
        "vocabulary": "vocab_size",
        "positions": "max_position_embeddings",
        "norm_eps": "layer_norm_eps",
    }
    return EncoderShape(**{ours: getattr(config, theirs) for ours, theirs in names.items()})


def from_hugging_face(
    model: nn.Module,
    adapters: Sequence[Mapping[str, Tensor]] = (),
    *,
    rank: int = 1,
    scale: float = 1.0,
    two_paths: TwoPaths | None = None,
) -> SlotEncoder:
    """Return the `SlotEncoder` equal to a Hugging Face `BertModel` with `adapters` in slots 1, 2, ...

    Args:
        model: a `BertModel` (or the base model inside a `PeftModel`, before its layers were wrapped).
        adapters: one mapping per slot from `layer.<i>.<linear>.{a,b}` to `[in, r]` and `[r, out]` (`peft_adapter`).
        rank: the rank r of every adapter.
        scale: PEFT's `lora_alpha / r`, folded into B.
        two_paths: the rows and the second path of an encoder that has one.
    """
    shape = shape_of(model.config)
    encoder = SlotEncoder(shape, slots=1 + len(adapters), rank=rank, paths=two_paths.paths if two_paths else None)
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        words = state["embeddings.word_embeddings.weight"]
        table, table_scale = pack_rows(two_paths.rows) if two_paths else int8_rows(words)
        encoder.table.copy_(table)
        encoder.table_scale.copy_(table_scale)
        token_type = state["embeddings.token_type_embeddings.weight"][0]
        encoder.position.copy_(state["embeddings.position_embeddings.weight"] + token_type)
        _copy_norm(encoder.norm, state, "embeddings.LayerNorm")
        for i, block in enumerate(cast("list[Block]", encoder.blocks)):
            for ours, theirs in HUGGING_FACE_NORMS.items():
                _copy_norm(getattr(block, ours), state, f"encoder.layer.{i}.{theirs}")
            for ours, theirs in HUGGING_FACE_LINEARS.items():
                linear = cast("SlotLinear", block.linears[ours])
                linear.weight.copy_(state[f"encoder.layer.{i}.{theirs}.weight"].T)
                cast("nn.Parameter", linear.bias).copy_(state[f"encoder.layer.{i}.{theirs}.bias"])
                for k, adapter in enumerate(adapters, start=1):
                    if f"layer.{i}.{ours}.a" in adapter:  # an adapter over fewer linears leaves the others at the base
                        linear.lora_a[k] = adapter[f"layer.{i}.{ours}.a"]
                        linear.lora_b[k] = adapter[f"layer.{i}.{ours}.b"] * scale
    return encoder.eval()


def _copy_norm(norm: nn.LayerNorm, state: Mapping[str, Tensor], name: str) -> None:
    norm.weight.copy_(state[f"{name}.weight"])
    norm.bias.copy_(state[f"{name}.bias"])


def peft_adapter(state: Mapping[str, Tensor], linears: Mapping[str, str] = HUGGING_FACE_LINEARS) -> dict[str, Tensor]:
    """Return `layer.<i>.<linear>.{a,b}` -> `[in, r]`, `[r, out]` from the state dict of a PEFT LoRA.

    PEFT stores A as `[r, in]` and B as `[out, r]`; missing layers (an adapter over fewer linears) are left out.

    Args:
        state: PEFT's names -> matrices.
        linears: our name of a linear layer -> its path inside a block; those of a `BertModel` unless told.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        for ours, theirs in linears.items():
            for side in ("a", "b"):
                mark = f".{theirs}.lora_{side.upper()}."
                prefix, at, _ = name.partition(mark)
                layer = prefix.rpartition(".")[2]
                # "output.dense" is also the tail of "attention.output.dense": the layer number must follow directly.
                if at and layer.isdigit():
                    found[f"layer.{layer}.{ours}.{side}"] = tensor.detach().float().T.contiguous()
    return found
