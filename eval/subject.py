"""What is measured: a moderator, the identity of its bundle, and the rows it says it learnt from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from retrieval_shared.bundle import CONFIG, Bundle

if TYPE_CHECKING:
    from moderation.policy import Policy
    from moderation.thresholds import Thresholds

ROOT = Path(__file__).resolve().parent.parent
RTPLX_SOURCES = ("rtplx_prompts", "rtplx_completions", "rtplx_benign")
"""The training sources (licence `open`) that hold other rows of the RTP-LX set."""


class Reading(Protocol):
    """What scores texts exactly as they are written."""

    @property
    def heads(self) -> tuple[str, ...]:
        """The H heads."""

    def probabilities(self, readings: Sequence[str]) -> NDArray[np.float32]:
        """Return [n, H] in [0, 1]."""


class Moderating(Protocol):
    """What the evaluation needs of `moderation.Moderator`."""

    @property
    def heads(self) -> tuple[str, ...]:
        """The H heads."""

    @property
    def classifier(self) -> Reading:
        """What scores a text without undoing its disguises."""

    @property
    def policy(self) -> Policy:
        """The policy that decides."""

    @property
    def thresholds(self) -> Thresholds:
        """The shipped thresholds."""

    @property
    def bundle(self) -> Bundle:
        """The bundle behind the scores."""

    @property
    def versions(self) -> dict[str, str]:
        """What a decision depends on."""

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return [n, H] in [0, 1]."""

    def moderate(self, items: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
        """Return one explained decision per item."""


@dataclass(frozen=True)
class LearntFrom:
    """The rows of a training run, as its configuration names them."""

    licences: tuple[str, ...] = ("open",)
    """Row licences taken."""
    also_sources: tuple[str, ...] = ("agora_listing",)
    """Sources taken whatever their licence."""
    without_sources: tuple[str, ...] = ()
    """Sources left out."""
    ads: str = "training/data/ads.jsonl"
    """Our own ads, relative to the repository; empty without."""

    @property
    def ads_file(self) -> Path | None:
        """Return the file of our own ads where it exists."""
        path = ROOT / self.ads
        return path if self.ads and path.is_file() else None

    @property
    def saw_rtplx(self) -> bool:
        """Return whether rows of RTP-LX were among them."""
        left = set(RTPLX_SOURCES) - set(self.without_sources)
        return bool(left) and ("open" in self.licences or not left.isdisjoint(self.also_sources))


@dataclass(frozen=True)
class Subject:
    """A moderator under evaluation."""

    moderator: Moderating
    """The model."""
    name: str
    """Name and version of its bundle."""
    digest: str
    """Hash over the bundle's files."""
    learnt_from: LearntFrom = field(default_factory=LearntFrom)
    """Its training rows."""


def subject_of(moderator: Moderating) -> Subject:
    """Return the subject, its training rows read from the configuration inside the bundle.

    Raises:
        ValueError: that configuration is not readable.
    """
    manifest = moderator.bundle.manifest
    return Subject(
        moderator=moderator,
        name=f"{manifest.name}@{manifest.version}",
        digest=manifest.digest,
        learnt_from=_learnt_from(moderator.bundle.file(CONFIG)),
    )


def _learnt_from(path: Path) -> LearntFrom:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        data = document.get("config", document).get("data", {})
        lists = {key: tuple(data[key]) for key in ("licences", "also_sources", "without_sources") if key in data}
        ads = str(data.get("ads", LearntFrom.ads))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"bundle: found no readable {CONFIG} ({error}), expected the configuration it was trained with"
        ) from error
    return LearntFrom(**lists, ads=ads)
