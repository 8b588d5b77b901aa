"""The model that serves, whole: what a request asks for once and works with to its end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from moderation.classifier import SLOT
from moderation.compat.perspective_routes import Perspective
from moderation.compat.perspective_scores import MAPPING_FILE, ScoreMapping
from moderation.readiness import Readiness, probe
from moderation.scorer import Adaptable, Scorer


@dataclass(frozen=True)
class Serving:
    """A model and what was fitted to it; immutable, so a request that holds it ends on it."""

    moderator: Scorer
    """Decides."""
    perspective: Perspective
    """Scores comments beside the model."""
    readiness: Readiness
    added: frozenset[str] = frozenset()
    """Names of the adapters that are not the bundle's own."""

    @classmethod
    def of(cls, moderator: Scorer) -> Serving:
        """A bundle with no adapters but its own, its probe text scored.

        Raises:
            ValueError: what lies beside the bundle was fitted to another.
        """
        return cls(moderator, Perspective.beside(moderator.bundle.path), probe(moderator))

    @property
    def name(self) -> str:
        """Name and version of the bundle."""
        manifest = self.moderator.bundle.manifest
        return f"{manifest.name}@{manifest.version}"

    def under(self, moderator: Adaptable, added: Iterable[str]) -> Serving:
        """The same bundle as `moderator` has it, with the adapters `added` among or in place of its own.

        Calibration, thresholds and Perspective's mapping were fitted to the bundle's own `task:moderation`, and a
        region's own curve to the bundle's own adapter of that region. Under another `task:moderation` a mapping that
        names its bundle is not used; the rest stays in use with a warning.
        """
        names, perspective = frozenset(added), self.perspective
        warnings = [
            f"{slot} is not the bundle's own, to which its calibration curve was fitted"
            for slot in sorted(names & moderator.calibrated_slots)
        ]
        if SLOT in names:
            warning = f"{SLOT} is not the bundle's own, to which its calibration and thresholds were fitted"
            if perspective.mapping.bundle:
                warning += f"; nor is {MAPPING_FILE} used, which was fitted to it too"
                perspective = replace(perspective, mapping=ScoreMapping())
            warnings.append(warning)
        readiness = replace(self.readiness, warnings=(*self.readiness.warnings, *warnings))
        return Serving(moderator, perspective, readiness, names)
