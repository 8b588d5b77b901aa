"""Scores of many texts by one model, each scored once: batched by length, kept in memory and, if asked, on disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

BATCH = 256
"""Texts per call: enough for the model to sort and pack, small enough for a progress bar to move."""

SAVE_EVERY = 40
"""Batches between two writes of the cache, so that a stopped run loses little."""

Progress = Callable[[str, int, int], None]
"""Called with what is scored, how many texts are done, and how many there are."""


class ProbabilityModel(Protocol):
    """Anything that gives calibrated probabilities; `moderation.Moderator` does."""

    @property
    def heads(self) -> tuple[str, ...]:
        """The H heads in the order of the columns."""

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return [n, H] in [0, 1]."""


class Scorer:
    """Probabilities by one model, remembered per text."""

    def __init__(
        self, model: ProbabilityModel, *, identity: str, folder: Path | None = None, progress: Progress | None = None
    ) -> None:
        """Remember the scores of `model`.

        Args:
            model: what scores.
            identity: names the exact weights (a hash); two models with one identity share a cache on disk.
            folder: where to keep scores between runs (hashes of texts, never texts); None keeps them in memory only.
            progress: called after every batch.
        """
        self.heads = tuple(model.heads)
        self._model = model
        self._progress = progress
        name = hashlib.sha256("\n".join([identity, *self.heads]).encode()).hexdigest()[:16]
        self._file = folder / f"scores-{name}.npz" if folder else None
        self._known: dict[bytes, NDArray[np.float32]] = self._load()

    def __call__(self, texts: Sequence[str], *, what: str = "texts") -> NDArray[np.float32]:
        """Return float32 [n, H] in the order of `texts`; only unseen texts reach the model.

        Raises:
            ValueError: the model returned another shape than [n, H] or something outside [0, 1].
        """
        keys = [_key(text) for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        # Long texts first: the bar's estimate then errs on the safe side, and memory peaks at once or never.
        queue = sorted(missing.items(), key=lambda entry: -len(entry[1]))
        for start in range(0, len(queue), BATCH):
            part = queue[start : start + BATCH]
            values = self._checked([text for _, text in part])
            self._known.update(zip([key for key, _ in part], values, strict=True))
            if self._progress:
                self._progress(what, min(start + BATCH, len(queue)), len(queue))
            if start // BATCH % SAVE_EVERY == SAVE_EVERY - 1:
                self._save()
        if queue:
            self._save()
        return np.array([self._known[key] for key in keys], dtype=np.float32).reshape(len(keys), len(self.heads))

    def _checked(self, texts: Sequence[str]) -> NDArray[np.float32]:
        values = np.asarray(self._model.probabilities(texts), dtype=np.float32)
        if values.shape != (len(texts), len(self.heads)):
            raise ValueError(f"probabilities: found shape {values.shape}, expected {(len(texts), len(self.heads))}")
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError("probabilities: found a value outside 0 to 1 or NaN")
        return values

    def _load(self) -> dict[bytes, NDArray[np.float32]]:
        if self._file is None or not self._file.is_file():
            return {}
        with np.load(self._file) as stored:
            keys, values = stored["keys"], stored["values"]
        return {key.tobytes(): value for key, value in zip(keys, values, strict=True)}

    def _save(self) -> None:
        if self._file is None:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        keys = np.array([np.frombuffer(key, dtype=np.uint8) for key in self._known])
        part = self._file.with_suffix(".part.npz")
        np.savez(part, keys=keys, values=np.array(list(self._known.values()), dtype=np.float32))
        os.replace(part, self._file)


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]
