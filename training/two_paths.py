"""The encoder's two paths in one vector: a transformer, and the mean of the subwords' rows.

The transformer composes, the mean is a strong multilingual vector of its own. Each has a row of its own for every
subword; the two share their bytes, 4 bits each, so that the table is as large as one table of int8.
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

from retrieval_shared.torch_paths import JoinedPaths, TwoPaths, load_two_paths, save_two_paths
from retrieval_shared.torch_rows import ROW_LEVELS, mean_pool, rounded_rows
from training.tokenizer import SPECIAL, START

_NEIGHBOURS, _TEMPERATURE = 8, 0.05
"""Known pieces that a new piece's first row is mixed from, and how sharply their similarity counts."""


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
    """A transformer and the mean of subword rows (`JoinedPaths`)."""

    def __init__(self, bert: BertModel, rows: Tensor) -> None:
        """Take the layers of `bert`, whose own word table is not read, and both paths' rows `[V, 2, d]`."""
        super().__init__()
        self.bert = bert
        self.table = nn.Embedding(len(rows), rows[0].numel(), _weight=rows.flatten(1))
        # Fitted, never trained: gradients of the pair loss bend it to the batch, and bitext accuracy falls.
        self.paths = JoinedPaths(rows.shape[-1]).requires_grad_(requires_grad=False)
        bert.embeddings.word_embeddings.weight.requires_grad_(False)  # noqa: FBT003 - torch's own signature

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Vectors:
        """Return the vectors of int64 `input_ids` `[b, t]`, special tokens included; mask 1 = token."""
        return self.read(self.rows(input_ids), input_ids, attention_mask)

    def rows(self, input_ids: Tensor) -> Tensor:
        """Return both paths' rows `[..., 2, d]` of int64 `input_ids` `[...]`, as 4 bits hold them."""
        return as_served(self.table(input_ids).unflatten(-1, (2, -1)))

    def read(self, rows: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Vectors:
        """Return the vectors of texts whose rows `[b, t, 2, d]` are at hand."""
        transformer = mean_pool(self.states(rows, attention_mask), attention_mask)
        static = self.paths.static(rows[..., 1, :], input_ids, attention_mask)
        return Vectors(joint=self.paths.join(transformer, static), transformer=transformer, static=static)

    def states(self, rows: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the transformer's token states `[b, t, d]` over rows `[b, t, 2, d]`."""
        states: Tensor = self.bert(inputs_embeds=rows[..., 0, :], attention_mask=attention_mask).last_hidden_state
        return states

    @property
    def device(self) -> torch.device:
        """Return where the encoder lies."""
        return self.table.weight.device

    @property
    def two_paths(self) -> TwoPaths:
        """The rows and the second path, as serving takes them."""
        return TwoPaths(self.table.weight.detach().unflatten(-1, (2, -1)), self.paths)  # type: ignore[no-untyped-call]


def as_served(rows: Tensor) -> Tensor:
    """Return rows `[..., d]` as 4 bits hold them; the gradient passes straight through.

    The straight-through estimator (Bengio, Léonard and Courville 2013, arXiv 1308.3432, section 4).
    """
    with torch.no_grad():
        gap = rounded_rows(rows, levels=ROW_LEVELS) - rows
    return rows + gap


def graft(bert: BertModel, known: Tokenizer, table: Tensor, tokenizer: Tokenizer) -> TwoPathEncoder:
    """Return a two-path encoder with the static path over `table` and the layers of `bert`, whose tokenizer is another.

    The transformer's rows: of pieces that both vocabularies hold, and of special tokens, its old ones; of any other
    piece a mixture of the nearest of those pieces in the static space, at their spread.

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
    rows = _mixed(table, torch.from_numpy(new_ids), old[old_ids])
    for i, name in enumerate(SPECIAL):
        rows[i] = old[known.token_to_id(name)]
    # A mean's direction has no length: at one spread, one learning rate suits both rows.
    table = table * (rows.std() / table.std())
    return TwoPathEncoder(_without_words(bert), torch.stack([rows, table], dim=1)).eval()


def _mixed(table: Tensor, ids: Tensor, rows: Tensor) -> Tensor:
    """Return a row for each of V pieces: `rows` `[n, d]` for the pieces `ids` `[n]`, near ones mixed for the others.

    The weights are `softmax(cosine / temperature)` over the nearest of the n pieces in `table` `[V, d]`. A mixture is
    shorter than what it mixes; about the mean row, the new rows get the old ones' mean length.
    """
    unit = nn.functional.normalize(table, dim=1)
    mixed: Tensor = torch.empty_like(table)
    for part in torch.arange(len(table)).split(4_096):  # type: ignore[no-untyped-call]
        cosine, nearest = (unit[part] @ unit[ids].T).topk(min(_NEIGHBOURS, len(ids)), dim=1)
        weights = (cosine / _TEMPERATURE).softmax(dim=1)  # [p, k]
        mixed[part] = torch.einsum("pk,pkd->pd", weights, rows[nearest])
    center = rows.mean(0)
    spread = mixed - center
    mixed = center + spread * ((rows - center).norm(dim=1).mean() / spread.norm(dim=1, keepdim=True).clamp(min=1e-9))
    mixed[ids] = rows
    return mixed


def _without_words(bert: BertModel) -> BertModel:
    """Return a copy with a word table of one row: what is never read need not be kept or trained."""
    small = BertModel(BertConfig.from_dict({**bert.config.to_dict(), "vocab_size": 1}), add_pooling_layer=False)
    kept = {name: value for name, value in bert.state_dict().items() if "word_embeddings" not in name}
    small.load_state_dict(kept, strict=False)
    return small


def _with_words(encoder: TwoPathEncoder) -> BertModel:
    """Return the transformer as a plain `BertModel` that holds its input rows."""
    rows = encoder.two_paths.input_rows().contiguous()
    config = BertConfig.from_dict({**encoder.bert.config.to_dict(), "vocab_size": len(rows)})
    plain = BertModel(config, add_pooling_layer=False)
    plain.load_state_dict({**encoder.bert.state_dict(), "embeddings.word_embeddings.weight": rows})
    return plain.eval()


def whole_words(known: Tokenizer) -> list[str]:
    """Return the words of a WordPiece vocabulary from three letters, in its order, which is that of their frequency."""
    pieces = sorted(known.get_vocab().items(), key=lambda piece: piece[1])
    return [piece for piece, _ in pieces if piece.isalpha() and len(piece) > 2]


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


def fit_joint(
    encoder: TwoPathEncoder, transformer: Tensor, static: Tensor, *, share: float, whitening: float = 0.0
) -> None:
    """Set the joint projection to principal components of `[share * transformer; static]` over sample vectors.

    `J = diag(share, 1) V L^-whitening`, with V the d main eigenvectors and L the eigenvalues of the second moments: 0
    keeps the similarities of both paths side by side, 0.5 whitens them (Su et al. 2021, arXiv 2103.15316, section 3).

    Args:
        encoder: set in place.
        transformer: float `[n, d]`, vectors of the transformer path.
        static: float `[n, d]`, vectors of the static path for the same texts.
        share: weight of the transformer path, above 0.
        whitening: from 0 to 0.5.
    """
    both = torch.cat([share * transformer, static], dim=1).double()  # [n, 2d]
    values, vectors = torch.linalg.eigh(both.T @ both / len(both))  # ascending
    dim = transformer.shape[1]
    values = values[-dim:].clamp(min=1e-6 * float(values[-1]))
    weight = vectors[:, -dim:] * values**-whitening  # [2d, d]
    weight[:dim] *= share
    with torch.no_grad():
        encoder.paths.joint.weight.copy_(weight)


def save_encoder(folder: Path, encoder: TwoPathEncoder, tokenizer: Tokenizer) -> None:
    """Write the transformer in Hugging Face layout, the rows and the second path in a file beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    encoder = encoder.cpu()
    _with_words(encoder).save_pretrained(str(folder))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}) + "\n", encoding="utf-8"
    )
    save_two_paths(folder, encoder.two_paths)


def load_encoder(folder: Path) -> TwoPathEncoder:
    """Return the encoder that `save_encoder` wrote, in evaluation mode.

    Raises:
        FileNotFoundError: the folder holds no second path.
    """
    two_paths = load_two_paths(folder)
    if two_paths is None:
        raise FileNotFoundError(f"{folder.name}: no second path beside the transformer")
    bert = BertModel.from_pretrained(str(folder), add_pooling_layer=False)
    encoder = TwoPathEncoder(_without_words(bert), two_paths.rows)
    encoder.paths.load_state_dict(two_paths.paths.state_dict())
    return encoder.eval()
