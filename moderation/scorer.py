"""What the service needs of a model, so that a made-up one can stand in a real one's place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from moderation.item import Item
from moderation.pipeline import Moderated
from moderation.policy import Policy
from moderation.signal_sources import NO_SOURCES, SignalSources
from moderation.thresholds import Thresholds
from retrieval_shared.adapters import Adapter
from retrieval_shared.bundle import Bundle
from retrieval_shared.language import Language


class Scorer(Protocol):
    """A model that decides: what the service needs of a `Moderator`."""

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the H heads."""

    @property
    def policy(self) -> Policy:
        """The policy that decides."""

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds of the heads."""

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        """The adapters of the slots from 1, in their order."""

    @property
    def bundle(self) -> Bundle:
        """The model bundle that scores."""

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Probabilities `[n, H]` of n texts."""

    def language(self, text: str) -> Language:
        """The language of a text."""

    def moderate_and_count(
        self,
        items: Sequence[Item],
        *,
        explain: bool,
        policy: Policy | None = None,
        sources: SignalSources = NO_SOURCES,
    ) -> Moderated:
        """One decision per item, in order, and the tokens of their texts."""


class Adaptable(Scorer, Protocol):
    """A model whose adapters can be exchanged: what following the folders needs of a `Moderator`."""

    @property
    def calibrated_slots(self) -> frozenset[str]:
        """The slots with curves of their own in the bundle's calibration, whichever adapters are loaded."""

    def with_adapters(self, adapters: Sequence[Adapter]) -> Adaptable:
        """The same model with these over its bundle's own; the one asked stays as it is. Raises `AdapterError`."""
