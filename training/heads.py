"""The violation heads in torch: one learned query per head attends over the token states, a small network judges.

It judges what the head found, beside the vector of the whole text: with two paths, the vector says what the states of
the transformer alone do not.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class AttentionHeads(nn.Module):
    """H heads, each with its own attention pooling and its own two-layer classifier.

    Pooling after Yang et al. 2016 (hierarchical attention networks, eq. 5-7) with a learned query per head and
    without the extra projection: the states come from a trained encoder. All heads run in one batched product.
    """

    def __init__(self, heads: int, dim: int, *, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(heads, dim) * 0.02)
        self.inner = nn.Parameter(torch.randn(heads, 2 * dim, hidden) / math.sqrt(2 * dim))
        self.inner_bias = nn.Parameter(torch.zeros(heads, hidden))
        self.outer = nn.Parameter(torch.randn(heads, hidden) / math.sqrt(hidden))
        self.bias = nn.Parameter(torch.full((heads,), -2.0))  # about 12% positive before training
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, attention_mask: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits `[b, H]` and attention `[b, H, t]` (sums to 1 over real tokens, 0 on padding).

        Args:
            states: float `[b, t, d]`.
            attention_mask: int64 `[b, t]`, 1 = token; every row holds at least one token.
            vector: float `[b, d]`, unit vectors of the texts.
        """
        scores = torch.einsum("hd,btd->bht", self.query, states) / math.sqrt(states.shape[2])
        padding = (attention_mask == 0)[:, None, :]  # [b, 1, t]
        attention = scores.masked_fill(padding, torch.finfo(scores.dtype).min).softmax(-1)  # [b, H, t]
        pooled = attention @ states  # [b, H, d]
        whole = math.sqrt(vector.shape[1]) * vector  # values of the size of a state's
        both = torch.cat([pooled, whole[:, None, :].expand_as(pooled)], dim=-1)  # [b, H, 2d]
        # The batched product wants the head first.
        inner = self.dropout(both).transpose(0, 1) @ self.inner + self.inner_bias[:, None, :]  # [H, b, hidden]
        hidden = self.dropout(nn.functional.gelu(inner))
        logits = (hidden * self.outer[:, None, :]).sum(-1).T + self.bias  # [b, H]
        return logits, attention
