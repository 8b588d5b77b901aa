"""Whether a model may get traffic: it scores the probe text of its bundle as it did when the bundle was made."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from moderation.item import Item
from moderation.scorer import Scorer
from retrieval_shared.errors import ScoringError

log = structlog.get_logger()

PROBE_TOLERANCE = 0.02
PROBE_REGION = "US"


@dataclass(frozen=True)
class Readiness:
    """Whether the service may get traffic, and what an operator should look at."""

    ready: bool
    bundle: str
    """Name and version of the loaded bundle."""
    probe_difference: float | None
    """Largest difference between the probe text's probabilities now and those in the bundle; None: not scored."""
    warnings: tuple[str, ...] = ()


def probe(moderator: Scorer) -> Readiness:
    """Scores the bundle's probe text, compares with what the bundle recorded, and goes the whole way to a decision.

    The last so that whatever is loaded on first use is loaded before the service is ready.
    """
    manifest = moderator.bundle.manifest
    bundle = f"{manifest.name}@{manifest.version}"
    try:
        scores = moderator.probabilities([manifest.probe.text])[0]  # [H]
        moderator.moderate_and_count(
            [Item(id="probe", fields={"text": manifest.probe.text}, regions=(PROBE_REGION,))], explain=True
        )
    except ScoringError as error:
        return Readiness(False, bundle, None, (f"the probe text could not be scored: {error}",))
    recorded = manifest.probe.probabilities
    found = dict(zip(moderator.heads, scores, strict=True))
    difference = max(abs(float(found[head]) - value) for head, value in recorded.items())
    if difference <= PROBE_TOLERANCE:
        return Readiness(True, bundle, difference)
    warning = (
        f"the probe text's probabilities differ by {difference:.3f} from those of the bundle (allowed: "
        f"{PROBE_TOLERANCE}); this machine computes otherwise, so the thresholds may not hold"
    )
    log.warning(warning)
    return Readiness(True, bundle, difference, (warning,))
