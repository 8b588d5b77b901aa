"""The encoder's two paths in one vector: a transformer over input rows, and the mean of the same rows.

The transformer composes, the mean is a strong multilingual vector of its own; both read one table of subwords.

Known flaw: the map between the two spaces is ill-conditioned, so an ordinary step of the input rows destroys what the
static path reads off them, and `distil` loses that path within a hundred steps. Nothing of it is served yet.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from retrieval_shared.torch_encoder import JoinedPaths, int8_rows, mean_pool
from training.base_model import PATHS
from training.tokenizer import SPECIAL, START

_RIDGE_IN, _RIDGE_BACK = 1e-2, 1e-6
"""Penalties of the maps into the transformer's input space and back, as shares of the mean squared row."""


@dataclass(frozen=True)
class Vectors:
    """Unit vectors `[b, d]` of b texts."""

    joint: Tensor
    """Both paths; what is served."""
    transformer: Tensor
    """The transformer path alone."""
    static: Tensor
    """The static path alone."""


class TwoPathEncoder(nn.Module):
    """A `BertModel` with the static path beside it (`JoinedPaths`)."""

    def __init__(self, bert: BertModel) -> None:
        super().__init__()
        self.bert = bert
        self.paths = JoinedPaths(bert.config.hidden_size)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Vectors:
        """Return the vectors of int64 `input_ids` `[b, t]`, special tokens included; mask 1 = token."""
        words = as_served(self.bert.embeddings.word_embeddings(input_ids))  # [b, t, d]
        states = self.bert(inputs_embeds=words, attention_mask=attention_mask).last_hidden_state
        transformer = mean_pool(states, attention_mask)
        static = self.paths.static_vectors(words, input_ids, attention_mask)
        return Vectors(joint=self.paths.join(transformer, static), transformer=transformer, static=static)


def as_served(rows: Tensor) -> Tensor:
    """Return rows `[..., d]` as their int8 form holds them; the gradient passes straight through.

    The straight-through estimator (Bengio, Léonard and Courville 2013, arXiv 1308.3432, section 4).
    """
    with torch.no_grad():
        values, scale = int8_rows(rows.reshape(-1, rows.shape[-1]))
        gap = (values.to(rows.dtype) * scale).reshape(rows.shape) - rows
    return rows + gap


def graft(bert: BertModel, known: Tokenizer, table: Tensor, tokenizer: Tokenizer) -> TwoPathEncoder:
    """Return a two-path encoder with the layers of `bert` and a word table for another tokenizer.

    The new input rows are a linear map of the static table, by ridge regression onto the old rows of the pieces both
    vocabularies hold; so the static path can be read off them again, and starts as that map's inverse.

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
    mapped = table @ _ridge(table[new_ids], wanted, penalty=_RIDGE_IN)  # [V, d]
    # A regression shrinks; the layers expect the spread they were trained on.
    rows = mapped * (wanted.norm(dim=1).mean() / mapped[new_ids].norm(dim=1).mean()) + center
    for i, name in enumerate(SPECIAL):
        rows[i] = old[known.token_to_id(name)]
    config = BertConfig.from_dict({**bert.config.to_dict(), "vocab_size": size})
    grown = BertModel(config, add_pooling_layer=False)
    state = {name: value for name, value in bert.state_dict().items() if "word_embeddings" not in name}
    grown.load_state_dict({**state, "embeddings.word_embeddings.weight": rows})
    encoder = TwoPathEncoder(grown.eval())
    with torch.no_grad():
        back = _ridge(rows - center, table, penalty=_RIDGE_BACK)
        encoder.paths.static.weight.copy_(back.T)
        encoder.paths.static.bias.copy_(-center @ back)
    return encoder


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


def _ridge(x: Tensor, y: Tensor, *, penalty: float) -> Tensor:
    """Return the `[d, e]` map that takes x `[n, d]` nearest to y `[n, e]` in least squares with a penalty."""
    x, y = x.double(), y.double()
    gram = x.T @ x
    gram += penalty * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
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
    weight = vectors[:, -dim:].T.clone()  # [d, 2d]
    weight[:, :dim] *= share
    with torch.no_grad():
        encoder.paths.joint.weight.copy_(weight)


def save_encoder(folder: Path, encoder: TwoPathEncoder, tokenizer: Tokenizer) -> None:
    """Write the encoder in Hugging Face layout, the second path in a file beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    encoder.bert.save_pretrained(str(folder))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}) + "\n", encoding="utf-8"
    )
    save_file({name: value.contiguous() for name, value in encoder.paths.state_dict().items()}, str(folder / PATHS))


def load_encoder(folder: Path) -> TwoPathEncoder:
    """Return the encoder that `save_encoder` wrote, in evaluation mode."""
    encoder = TwoPathEncoder(BertModel.from_pretrained(str(folder), add_pooling_layer=False))
    encoder.paths.load_state_dict(load_file(str(folder / PATHS)))
    return encoder.eval()
