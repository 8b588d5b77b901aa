"""The classifier: texts in, one calibrated probability per head and slot out; disguises are undone before reading."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval_shared.adapters import Adapter, slot_of_region
from retrieval_shared.bundle import CALIBRATION, Bundle
from retrieval_shared.calibration import load_calibration
from retrieval_shared.errors import AdapterError, BundleError
from retrieval_shared.onnx_encoder import OnnxEncoder
from retrieval_shared.text import NormalisedText, normalise

SLOT = "task:moderation"
"""The adapter slot the heads were trained with; regions without an adapter are judged under it."""


@dataclass(frozen=True)
class Scores:
    """What the classifier says about n texts, each judged under one slot or several: B branches in all."""

    probabilities: NDArray[np.float32]
    """`[B, H]`, calibrated, in [0, 1]."""
    logits: NDArray[np.float32]
    """`[B, H]`, before calibration."""
    rows: Mapping[tuple[int, str], int]
    """Number of a text and a slot -> their row, in the order of the texts."""
    normalised: tuple[NormalisedText, ...]
    """The n texts with their canonical forms."""
    tokens: int
    """Tokens read; a text is read once, whatever the number of its slots."""
    chunked: NDArray[np.bool_]
    """`[B]`, true where a text was read in chunks."""

    def row(self, text: int, slot: str) -> int:
        """Return the row of a text under a slot.

        Raises:
            ValueError: the text was not judged under it.
        """
        if (text, slot) not in self.rows:
            judged = ", ".join(name for number, name in self.rows if number == text)
            raise ValueError(f"slot of text {text}: found {slot!r}, judged under {judged or 'none'}")
        return self.rows[text, slot]


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

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        """Return the adapters that are loaded, in the order of their slots."""
        return self.encoder.adapters

    @property
    def calibrated_slots(self) -> frozenset[str]:
        """Return the slots with curves of their own in the bundle's calibration, whichever adapters are loaded."""
        return frozenset(slot for slot, curves in self._calibration.slots.items() if curves)

    def with_adapters(self, adapters: Sequence[Adapter]) -> Classifier:
        """Return a classifier with these adapters in place of its own, over the same graph; this one stays as it is.

        Raises:
            AdapterError: an adapter does not fit the graph, or none is that of the moderation slot.
        """
        if SLOT not in {adapter.name for adapter in adapters}:
            raise AdapterError(f"adapters: found {', '.join(each.name for each in adapters)}; {SLOT!r} must be there")
        other = copy.copy(self)
        other.encoder = self.encoder.with_adapters(adapters)
        return other

    def slot_of(self, region: str) -> str:
        """Return the slot a region is judged under: its own, else its country's, else `SLOT`."""
        return slot_of_region(region, self.encoder.slots, default=SLOT)

    def score(self, texts: Sequence[str], slots: Sequence[Sequence[str]] | None = None) -> Scores:
        """Return the scores of n texts, in their order; each is read once and judged once per slot.

        Each text is read in its canonical form, disguises undone: what is left of a disguise raises the probabilities
        of benign texts more than it tells of others. Long texts are read in chunks.

        Args:
            texts: n texts.
            slots: the slots of each text, in the order of its rows; one named twice is judged once. None: `SLOT`
                alone, so that row i is text i.

        Raises:
            ValueError: there are not as many lists of slots as texts, or no such slot is loaded.
            ScoringError: the encoder failed.
        """
        if slots is not None and len(slots) != len(texts):
            raise ValueError(f"slots: found {len(slots)} lists, expected one per text of {len(texts)}")
        named = [(SLOT,)] * len(texts) if slots is None else slots
        branches = list(dict.fromkeys((i, slot) for i, own in enumerate(named) for slot in own))
        normalised = tuple(normalise(text) for text in texts)
        encoded = self.encoder.encode_branches([text.canonical for text in normalised], branches)
        return Scores(
            probabilities=self._calibration.probabilities(encoded.logits, [slot for _, slot in branches]),
            logits=encoded.logits,
            rows={branch: row for row, branch in enumerate(branches)},
            normalised=normalised,
            tokens=encoded.tokens,
            chunked=encoded.chunked,
        )

    def probabilities(self, readings: Sequence[str], *, slot: str = SLOT) -> NDArray[np.float32]:
        """Return float32 `[n, H]` for texts read exactly as they are, disguises and all, and judged under one slot."""
        logits = self.encoder.encode(readings, slot=slot).logits
        return self._calibration.probabilities(logits, [slot] * len(logits))
