"""The violation heads in torch: H heads over one shared attention-pooling block, trained together, saved one by one.

All heads run folded (`retrieval_shared.head.fold`), in training and in the graph; `ViolationHead` is the same head in
PEFT's form, unfolded, which every head is saved as and checked against.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from retrieval_shared.head import FOLDED, JUDGE, PROJECTIONS, HeadParameters, fold


class PoolingBlock(nn.Module):
    """Multi-head attention with queries from elsewhere: the linear layers of an encoder's attention layer."""

    def __init__(self, dim: int, attention_heads: int) -> None:
        super().__init__()
        self.attention_heads = attention_heads
        for name in PROJECTIONS:
            self.add_module(name, nn.Linear(dim, dim))

    @property
    def dim(self) -> int:
        """Return the width d."""
        return int(cast("nn.Linear", self.query).in_features)

    def parts(self) -> dict[str, Tensor]:
        """Return `<projection>.weight` and `<projection>.bias`."""
        return dict(self.named_parameters())


class Judge(nn.Module):
    """What H heads, or one, have of their own beside LoRA: where they look, and how they judge what they found."""

    def __init__(self, dim: int, *, hidden: int, heads: int | None = None) -> None:
        """Make random judges; `heads` None makes one without a head axis."""
        super().__init__()
        h = () if heads is None else (heads,)
        self.look = nn.Parameter(torch.randn(*h, dim) * 0.5)
        self.inner = nn.Parameter(torch.randn(*h, 2 * dim, hidden) / math.sqrt(2 * dim))
        self.inner_bias = nn.Parameter(torch.zeros(*h, hidden))
        self.outer = nn.Parameter(torch.randn(*h, hidden) / math.sqrt(hidden))
        self.bias = nn.Parameter(torch.full(h, -2.0))  # about 12% positive before training

    def forward(self, found: Tensor, vector: Tensor) -> Tensor:
        """Return the logits `[b]` of one judge for what it found `[b, d]` in texts with unit vectors `[b, d]`."""
        both = torch.cat([found, math.sqrt(vector.shape[1]) * vector], dim=-1)
        hidden = nn.functional.gelu(both @ self.inner + self.inner_bias)
        return (hidden * self.outer).sum(-1) + self.bias


