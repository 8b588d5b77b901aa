"""The families of Hugging Face encoders that can be adapted and exported, and the slot encoder of any of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from retrieval_shared.torch_deberta import DisentangledAttention, distance_buckets
from retrieval_shared.torch_encoder import (
    HUGGING_FACE_LINEARS,
    EncoderShape,
    SlotEncoder,
    SlotLinear,
    from_hugging_face,
    peft_adapter,
    set_slot,
)
from retrieval_shared.torch_paths import TwoPaths
from retrieval_shared.torch_rows import int8_rows, mean_pool, read_rows

BERT, DEBERTA = "bert", "deberta-v2"


@dataclass(frozen=True)
class Family:
    """Where the encoders of one architecture keep what is adapted and what is held as int8."""

    linears: Mapping[str, str]
    """Our name of an adapted linear layer -> its path inside a block, in the order the data flows."""
    layers: str = "encoder.layer"
    """Path of the list of blocks."""
    words: str = "embeddings.word_embeddings"
    """Path of the word table."""
    pooler: bool = True
    """Whether the class would add a pooling layer, which nothing here reads."""
    positions_after_padding: bool = False
    """Whether positions are counted from the padding id + 1, so that as many fewer tokens fit."""

    def paths(self, layers: int) -> dict[str, str]:
        """Return `layer.<i>.<linear>` -> path inside the model, for all adapted linear layers of `layers` blocks."""
        return {
            f"layer.{i}.{ours}": f"{self.layers}.{i}.{theirs}"
            for i in range(layers)
            for ours, theirs in self.linears.items()
        }


_ROBERTA = Family(HUGGING_FACE_LINEARS, positions_after_padding=True)

FAMILIES: Mapping[str, Family] = {
    BERT: Family(HUGGING_FACE_LINEARS),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    DEBERTA: Family(
        HUGGING_FACE_LINEARS | {name: f"attention.self.{name}_proj" for name in ("query", "key", "value")},
        pooler=False,
    ),
    # Query, key and value are one matrix; the upper one of the feed-forward layer holds its gate as well.
    "modernbert": Family(
        {"qkv": "attn.Wqkv", "out": "attn.Wo", "up": "mlp.Wi", "down": "mlp.Wo"},
        layers="layers",
        words="embeddings.tok_embeddings",
        pooler=False,
    ),
}
"""`model_type` of a checkpoint's configuration -> its family."""


def family_of(config: Any) -> Family:  # noqa: ANN401 - a transformers configuration
    """Return the family of the encoder that a Hugging Face configuration describes.

    Raises:
        ValueError: it is of none; the message names the type found and those allowed.
    """
    found = str(getattr(config, "model_type", None))
    if found not in FAMILIES:
        raise ValueError(f"model_type: found {found!r}, allowed {', '.join(sorted(FAMILIES))}")
    return FAMILIES[found]


def longest_text(config: Any) -> int:  # noqa: ANN401 - a transformers configuration
    """Return how many tokens, special tokens included, the encoder that a configuration describes can read at once."""
    skipped = config.pad_token_id + 1 if family_of(config).positions_after_padding else 0
    return int(config.max_position_embeddings) - skipped


def adapted_linears(model: nn.Module) -> dict[str, nn.Linear]:
    """Return `layer.<i>.<linear>` -> the linear layers of a Hugging Face encoder that carry LoRA."""
    config = cast("Any", model.config)
    paths = family_of(config).paths(config.num_hidden_layers)
    return {name: cast("nn.Linear", model.get_submodule(path)) for name, path in paths.items()}


def word_table(model: nn.Module) -> nn.Parameter:
    """Return the word table `[V, d]` of a Hugging Face encoder."""
    return model.get_parameter(f"{family_of(model.config).words}.weight")


class CurrentSlot:
    """The slots `[b]` of the batch that is being read: a Hugging Face block hands its linear layers the states alone.

    No module and no tensor, so that setting it is not taken for a change of the model while the graph is traced.
    """

    rows: Tensor | None = None


class SlottedLinear(nn.Module):
    """A linear layer of a Hugging Face encoder, under the LoRA of each row's current slot."""

    def __init__(self, linear: nn.Linear, current: CurrentSlot, *, slots: int, rank: int) -> None:
        super().__init__()
        self.current = current
        # Export tells the matrices of the base by this name.
        self.slotted = SlotLinear(
            linear.in_features, linear.out_features, slots=slots, rank=rank, bias=linear.bias is not None
        )
        with torch.no_grad():
            self.slotted.weight.copy_(linear.weight.T)
            if self.slotted.bias is not None:
                self.slotted.bias.copy_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return `[b, t, out]` for `x` `[b, t, in]`, or for `[1, t, in]` that all rows share."""
        if self.current.rows is None:
            raise RuntimeError("a slotted linear layer runs inside its FamilyEncoder alone")
        found: Tensor = self.slotted(x, self.current.rows)
        return found


class Int8Embedding(nn.Module):
    """A word table held as int8 with one scale per row: row i is `table[i] * table_scale[i]`."""

    table: Tensor
    table_scale: Tensor

    def __init__(self, words: Tensor) -> None:
        super().__init__()
        table, scale = int8_rows(words.detach())
        self.register_buffer("table", table)
        self.register_buffer("table_scale", scale)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return float32 rows `[b, t, d]` for int64 `input_ids` `[b, t]`."""
        return read_rows(self.table, self.table_scale, input_ids)


