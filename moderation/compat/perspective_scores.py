"""Perspective's attributes from our heads, and the mapping that brings them to a scale like Perspective's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from moderation.compat.perspective import ATTRIBUTES
from retrieval_shared.bundle import PERSPECTIVE, read_manifest

HEADS: Mapping[str, tuple[str, ...]] = {
    "TOXICITY": ("toxic",),
    "IDENTITY_ATTACK": ("hate", "toxic"),
    "INSULT": ("harassment", "toxic"),
    "THREAT": ("violence",),
    "SEXUALLY_EXPLICIT": ("sexual",),
}
"""Attribute -> the heads that stand for it, by their geometric mean.

INSULT and IDENTITY_ATTACK have two: both together rank what raters saw better than either alone
(eval/reports/perspective.html, "Which heads stand for an attribute")."""
HARSH = ("hate", "violence", "harassment")
"""Heads of which one must fire, next to `toxic`, for toxicity to be severe."""
MAPPING_FILE = PERSPECTIVE
"""Lies in the bundle's folder, fitted to it; without it scores are the heads' probabilities."""
_KEYS = ("points", "bundle", "fit")


@dataclass(frozen=True)
class ScoreMapping:
    """For each attribute a piecewise linear, never falling function from [0, 1] to [0, 1]; else the identity."""

    points: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    """Attribute -> two or more (from, to), `from` rising. Outside of them the value of the nearest holds."""
    bundle: str = ""
    """Digest of the bundle whose scores it maps; empty for any."""
    fit: Mapping[str, Any] = field(default_factory=dict)
    """How it was fitted, for whoever reads the file: `training.perspective` writes it, serving does not look."""

    def __post_init__(self) -> None:
        """Checks names, range and order."""
        for attribute, points in self.points.items():
            if attribute not in ATTRIBUTES:
                raise ValueError(f"found attribute {attribute!r}, allowed {', '.join(ATTRIBUTES)}")
            inside = all(0 <= value <= 1 for point in points for value in point)
            rising = all(a < b and c <= d for (a, c), (b, d) in pairwise(points))
            if len(points) < 2 or not inside or not rising:
                raise ValueError(f"{attribute}: found {points}, allowed two or more points in [0, 1] that never fall")

    @classmethod
    def load(cls, path: Path) -> ScoreMapping:
        """Return the mapping in a JSON file, `{"points": {"TOXICITY": [[0, 0], [1, 1]]}}`; no file is the identity.

        With `"bundle"` it holds for the bundle of that digest alone, which lies in the same folder.

        Raises:
            ValueError: the file does not hold such a mapping, or was fitted to another bundle.
        """
        if not path.is_file():
            return cls()
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if unknown := sorted(set(document) - set(_KEYS)):
                raise ValueError(f"found {unknown[0]!r}, allowed {', '.join(_KEYS)}")
            points = {name: tuple((float(x), float(y)) for x, y in given) for name, given in document["points"].items()}
            bundle, fit = str(document.get("bundle", "")), dict(document.get("fit", {}))
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise ValueError(f"{path.name} must map attributes to lists of [from, to] in 'points': {error}") from error
        if bundle and bundle != (found := read_manifest(path.parent).digest):
            raise ValueError(
                f"{path.name} was fitted to the bundle {bundle[:12]}, found {found[:12]}: "
                "fit it anew (`python wardline.py train perspective`) or delete it"
            )
        return cls(points, bundle, fit)

    def __call__(self, attribute: str, score: float) -> float:
        """Return the mapped score."""
        if attribute not in self.points:
            return score
        line = np.array(self.points[attribute])  # [points, 2]
        return float(np.interp(score, line[:, 0], line[:, 1]))


def attribute_scores(
    probabilities: Mapping[str, float], *, profanity: float | None = None, mapping: ScoreMapping | None = None
) -> dict[str, float]:
    """Return the scores in [0, 1] of the attributes that the heads stand for.

    An attribute's score is the geometric mean of its heads' probabilities (`HEADS`).
    SEVERE_TOXICITY is `toxic x max(hate, violence, harassment)`: both must be high, and it is never above TOXICITY
    before the mapping. It rises with each of the four.

    >>> attribute_scores({"toxic": 0.75, "hate": 0.5, "harassment": 0.25})["SEVERE_TOXICITY"]
    0.375

    Args:
        probabilities: head -> probability. An attribute of which a head is not there is not scored.
        profanity: score of the profanity list in [0, 1]; None: PROFANITY is not scored.
        mapping: applied last; None is the identity.
    """
    scores = {
        attribute: prod(probabilities[head] for head in heads) ** (1 / len(heads))
        for attribute, heads in HEADS.items()
        if all(head in probabilities for head in heads)
    }
    harsh = [probabilities[head] for head in HARSH if head in probabilities]
    if "toxic" in probabilities and harsh:
        scores["SEVERE_TOXICITY"] = probabilities["toxic"] * max(harsh)
    if profanity is not None:
        scores["PROFANITY"] = profanity
    mapped = mapping or ScoreMapping()
    return {attribute: mapped(attribute, scores[attribute]) for attribute in ATTRIBUTES if attribute in scores}