class PooledHeads(nn.Module):
    """H heads over one block; each with a judge, and a LoRA on the block where `rank` is above 0."""

    dropout: Tensor
    """`[H]`, the share of values that each head drops in training."""

    def __init__(self, block: PoolingBlock, heads: int, *, hidden: int, rank: int = 0, alpha: float = 0.0) -> None:
        super().__init__()
        self.block = block
        self.rank, self.alpha = rank, alpha
        self.judge = Judge(block.dim, hidden=hidden, heads=heads)
        self.lora = nn.ParameterDict()
        for name in PROJECTIONS if rank else ():
            a = torch.empty(heads, rank, block.dim)
            nn.init.kaiming_uniform_(a, a=math.sqrt(5))  # as PEFT begins, B at zero
            self.lora[f"{name}_a"] = nn.Parameter(a)
            self.lora[f"{name}_b"] = nn.Parameter(torch.zeros(heads, block.dim, rank))
        self.register_buffer("dropout", torch.zeros(heads), persistent=False)

    @property
    def heads(self) -> int:
        """Return the number H of heads."""
        return int(self.judge.bias.shape[0])

    def parameters_of_heads(self) -> HeadParameters:
        """Return block, LoRA and judges as `fold` takes them."""
        scale = self.alpha / self.rank if self.rank else 0.0
        lora = {name.replace("_", "."): scale * b if name.endswith("b") else b for name, b in self.lora.items()}
        judge = {name: getattr(self.judge, name) for name in JUDGE}
        return HeadParameters(self.block.attention_heads, self.block.parts(), lora, judge)

    def forward(self, states: Tensor, attention_mask: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits `[n, H]` and attention `[n, H, t]`; the arguments are those of `judge_folded`."""
        dropout = self.dropout if self.training else None
        return judge_folded(fold(self.parameters_of_heads()), states, attention_mask, vector, dropout=dropout)


class FoldedHeads(nn.Module):
    """Heads as the graph holds them: every parameter becomes a resident input of the same name."""

    def __init__(self, heads: PooledHeads) -> None:
        super().__init__()
        with torch.no_grad():
            folded = fold(heads.parameters_of_heads())
        for name in FOLDED:
            self.register_parameter(name, nn.Parameter(folded[name].clone(), requires_grad=False))

    def forward(self, states: Tensor, attention_mask: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits `[n, H]` and attention `[n, H, t]`; the arguments are those of `judge_folded`."""
        return judge_folded(dict(self.named_parameters()), states, attention_mask, vector)


def judge_folded(
    folded: Mapping[str, Tensor],
    states: Tensor,
    attention_mask: Tensor,
    vector: Tensor,
    *,
    dropout: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return logits `[n, H]` and attention `[n, H, t]` (the mean over attention heads; sums to 1, 0 on padding).

    Args:
        folded: what `fold` gave.
        states: float `[n, t, d]`.
        attention_mask: int64 `[n, t]`, 1 = token; every row holds at least one token.
        vector: float `[n, d]`, unit vectors of the texts.
        dropout: `[H]`, each head's share of values dropped before both layers; None drops none.
    """
    n, t, d = states.shape
    attention_heads = folded["found"].shape[1] // d
    scores = folded["look"] @ states.transpose(1, 2)  # [n, H*A, t]
    padding = (attention_mask == 0)[:, None, :]  # [n, 1, t]
    attention = scores.masked_fill(padding, torch.finfo(scores.dtype).min).softmax(-1)
    pooled = (attention @ states).reshape(n, -1, attention_heads * d).transpose(0, 1)  # [H, n, A*d]
    found, whole = folded["found"], folded["whole"]
    if dropout is not None:
        # A head's inputs, the same for all rows of a batch: a mask of every row's would cost as much as the product.
        found, whole = (x * _kept(x[:, :, :1], dropout) for x in (found, whole))
    inner = pooled @ found + vector[None] @ whole + folded["inner_bias"]  # [H, n, hidden]
    hidden = nn.functional.gelu(inner)
    if dropout is not None:
        hidden = hidden * _kept(hidden, dropout)
    logits = (hidden * folded["outer"]).sum(-1).transpose(0, 1) + folded["bias"]  # [n, H]
    return logits, attention.reshape(n, -1, attention_heads, t).mean(2)


def _kept(like: Tensor, share: Tensor) -> Tensor:
    """Return factors of the shape of `like` `[H, ., .]`: 0 for each head's share of them, and the others scaled up."""
    kept = 1 - share[:, None, None]
    return (torch.rand_like(like) < kept) / kept


class ViolationHead(nn.Module):
    """One head, unfolded, with the names PEFT saves it under: the block's four linear layers and the judge."""

    def __init__(self, block: PoolingBlock, *, hidden: int) -> None:
        super().__init__()
        self.attention_heads = block.attention_heads
        for name in PROJECTIONS:
            own = nn.Linear(block.dim, block.dim)
            own.load_state_dict(cast("nn.Linear", getattr(block, name)).state_dict())
            self.add_module(name, own)
        self.judge = Judge(block.dim, hidden=hidden)

    def forward(self, states: Tensor, attention_mask: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits `[b]` and attention `[b, t]`, as plain multi-head attention with one query."""
        b, t, d = states.shape
        split = (self.attention_heads, d // self.attention_heads)
        module = cast("Any", self)
        query = module.query(module.judge.look).view(*split)  # [A, d/A]
        key, value = (project(states).view(b, t, *split) for project in (module.key, module.value))
        scores = torch.einsum("ak,btak->bat", query, key) / math.sqrt(split[1])
        weights = scores.masked_fill((attention_mask == 0)[:, None], torch.finfo(scores.dtype).min).softmax(-1)
        found = module.out(torch.einsum("bat,btak->bak", weights, value).reshape(b, d))
        logits: Tensor = module.judge(found, vector)
        return logits, weights.mean(1)