class FamilyEncoder(nn.Module):
    """Token states of any encoder of `FAMILIES`, each row under its own LoRA slot; the vector is their mean.

    It is transformers' own model with its adapted linear layers and its word table replaced, for inference and export.
    """

    shape: EncoderShape | None = None
    """Only a `SlotEncoder` is described by an `EncoderShape`."""

    def __init__(
        self,
        model: nn.Module,
        adapters: Sequence[Mapping[str, Tensor]] = (),
        *,
        rank: int = 1,
        scale: float = 1.0,
        branch_layers: int | None = None,
    ) -> None:
        """Copy `model`; the arguments and what is raised are those of `slot_encoder`."""
        super().__init__()
        self.current = CurrentSlot()
        config = cast("Any", model.config)
        lowest = 0 if branch_layers is None else config.num_hidden_layers - branch_layers
        if not 0 <= lowest <= config.num_hidden_layers:
            raise ValueError(f"branch_layers: found {branch_layers}, allowed 0 to {config.num_hidden_layers}")
        paths = family_of(config).paths(config.num_hidden_layers)
        self._slotted = {name: path for name, path in paths.items() if int(name.split(".")[1]) >= lowest}
        words = model.get_submodule(family_of(config).words)
        replaced: dict[int, nn.Module] = {id(words): Int8Embedding(word_table(model))}
        for name, linear in adapted_linears(model).items():
            slots = 1 + len(adapters) if name in self._slotted else 0
            slotted = SlottedLinear(linear, self.current, slots=slots, rank=rank)
            replaced[id(linear)] = slotted
            with torch.no_grad():
                for k, adapter in enumerate(adapters, start=1):
                    if f"{name}.a" in adapter:  # an adapter over fewer linears leaves the others at the base
                        set_slot(slotted.slotted, k, adapter, name, scale)
        # What stands in the memo is taken for the copy, so that nothing that is replaced is copied before.
        self.model = cast("Any", copy.deepcopy(model, cast("dict[int, Any]", replaced)))
        # Attention as two products and a softmax, which every runtime has; training keeps the fused one.
        self.model.set_attn_implementation("eager")
        _mend_relative_attention(self.model)
        self.eval()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, branch_row: Tensor, slot: Tensor) -> Tensor:
        """Return float32 states `[n, t, d]`, one row per branch; the arguments are those of a `SlotEncoder`.

        Every branch reads its text from the start: transformers' models are not cut in two.
        """
        ids, mask = (x.index_select(0, branch_row) for x in (input_ids, attention_mask))
        self.current.rows = slot
        try:
            states: Tensor = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        finally:
            self.current.rows = None
        return states

    def vector(self, input_ids: Tensor, attention_mask: Tensor, branch_row: Tensor, states: Tensor) -> Tensor:  # noqa: ARG002
        """Return the L2-normalised sentence vectors `[n, d]`: the mean of the states that `forward` gave."""
        return mean_pool(states, attention_mask.index_select(0, branch_row))

    def lora_paths(self) -> dict[str, str]:
        """Return the path inside this module of each adapted linear layer -> its path inside the Hugging Face model."""
        return {f"model.{path}.slotted": path for path in self._slotted.values()}


def _mend_relative_attention(model: Any) -> None:  # noqa: ANN401 - a transformers model
    """Replace DeBERTa's attention: transformers projects its relative positions once for all rows of a batch."""
    if model.config.model_type != DEBERTA or not model.config.relative_attention:
        return
    buckets = distance_buckets(model.encoder, model.config.max_position_embeddings)
    for layer in model.encoder.layer:
        layer.attention.self = DisentangledAttention(layer.attention.self, buckets)


AnySlotEncoder = SlotEncoder | FamilyEncoder
"""What training exports: `forward(ids, mask, branch_row, slot)` gives states, `vector` their sentence vectors."""


def slot_encoder(
    model: nn.Module,
    adapters: Sequence[Mapping[str, Tensor]] = (),
    *,
    rank: int = 1,
    scale: float = 1.0,
    branch_layers: int | None = None,
    two_paths: TwoPaths | None = None,
) -> AnySlotEncoder:
    """Return the slot encoder equal to a Hugging Face encoder with `adapters` in slots 1, 2, ...

    Args:
        model: an encoder of one of `FAMILIES`, without PEFT layers; it is not changed.
        adapters: one mapping per slot from `layer.<i>.<linear>.{a,b}` to `[in, r]` and `[r, out]` (`family_adapter`).
        rank: the rank r of every adapter.
        scale: PEFT's `lora_alpha / r`, folded into B.
        branch_layers: blocks that carry LoRA, the upper ones; None: all. Those of a BERT stand above its trunk, other
            families read every branch from the start.
        two_paths: the rows and the second path of an encoder that has one; a BERT only.

    Raises:
        ValueError: the model is of no family, or of one without a second path though `two_paths` is given;
            `branch_layers` is outside [0, L], or an adapter has a matrix in a layer below those.
    """
    config = cast("Any", model.config)
    # The one activation that a `SlotEncoder` knows; a BERT with another one keeps transformers' own blocks.
    if family_of(config) is FAMILIES[BERT] and config.hidden_act == "gelu":
        return from_hugging_face(
            model, adapters, rank=rank, scale=scale, branch_layers=branch_layers, two_paths=two_paths
        )
    if two_paths is not None:
        found = config.model_type
        raise ValueError(f"two_paths: found them beside a model of type {found!r}, allowed beside {BERT}, gelu")
    return FamilyEncoder(model, adapters, rank=rank, scale=scale, branch_layers=branch_layers)


def family_adapter(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return `layer.<i>.<linear>.{a,b}` -> `[in, r]`, `[r, out]` from the state dict of a PEFT LoRA over `model`."""
    return peft_adapter(state, family_of(model.config).linears)
