"""From logits to probabilities: one logistic curve per head.

Platt 1999 ("Probabilistic outputs for support vector machines"): `p = sigmoid(scale * logit + offset)`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Calibration:
    """One curve per head; `scale` is above 0, so that the order of the logits is kept."""

    heads: tuple[str, ...]
    """Names, in the order of the logits."""
    scale: NDArray[np.float32]
    """`[H]`."""
    offset: NDArray[np.float32]
    """`[H]`."""

    def __post_init__(self) -> None:
        """Raise `ValueError` when a curve is missing, not finite or falls."""
        for name, values in (("scale", self.scale), ("offset", self.offset)):
            if values.shape != (len(self.heads),) or not np.isfinite(values).all():
                raise ValueError(f"calibration {name}: found {values}, expected {len(self.heads)} finite numbers")
        if (self.scale <= 0).any():
            raise ValueError(f"calibration scale: found {self.scale.min()}, allowed above 0")

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return calibrated probabilities float32 `[n, H]` in (0, 1) for logits `[n, H]`."""
        # Above about 17 a float32 rounds to 1, and a threshold of 1 ("never by itself") would be reached.
        z = np.clip(logits * self.scale + self.offset, -60.0, 16.0)
        probabilities: NDArray[np.float32] = (1.0 / (1.0 + np.exp(-z))).astype(np.float32)
        return probabilities


def load_calibration(path: Path, heads: Sequence[str]) -> Calibration:
    """Return the calibration in a JSON file `{"heads": {head: {"scale", "offset"}}}`, in the order of `heads`.

    Raises:
        ValueError: a head has no curve.
    """
    curves: Mapping[str, Mapping[str, float]] = json.loads(path.read_text(encoding="utf-8"))["heads"]
    missing = [head for head in heads if head not in curves]
    if missing:
        raise ValueError(f"{path.name}: no curve for {', '.join(missing)}")
    return Calibration(
        heads=tuple(heads),
        scale=np.array([curves[head]["scale"] for head in heads], dtype=np.float32),
        offset=np.array([curves[head]["offset"] for head in heads], dtype=np.float32),
    )


def save_calibration(path: Path, calibration: Calibration) -> None:
    """Write the calibration as `load_calibration` reads it, six decimals."""
    curves = {
        head: {"scale": round(float(scale), 6), "offset": round(float(offset), 6)}
        for head, scale, offset in zip(calibration.heads, calibration.scale, calibration.offset, strict=True)
    }
    path.write_text(json.dumps({"heads": curves}, indent=2) + "\n", encoding="utf-8")
