"""The public encoder: texts in, unit vectors out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from retrieval_shared.bundle import load_bundle
from retrieval_shared.onnx_encoder import OnnxEncoder

Kind = Literal["query", "document"]


class Encoder:
    """The shared encoder of a bundle.

    Example:
        >>> from retrieval_shared import Encoder
        >>> vectors = Encoder.load().encode(["red running shoes", "scarlet trainers", "tax advice"])
        >>> vectors.shape
        (3, 384)
        >>> bool(vectors[0] @ vectors[1] > vectors[0] @ vectors[2])
        True
    """

    def __init__(self, encoder: OnnxEncoder) -> None:
        self._encoder = encoder

    @classmethod
    def load(cls, path: Path | str | None = None) -> Encoder:
        """Return the encoder of the bundle at `path` (None: the shipped one).

        Raises:
            BundleError: the bundle is missing or damaged.
        """
        return cls(OnnxEncoder(load_bundle(path)))

    @property
    def slots(self) -> tuple[str, ...]:
        """Return the adapter slots one can name in `encode`."""
        return self._encoder.slots

    @property
    def dim(self) -> int:
        """Return the width d of a vector."""
        return self._encoder.dim

    def encode(self, texts: Sequence[str], slot: str | None = None, kind: Kind | None = None) -> NDArray[np.float32]:
        """Return float32 vectors `[n, d]` of unit length, one per text and in their order.

        Args:
            texts: n texts of any length; long ones are read in chunks, never cut.
            slot: adapter slot; None is the plain encoder.
            kind: whether the texts are queries or documents; this bundle's encoder reads both alike.

        Raises:
            ValueError: `texts` is one string, or `slot` or `kind` has no such value.
        """
        if isinstance(texts, str):
            raise ValueError("texts: found one string, expected a sequence of strings")
        if kind not in (None, "query", "document"):
            raise ValueError(f"kind: found {kind!r}, allowed 'query', 'document', None")
        return self._encoder.encode(list(texts), slot=slot or "base").vectors
