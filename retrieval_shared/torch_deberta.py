"""DeBERTa's attention as the slots need it: relative positions that are projected under each row's own LoRA."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


class DisentangledAttention(nn.Module):
    """Attention to content and to relative position (DeBERTa, He et al. 2021, arXiv 2006.03654, equation 4).

    `score_ij = (q_i k_j + q_i kr[d(i, j)] + k_j qr[d(j, i)]) / sqrt(d n)`, n the number of terms, d(i, j) the bucket
    of the distance i - j. It takes the place of transformers' attention and keeps the names of its layers. Two things
    differ: transformers projects the table of relative positions once and repeats it for all rows, which holds for
    one adapter alone, and computes the buckets from logarithms in every run, whose last bit differs between torch and
    a runtime; here they are a table. Without dropout: for inference.
    """

    buckets: Tensor

    def __init__(self, found: Any, buckets: Tensor) -> None:  # noqa: ANN401 - transformers' attention
        """Take over the layers of `found`; `buckets` is what `distance_buckets` gave."""
        super().__init__()
        self.heads, self.span = int(found.num_attention_heads), int(found.pos_ebd_size)
        self.terms = tuple(term for term in ("c2p", "p2c") if term in found.pos_att_type)
        self.shared = bool(found.share_att_key)
        for name in ("query_proj", "key_proj", "value_proj", "pos_key_proj", "pos_query_proj"):
            if hasattr(found, name):
                self.add_module(name, getattr(found, name))
        self.register_buffer("buckets", buckets, persistent=False)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        output_attentions: bool = False,  # noqa: ARG002 - the block passes it
        query_states: Tensor | None = None,  # noqa: ARG002 - for a decoder over the encoder
        relative_pos: Tensor | None = None,  # noqa: ARG002 - `buckets` says the same
        rel_embeddings: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        """Return the mixed values `[b, t, d]`, and nothing for the attention.

        Args:
            hidden_states: float `[b, t, d]`.
            attention_mask: `[b, 1, t, t]`, 0 where a token is not seen.
            output_attentions: not looked at.
            query_states: not looked at.
            relative_pos: not looked at.
            rel_embeddings: float `[p, d]`, the table of relative positions.
        """
        b, t, _ = hidden_states.shape
        query, key, value = (self._split(name, hidden_states) for name in ("query_proj", "key_proj", "value_proj"))
        scores = query @ key.transpose(2, 3)  # [b, a, t, t]
        if rel_embeddings is not None:
            scores = scores + self._by_position(query, key, rel_embeddings[None, : 2 * self.span])
        scores = scores / math.sqrt(query.shape[3] * (1 + len(self.terms)))
        scores = scores.masked_fill(attention_mask == 0, torch.finfo(scores.dtype).min)
        return (scores.softmax(-1) @ value).transpose(1, 2).reshape(b, t, -1), None

    def _by_position(self, query: Tensor, key: Tensor, table: Tensor) -> Tensor:
        """Return the terms `[b, a, t, t]` of relative position, for queries and keys `[b, a, t, d/a]`."""
        b, a, t, _ = query.shape
        place = torch.arange(t, device=query.device)
        distance = place[:, None] - place[None, :] + (len(self.buckets) - 1) // 2  # [t, t], from 0
        bucket = self.buckets.index_select(0, distance.reshape(-1)).view(t, t)
        found = torch.zeros((), dtype=query.dtype, device=query.device)
        if "c2p" in self.terms:
            keys = self._split("key_proj" if self.shared else "pos_key_proj", table)  # [b or 1, a, p, d/a]
            at = (self.span + bucket).clamp(0, 2 * self.span - 1).expand(b, a, t, t)
            found = found + (query @ keys.transpose(2, 3)).gather(3, at)
        if "p2c" in self.terms:
            queries = self._split("query_proj" if self.shared else "pos_query_proj", table)
            at = (self.span - bucket).clamp(0, 2 * self.span - 1).expand(b, a, t, t)
            found = found + (key @ queries.transpose(2, 3)).gather(3, at).transpose(2, 3)
        return found

    def _split(self, name: str, x: Tensor) -> Tensor:
        projected: Tensor = self.get_submodule(name)(x)
        b, t, d = projected.shape
        return projected.view(b, t, self.heads, d // self.heads).transpose(1, 2)  # [b, a, t, d/a]


def distance_buckets(encoder: Any, positions: int) -> Tensor:  # noqa: ANN401 - transformers' stack of blocks
    """Return the bucket of every distance of two tokens, int64 `[2 * positions - 1]`; the middle is distance 0.

    Args:
        encoder: transformers' `DebertaV2Encoder`, whose formula it is.
        positions: longest token sequence.
    """
    pairs = encoder.get_rel_pos(torch.zeros(1, positions, 1))[0]  # [positions, positions]
    return torch.cat([pairs[0, 1:].flip(0), pairs[:, 0]])
