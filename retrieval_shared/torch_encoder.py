"""The encoder in torch, for training and export: a BERT-family stack whose every linear layer carries LoRA slots.

Of the serving side only the files named `torch_...` import torch; the served package leaves them out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from retrieval_shared.torch_paths import JoinedPaths, TwoPaths
from retrieval_shared.torch_rows import int8_rows, mean_pool, pack_rows, read_packed, read_rows

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
    lora_a: nn.Parameter | None
    lora_b: nn.Parameter | None

    def __init__(self, n_in: int, n_out: int, *, slots: int, rank: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_in, n_out) / math.sqrt(n_in))
        self.bias = nn.Parameter(torch.zeros(n_out)) if bias else None
        self.lora_a = nn.Parameter(torch.zeros(slots, n_in, rank)) if slots else None
        self.lora_b = nn.Parameter(torch.zeros(slots, rank, n_out)) if slots else None

    def forward(self, x: Tensor, slot: Tensor) -> Tensor:
        """Return `[b, t, out]` for `x` `[b, t, in]` and `slot` int64 `[b]` in `[0, K)`; without slots the base."""
        base = x @ self.weight
        if self.bias is not None:
            base = base + self.bias
        if self.lora_a is None or self.lora_b is None:
            return base
        # index_select, not indexing: it exports as one Gather over a named initialiser.
        return base + (x @ self.lora_a.index_select(0, slot)) @ self.lora_b.index_select(0, slot)  # [b, t, out]


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


class SlotEncoder(nn.Module):
    """Token states of a BERT-family encoder: a trunk that reads each text once, and branches under LoRA slots.

    The lower blocks, the trunk, carry no LoRA and see each text once. The upper `branch_layers` blocks see each branch
    once: a text under one slot; a text may have any number of them.

    The table of subword rows is held as int8 with one scale per row: row i is `table[i] * table_scale[i]`. With `paths`
    each of its bytes holds a value of both rows of a subword, in 4 bits each (`pack_rows`).
    """

    table: Tensor
    table_scale: Tensor

    def __init__(
        self,
        shape: EncoderShape,
        *,
        slots: int,
        rank: int,
        branch_layers: int | None = None,
        paths: JoinedPaths | None = None,
    ) -> None:
        """Make the encoder with zero adapters; `branch_layers` None puts all blocks above the trunk.

        Raises:
            ValueError: `branch_layers` is outside [0, L].
        """
        super().__init__()
        self.shape = shape
        self.branch_layers = shape.layers if branch_layers is None else branch_layers
        if not 0 <= self.branch_layers <= shape.layers:
            raise ValueError(f"branch_layers: found {branch_layers}, allowed 0 to {shape.layers}")
        self.paths = paths
        kind = torch.int8 if paths is None else torch.uint8
        self.register_buffer("table", torch.zeros(shape.vocabulary, shape.dim, dtype=kind))
        self.register_buffer("table_scale", torch.ones(shape.vocabulary, 1 if paths is None else 2))
        self.position = nn.Parameter(torch.zeros(shape.positions, shape.dim))  # holds the token-type row as well
        self.norm = nn.LayerNorm(shape.dim, eps=shape.norm_eps)
        self.blocks = nn.ModuleList(
            Block(shape, slots=slots if i >= self._first_branch else 0, rank=rank) for i in range(shape.layers)
        )

    @property
    def _first_branch(self) -> int:
        """Return the number of the lowest block above the trunk."""
        return self.shape.layers - self.branch_layers

    def forward(self, input_ids: Tensor, attention_mask: Tensor, branch_row: Tensor, slot: Tensor) -> Tensor:
        """Return float32 states `[n, t, d]`, one row per branch.

        Args:
            input_ids: int64 `[b, t]`.
            attention_mask: int64 `[b, t]`, 1 = token.
            branch_row: int64 `[n]` in `[0, b)`, the text of each branch.
            slot: int64 `[n]` in `[0, K)`, the slot of each branch.
        """
        return self.branch(self.trunk(input_ids, attention_mask), attention_mask, branch_row, slot)

    def trunk(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the trunk's states `[b, t, d]`, one row per text."""
        t = input_ids.shape[1]
        words = self._rows(input_ids)[0]
        x: Tensor = self.norm(words + self.position[:t])
        padding = (attention_mask == 0)[:, None, None, :]  # [b, 1, 1, t]
        for block in self.blocks[: self._first_branch]:
            x = block(x, padding, x)  # without slots a block looks at none
        return x

    def branch(self, trunk: Tensor, attention_mask: Tensor, branch_row: Tensor, slot: Tensor) -> Tensor:
        """Return the states `[n, t, d]` of all branches from the trunk's `[b, t, d]`."""
        x = trunk.index_select(0, branch_row)
        padding = (attention_mask.index_select(0, branch_row) == 0)[:, None, None, :]  # [n, 1, 1, t]
        for block in self.blocks[self._first_branch :]:
            x = block(x, padding, slot)
        return x

    def vector(self, input_ids: Tensor, attention_mask: Tensor, branch_row: Tensor, states: Tensor) -> Tensor:
        """Return the L2-normalised sentence vectors `[n, d]` for the states `[n, t, d]` that `forward` gave."""
        transformer = mean_pool(states, attention_mask.index_select(0, branch_row))
        if self.paths is None:
            return transformer
        return self.paths.join(transformer, self.static(input_ids, attention_mask).index_select(0, branch_row))

    def static(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the static path's vectors `[b, d]`; zeros where there is no such path."""
        if self.paths is None:
            return torch.zeros(input_ids.shape[0], self.shape.dim)
        return self.paths.static(self._rows(input_ids)[1], input_ids, attention_mask)

    def lora_paths(self) -> dict[str, str]:
        """Return the path inside this module of each adapted linear layer -> its path inside the Hugging Face model."""
        return {
            f"blocks.{i}.linears.{ours}": f"encoder.layer.{i}.{theirs}"
            for i in range(self._first_branch, self.shape.layers)
            for ours, theirs in HUGGING_FACE_LINEARS.items()
        }

    def _rows(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        """Return the rows `[b, t, d]` of each path."""
        if self.paths is None:
            return (read_rows(self.table, self.table_scale, input_ids),)
        return read_packed(self.table, self.table_scale, input_ids)


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
    branch_layers: int | None = None,
    two_paths: TwoPaths | None = None,
) -> SlotEncoder:
    """Return the `SlotEncoder` equal to a Hugging Face `BertModel` with `adapters` in slots 1, 2, ...

    Args:
        model: a `BertModel` (or the base model inside a `PeftModel`, before its layers were wrapped).
        adapters: one mapping per slot from `layer.<i>.<linear>.{a,b}` to `[in, r]` and `[r, out]` (`peft_adapter`).
        rank: the rank r of every adapter.
        scale: PEFT's `lora_alpha / r`, folded into B.
        branch_layers: blocks above the trunk, the only ones with LoRA; None: all.
        two_paths: the rows and the second path of an encoder that has one.

    Raises:
        ValueError: an adapter has a matrix in the trunk.
    """
    shape = shape_of(model.config)
    encoder = SlotEncoder(
        shape, slots=1 + len(adapters), rank=rank, branch_layers=branch_layers,
        paths=two_paths.paths if two_paths else None,
    )  # fmt: skip
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
                        set_slot(linear, k, adapter, f"layer.{i}.{ours}", scale)
    return encoder.eval()


def set_slot(linear: SlotLinear, slot: int, adapter: Mapping[str, Tensor], name: str, scale: float) -> None:
    """Write an adapter's matrices of the linear layer `name` into a slot, in place.

    Raises:
        ValueError: the layer carries no LoRA.
    """
    if linear.lora_a is None or linear.lora_b is None:
        raise ValueError(f"branch_layers: the adapter has matrices for {name}, which lies in the trunk")
    linear.lora_a[slot] = adapter[f"{name}.a"]
    linear.lora_b[slot] = adapter[f"{name}.b"] * scale


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
