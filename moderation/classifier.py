"""The classifier: texts in, one calibrated probability per head out, each text read raw and undisguised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval_shared.bundle import CALIBRATION, Bundle
from retrieval_shared.calibration import load_calibration
from retrieval_shared.errors import BundleError
from retrieval_shared.onnx_encoder import OnnxEncoder
from retrieval_shared.text import NormalisedText, normalise

SLOT = "task:moderation"
"""The adapter slot the heads were trained with."""


@dataclass(frozen=True)
class Scores:
    """What the classifier says about n texts."""

    probabilities: NDArray[np.float32]
    """`[n, H]`, calibrated, in [0, 1]: the higher of the raw and the canonical reading."""
    logits: NDArray[np.float32]
    """`[n, H]`, before calibration."""
    from_canonical: NDArray[np.bool_]
    """`[n, H]`, true where the canonical reading gave the higher value."""
    normalised: tuple[NormalisedText, ...]
    """The n texts with their canonical forms."""
    tokens: int
    """Tokens read."""
    chunked: NDArray[np.bool_]
    """`[n]`, true where a text was read in chunks."""


class Classifier:
    """The violation heads of a bundle."""

    def __init__(self, bundle: Bundle, *, encoder: OnnxEncoder | None = None) -> None:
        """Load the heads; `encoder` shares a graph that is already loaded.

        Raises:
            BundleError: the graph has another number of heads, no moderation slot, or the calibration does not fit.
        """
        self.heads = bundle.manifest.heads
        self.encoder = encoder or OnnxEncoder(bundle)
        if self.encoder.heads != len(self.heads) or SLOT not in self.encoder.slots:
            raise BundleError(
                f"bundle {bundle.path}: the graph has {self.encoder.heads} heads and the slots "
                f"{', '.join(self.encoder.slots)}; expected {len(self.heads)} heads and {SLOT!r}"
            )
        try:
            self._calibration = load_calibration(bundle.file(CALIBRATION), self.heads)
        except (ValueError, KeyError, TypeError) as error:
            raise BundleError(f"bundle {bundle.path}: {error}") from error

    def score(self, texts: Sequence[str]) -> Scores:
        """Return the scores of n texts, in their order.

        Each text is read as it came and, where that differs, in its canonical form (disguises undone); long texts are
        read in chunks. A head keeps its highest reading.

        Raises:
            ScoringError: the encoder failed.
        """
        normalised = tuple(normalise(text) for text in texts)
        disguised = [i for i, text in enumerate(normalised) if text.canonical != text.original]
        readings = [*texts, *(normalised[i].canonical for i in disguised)]
        encoded = self.encoder.encode(readings, slot=SLOT)
        raw, logits = encoded.logits[: len(texts)], encoded.logits[: len(texts)].copy()
        if disguised:
            logits[disguised] = np.maximum(logits[disguised], encoded.logits[len(texts) :])
        return Scores(
            probabilities=self._calibration.probabilities(logits),
            logits=logits,
            from_canonical=logits > raw,
            normalised=normalised,
            tokens=encoded.tokens,
            chunked=encoded.chunked[: len(texts)],
        )

    def probabilities(self, readings: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 `[n, H]` for texts read exactly as they are, without a second, canonical reading."""
        return self._calibration.probabilities(self.encoder.encode(readings, slot=SLOT).logits)
