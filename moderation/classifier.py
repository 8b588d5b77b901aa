"""The classifier: texts in, one calibrated probability per head out, each text read with its disguises undone."""

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
    """`[n, H]`, calibrated, in [0, 1]."""
    logits: NDArray[np.float32]
    """`[n, H]`, before calibration."""
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

        Each text is read in its canonical form, disguises undone: what is left of a disguise raises the probabilities
        of benign texts more than it tells of others. Long texts are read in chunks.

        Raises:
            ScoringError: the encoder failed.
        """
        normalised = tuple(normalise(text) for text in texts)
        encoded = self.encoder.encode([text.canonical for text in normalised], slot=SLOT)
        return Scores(
            probabilities=self._calibration.probabilities(encoded.logits),
            logits=encoded.logits,
            normalised=normalised,
            tokens=encoded.tokens,
            chunked=encoded.chunked,
        )

    def probabilities(self, readings: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 `[n, H]` for texts read exactly as they are, disguises and all."""
        return self._calibration.probabilities(self.encoder.encode(readings, slot=SLOT).logits)
