"""An encoder in float32 as training left it, and each of its two paths alone: three encoders, one pass per text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from transformers import BertModel

from retrieval_shared.batching import pad, token_budget_batches
from retrieval_shared.bundle import TOKENIZER
from retrieval_shared.torch_paths import PATHS, load_two_paths
from retrieval_shared.torch_rows import ROW_LEVELS, mean_pool, rounded_rows

WEIGHTS = "model.safetensors"
"""The transformer's weights in a folder in Hugging Face layout."""

BUDGET = 4_096
"""Padded tokens of one batch."""

BOTH = "float32, both paths"
NAMES = (BOTH, "float32, transformer path", "float32, static path")
"""What the encoders are called, in the order of the vectors of `PathReader`."""


class PathReader:
    """Reads a text once for the vectors of both paths together and of each alone, and remembers them.

    The rows are rounded to 4 bits as training rounds them in every step: the model that was trained has no
    others. All else is float32.
    """

    def __init__(self, folder: Path) -> None:
        """Load an encoder.

        Args:
            folder: transformer in Hugging Face layout with `tokenizer.json`, rows and second path beside it.

        Raises:
            ValueError: a file is missing.
        """
        missing = [name for name in (WEIGHTS, TOKENIZER, PATHS) if not (folder / name).is_file()]
        two_paths = load_two_paths(folder)
        if missing or two_paths is None:
            raise ValueError(f"paths: found no {', '.join(missing)} in {folder.name!r}, expected what training leaves")
        self._bert = BertModel.from_pretrained(str(folder), add_pooling_layer=False).eval()
        self._paths = two_paths.paths
        self._rows = rounded_rows(two_paths.rows, levels=ROW_LEVELS)  # [V, 2, d]
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self._bert.config.max_position_embeddings)
        self._known: dict[str, NDArray[np.float32]] = {}

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 `[n, 3, d]`: per text the vectors of both paths, the transformer and the static path.

        Each has unit length; the static one of a text without tokens is zero. A text with more tokens than the
        transformer has positions is cut.
        """
        missing = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._known.update(zip(missing, self._read(missing), strict=True))
        found = [self._known[text] for text in texts]
        return np.array(found, dtype=np.float32).reshape(len(texts), len(NAMES), self._rows.shape[-1])

    def _read(self, texts: Sequence[str]) -> NDArray[np.float32]:
        # The tokenizer refuses lone surrogates.
        whole = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch(whole)]
        found = np.zeros((len(texts), len(NAMES), self._rows.shape[-1]), dtype=np.float32)
        with torch.inference_mode():
            for batch in token_budget_batches([len(row) for row in rows], budget=BUDGET):
                ids, mask = pad([rows[i] for i in batch])
                found[batch] = self._vectors(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
        return found

    def _vectors(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return `[b, 3, d]` for int64 `[b, t]`."""
        words, rows = self._rows[input_ids].unbind(-2)  # [b, t, d] each
        states = self._bert(inputs_embeds=words, attention_mask=attention_mask).last_hidden_state  # [b, t, d]
        transformer = mean_pool(states, attention_mask)
        static = self._paths.static(rows, input_ids, attention_mask)
        return torch.stack([self._paths.join(transformer, static), transformer, static], dim=1)


class PathEncoder:
    """One of the three vectors of a reader."""

    def __init__(self, reader: PathReader, *, which: int) -> None:
        """Take vector number `which` of `reader`; several encoders may share one reader."""
        self._reader, self._which = reader, which

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 `[n, d]`."""
        return self._reader(texts)[:, self._which]


def load_paths(folder: Path) -> dict[str, PathEncoder]:
    """Return the three encoders of a folder, named as in `NAMES`.

    Raises:
        ValueError: a file is missing.
    """
    reader = PathReader(folder)
    return {name: PathEncoder(reader, which=number) for number, name in enumerate(NAMES)}
