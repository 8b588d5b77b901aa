"""Perspective's attributes from our heads, and the mapping that brings them to a scale like Perspective's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from moderation.compat.perspective import ATTRIBUTES

HEADS: Mapping[str, str] = {
    "TOXICITY": "toxic",
    "IDENTITY_ATTACK": "hate",
    "INSULT": "harassment",
    "THREAT": "violence",
    "SEXUALLY_EXPLICIT": "sexual",
}
"""Attribute -> the head that stands for it."""
HARSH = ("hate", "violence", "harassment")
"""Heads of which one must fire, next to `toxic`, for toxicity to be severe."""
MAPPING_FILE = "perspective.json"
"""Lies beside the bundle; without it scores are the heads' probabilities."""


@dataclass(frozen=True)
class ScoreMapping:
    """For each attribute a piecewise linear, never falling function from [0, 1] to [0, 1]; else the identity."""

    points: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    """Attribute -> two or more (from, to), `from` rising. Outside of them the value of the nearest holds."""

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
        """Return the mapping in a JSON file, `{"TOXICITY": [[0, 0], [0.3, 0.5], [1, 1]]}`; no file is the identity.

        Raises:
            ValueError: the file does not hold such a mapping.
        """
        if not path.is_file():
            return cls()
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            points = {name: tuple((float(x), float(y)) for x, y in given) for name, given in document.items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path.name} must map attributes to lists of [from, to]: {error}") from error
        return cls(points)

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

    SEVERE_TOXICITY is `toxic x max(hate, violence, harassment)`: both must be high, and it is never above TOXICITY
    before the mapping. It rises with each of the four.

    >>> attribute_scores({"toxic": 0.75, "hate": 0.5, "harassment": 0.25})["SEVERE_TOXICITY"]
    0.375

    Args:
        probabilities: head -> probability. An attribute whose head is not there is not scored.
        profanity: score of the profanity list in [0, 1]; None: PROFANITY is not scored.
        mapping: applied last; None is the identity.
    """
    scores = {attribute: probabilities[head] for attribute, head in HEADS.items() if head in probabilities}
    harsh = [probabilities[head] for head in HARSH if head in probabilities]
    if "toxic" in probabilities and harsh:
        scores["SEVERE_TOXICITY"] = probabilities["toxic"] * max(harsh)
    if profanity is not None:
        scores["PROFANITY"] = profanity
    mapped = mapping or ScoreMapping()
    return {attribute: mapped(attribute, scores[attribute]) for attribute in ATTRIBUTES if attribute in scores}
