"""The encoder's two paths in one vector: a transformer, and the mean of the subwords' rows.

The transformer composes, the mean is a strong multilingual vector of its own. Both read one table: it makes most of the
encoder's size, and what one path learns helps the other.

Known limit: a projection of the static table gives back little of the rows the layers were trained on, so the
transformer starts, and long stays, far behind its teacher.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from retrieval_shared.torch_encoder import JoinedPaths, SharedTable, int8_rows, load_shared, mean_pool, save_shared
from training.tokenizer import SPECIAL, START

_RIDGE = 1e-2
"""Penalty of the map into the transformer's input space, as a share of the mean squared row."""


class Vectors(NamedTuple):
    """Unit vectors `[b, d]` of b texts."""

    joint: Tensor
    """Both paths; what is served."""
    transformer: Tensor
    """The transformer path alone."""
    static: Tensor
    """The static path alone."""

    def split(self, first: int) -> tuple[Vectors, Vectors]:
        """Return the vectors of the `first` texts and those of the others."""
        return Vectors(*(part[:first] for part in self)), Vectors(*(part[first:] for part in self))


class TwoPathEncoder(nn.Module):
    """A transformer and the mean of subword rows over one table (`JoinedPaths`)."""

    def __init__(self, bert: BertModel, rows: Tensor) -> None:
        """Take the layers of `bert`, whose own word table is not read, and the table's `rows` `[V, d]`."""
        super().__init__()
        self.bert = bert
        self.table = nn.Embedding(len(rows), rows.shape[1], _weight=rows)
        self.paths = JoinedPaths(rows.shape[1])
        bert.embeddings.word_embeddings.weight.requires_grad_(False)  # noqa: FBT003 - torch's own signature

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Vectors:
        """Return the vectors of int64 `input_ids` `[b, t]`, special tokens included; mask 1 = token."""
        return self.read(self.rows(input_ids), input_ids, attention_mask)

    def rows(self, input_ids: Tensor) -> Tensor:
        """Return the table's rows `[..., d]` of int64 `input_ids` `[...]`, as int8 holds them."""
        return as_served(self.table(input_ids))

    def read(self, rows: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Vectors:
        """Return the vectors of texts whose rows `[b, t, d]` are at hand."""
        transformer = mean_pool(self.states(rows, attention_mask), attention_mask)
        static = self.paths.static(rows, input_ids, attention_mask)
        return Vectors(joint=self.paths.join(transformer, static), transformer=transformer, static=static)

    def states(self, rows: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the transformer's token states `[b, t, d]` over rows `[b, t, d]`."""
        words = self.paths.input(rows)
        states: Tensor = self.bert(inputs_embeds=words, attention_mask=attention_mask).last_hidden_state
        return states

    @property
    def device(self) -> torch.device:
        """Return where the encoder lies."""
        return self.table.weight.device

    @property
    def shared(self) -> SharedTable:
        """The table and the second path, as serving takes them."""
        return SharedTable(self.table.weight.detach(), self.paths)


def as_served(rows: Tensor) -> Tensor:
    """Return rows `[..., d]` as their int8 form holds them; the gradient passes straight through.

    The straight-through estimator (Bengio, Léonard and Courville 2013, arXiv 1308.3432, section 4).
    """
    with torch.no_grad():
        values, scale = int8_rows(rows.reshape(-1, rows.shape[-1]))
        gap = (values.to(rows.dtype) * scale).reshape(rows.shape) - rows
    return rows + gap


def graft(bert: BertModel, known: Tokenizer, table: Tensor, tokenizer: Tokenizer) -> TwoPathEncoder:
    """Return a two-path encoder over `table` with the layers of `bert`, whose tokenizer is another one.

    The projection into the transformer's input space starts as the ridge regression from the table onto the old rows of
    the pieces that both vocabularies hold. The rows of special tokens are solved for: it gives about their old ones.

    Args:
        bert: the transformer whose layers are kept.
        known: its WordPiece tokenizer.
        table: float `[V, d]`, the static table.
        tokenizer: the new tokenizer with V ids.

    Raises:
        ValueError: table and tokenizer differ in V, or the table has another width than the transformer.
    """
    size, dim = table.shape
    expected = tokenizer.get_vocab_size(), bert.config.hidden_size
    if (size, dim) != expected:
        raise ValueError(f"table: found {size} rows of width {dim}, expected {expected[0]} of {expected[1]}")
    old = bert.embeddings.word_embeddings.weight.detach()
    new_ids, old_ids = shared_pieces(tokenizer, known)
    center = old[old_ids].mean(0)
    wanted = old[old_ids] - center
    into = _ridge(table[new_ids], wanted)  # [d, d]
    # A regression shrinks; the layers expect the spread they were trained on.
    into *= wanted.norm(dim=1).mean() / (table[new_ids] @ into).norm(dim=1).mean()
    rows = table.clone()
    special = torch.stack([old[known.token_to_id(name)] for name in SPECIAL]) - center
    # With a penalty: weak directions of the map would make rows so long that they outweigh all others in its gradient.
    rows[: len(SPECIAL)] = _ridge(into.T, special.T).T
    encoder = TwoPathEncoder(_without_words(bert), rows)
    with torch.no_grad():
        encoder.paths.input.weight.copy_(into)
        encoder.paths.input.bias.copy_(center)  # type: ignore[union-attr]
    return encoder.eval()


def _without_words(bert: BertModel) -> BertModel:
    """Return a copy with a word table of one row: what is never read need not be kept or trained."""
    small = BertModel(BertConfig.from_dict({**bert.config.to_dict(), "vocab_size": 1}), add_pooling_layer=False)
    kept = {name: value for name, value in bert.state_dict().items() if "word_embeddings" not in name}
    small.load_state_dict(kept, strict=False)
    return small


def _with_words(encoder: TwoPathEncoder) -> BertModel:
    """Return the transformer as a plain `BertModel` that holds its input rows."""
    rows = encoder.shared.input_rows()
    config = BertConfig.from_dict({**encoder.bert.config.to_dict(), "vocab_size": len(rows)})
    plain = BertModel(config, add_pooling_layer=False)
    plain.load_state_dict({**encoder.bert.state_dict(), "embeddings.word_embeddings.weight": rows})
    return plain.eval()


def shared_pieces(tokenizer: Tokenizer, known: Tokenizer) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the ids, in both vocabularies, of the pieces both hold: `▁word` is `word`, `ing` is `##ing`."""
    theirs = known.get_vocab()
    pairs = []
    for piece, number in tokenizer.get_vocab().items():
        other = theirs.get(piece[len(START) :] if piece.startswith(START) else f"##{piece}")
        if other is not None and number >= len(SPECIAL):
            pairs.append((number, other))
    found = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _ridge(x: Tensor, y: Tensor) -> Tensor:
    """Return the `[d, e]` map that takes x `[n, d]` nearest to y `[n, e]` in least squares with a penalty."""
    x, y = x.double(), y.double()
    gram = x.T @ x
    gram += _RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    solved: Tensor = torch.linalg.solve(gram, x.T @ y)
    return solved.float()


def fit_joint(encoder: TwoPathEncoder, transformer: Tensor, static: Tensor, *, share: float) -> None:
    """Set the joint projection to the principal components of `[share * transformer; static]` over sample vectors.

    Args:
        encoder: set in place.
        transformer: float `[n, d]`, vectors of the transformer path.
        static: float `[n, d]`, vectors of the static path for the same texts.
        share: weight of the transformer path, above 0.
    """
    both = torch.cat([share * transformer, static], dim=1)  # [n, 2d]
    _, vectors = torch.linalg.eigh(both.T @ both)  # ascending
    dim = transformer.shape[1]
    weight = vectors[:, -dim:].clone()  # [2d, d]
    weight[:dim] *= share
    with torch.no_grad():
        encoder.paths.joint.weight.copy_(weight)


def save_encoder(folder: Path, encoder: TwoPathEncoder, tokenizer: Tokenizer) -> None:
    """Write the transformer in Hugging Face layout, the shared table and second path in a file beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    encoder = encoder.cpu()
    _with_words(encoder).save_pretrained(str(folder))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}) + "\n", encoding="utf-8"
    )
    save_shared(folder, encoder.shared)


def load_encoder(folder: Path) -> TwoPathEncoder:
    """Return the encoder that `save_encoder` wrote, in evaluation mode.

    Raises:
        FileNotFoundError: the folder holds no second path.
    """
    shared = load_shared(folder)
    if shared is None:
        raise FileNotFoundError(f"{folder.name}: no shared table and second path beside the transformer")
    bert = BertModel.from_pretrained(str(folder), add_pooling_layer=False)
    encoder = TwoPathEncoder(_without_words(bert), shared.rows)
    encoder.paths.load_state_dict(shared.paths.state_dict())
    return encoder.eval()
