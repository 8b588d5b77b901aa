"""Vectors of many texts by one encoder, each text encoded once: batched by length, checked, kept in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from eval.scores import BATCH, Progress

UNIT = 1e-3
"""How far the length of a vector may be from 1."""


class SentenceEncoder(Protocol):
    """Anything that gives unit vectors; `retrieval_shared.Encoder` does."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 [n, d]."""


class Embed(Protocol):
    """What a suite is given: texts in, vectors out."""

    def __call__(self, texts: Sequence[str], *, what: str = "texts") -> NDArray[np.float32]:
        """Return float32 [n, d] in the order of `texts`."""


class Embedder:
    """The vectors of one encoder, remembered per text."""

    def __init__(self, encoder: SentenceEncoder, *, name: str = "encoder", progress: Progress | None = None) -> None:
        """Remember the vectors of `encoder`.

        Args:
            encoder: what encodes.
            name: what errors and progress call it.
            progress: called after every batch.
        """
        self.dim = 0
        self.zeros = 0
        """Texts whose vector is all zeros: the encoder read nothing in them."""
        self._encoder, self._name, self._progress = encoder, name, progress
        self._known: dict[str, NDArray[np.float32]] = {}

    @property
    def texts(self) -> int:
        """Return how many different texts were encoded."""
        return len(self._known)

    def __call__(self, texts: Sequence[str], *, what: str = "texts") -> NDArray[np.float32]:
        """Return float32 [n, d] in the order of `texts`; only unseen texts reach the encoder.

        Raises:
            ValueError: a vector is not finite, or neither of unit length nor zero, or the shape is not [n, d].
        """
        # Long texts first, as `eval.scores` does: the bar's estimate then errs on the safe side.
        queue = sorted({text for text in texts if text not in self._known}, key=lambda text: (-len(text), text))
        for start in range(0, len(queue), BATCH):
            part = queue[start : start + BATCH]
            self._known.update(zip(part, self._checked(part), strict=True))
            if self._progress:
                self._progress(f"{self._name}: {what}", min(start + BATCH, len(queue)), len(queue))
        return np.array([self._known[text] for text in texts], dtype=np.float32).reshape(len(texts), self.dim)

    def _checked(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.asarray(self._encoder.encode(texts), dtype=np.float32)
        self.dim = self.dim or (vectors.shape[1] if vectors.ndim == 2 else 0)
        if not self.dim or vectors.shape != (len(texts), self.dim):
            expected = f"[{len(texts)}, {self.dim or 'd'}]"
            raise ValueError(f"vectors of {self._name}: found shape {vectors.shape}, expected {expected}")
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        bad = ~np.isfinite(lengths)
        if bad.any():
            raise ValueError(f"vectors of {self._name}: found {int(bad.sum())} of {len(texts)} that are not finite")
        odd = (lengths != 0) & (np.abs(lengths - 1) > UNIT)
        if odd.any():
            raise ValueError(f"vectors of {self._name}: found length {lengths[odd][0]:.4f}, allowed 1 (or 0: no text)")
        self.zeros += int((lengths == 0).sum())
        return vectors
