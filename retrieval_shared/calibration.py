"""From logits to probabilities: one logistic curve per head, and where a slot needs its own, one per slot and head.

Platt 1999 ("Probabilistic outputs for support vector machines"): `p = sigmoid(scale * logit + offset)`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Curve:
    """The curve of one head."""

    scale: float
    """Above 0, so that the order of the logits is kept."""
    offset: float


@dataclass(frozen=True)
class Calibration:
    """One curve per head; `scale` is above 0, so that the order of the logits is kept."""

    heads: tuple[str, ...]
    """Names, in the order of the logits."""
    scale: NDArray[np.float32]
    """`[H]`."""
    offset: NDArray[np.float32]
    """`[H]`."""
    slots: Mapping[str, Mapping[str, Curve]] = field(default_factory=dict)
    """Slot -> head -> the curve that holds under that slot in place of the head's own."""

    def __post_init__(self) -> None:
        """Raise `ValueError` when a curve is missing, not finite or falls, or is that of no head."""
        for name, values in (("scale", self.scale), ("offset", self.offset)):
            if values.shape != (len(self.heads),) or not np.isfinite(values).all():
                raise ValueError(f"calibration {name}: found {values}, expected {len(self.heads)} finite numbers")
        if (self.scale <= 0).any():
            raise ValueError(f"calibration scale: found {self.scale.min()}, allowed above 0")
        for slot, curves in self.slots.items():
            for head, curve in curves.items():
                if head not in self.heads:
                    raise ValueError(f"calibration {slot}: found head {head!r}, allowed {', '.join(self.heads)}")
                if not np.isfinite([curve.scale, curve.offset]).all() or curve.scale <= 0:
                    raise ValueError(f"calibration {slot}, {head}: found {curve}, allowed a scale above 0, both finite")

    def probabilities(self, logits: NDArray[np.float32], slots: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Return calibrated probabilities float32 `[n, H]` in (0, 1) for logits `[n, H]`.

        Args:
            logits: one row per text and slot.
            slots: the slot of each of the n rows; None: the curves of the heads hold for all of them.

        Raises:
            ValueError: there are not as many slots as rows.
        """
        scale, offset = self.scale, self.offset
        if slots is not None:
            if len(slots) != len(logits):
                raise ValueError(f"slots: found {len(slots)}, expected one per row of {len(logits)} logits")
            scale, offset = self._per_row(slots)
        # Above about 17 a float32 rounds to 1, and a threshold of 1 ("never by itself") would be reached.
        z = np.clip(logits * scale + offset, -60.0, 16.0)
        probabilities: NDArray[np.float32] = (1.0 / (1.0 + np.exp(-z))).astype(np.float32)
        return probabilities

    def _per_row(self, slots: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return scale and offset `[n, H]`: of the row's slot where it has a curve of its own, else of the head."""
        scale, offset = (np.tile(values, (len(slots), 1)) for values in (self.scale, self.offset))
        for slot in self.slots.keys() & set(slots):
            rows = np.array([each == slot for each in slots])
            for head, curve in self.slots[slot].items():
                number = self.heads.index(head)
                scale[rows, number], offset[rows, number] = curve.scale, curve.offset
        return scale, offset


def load_calibration(path: Path, heads: Sequence[str]) -> Calibration:
    """Return the calibration in a JSON file, in the order of `heads`.

    The file holds `{"heads": {head: {"scale", "offset"}}}`, and beside it `"slots": {slot: {head: {"scale",
    "offset"}}}` where slots have curves of their own. What it says of other heads is passed over.

    Raises:
        ValueError: a head has no curve, or a slot has one of a head that `"heads"` does not name.
    """
    document: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    curves = _read_curves(document["heads"])
    missing = [head for head in heads if head not in curves]
    if missing:
        raise ValueError(f"{path.name}: no curve for {', '.join(missing)}")
    slots = {slot: _read_curves(own) for slot, own in _mapping(document.get("slots", {})).items()}
    for slot, own in slots.items():
        if strange := own.keys() - curves.keys():
            raise ValueError(f"{path.name}: {slot} has a curve for {', '.join(sorted(strange))}, which is no head")
    return Calibration(
        heads=tuple(heads),
        scale=np.array([curves[head].scale for head in heads], dtype=np.float32),
        offset=np.array([curves[head].offset for head in heads], dtype=np.float32),
        slots={slot: {head: own[head] for head in heads if head in own} for slot, own in slots.items()},
    )


def save_calibration(path: Path, calibration: Calibration) -> None:
    """Write the calibration as `load_calibration` reads it, six decimals."""
    pairs = zip(calibration.heads, calibration.scale, calibration.offset, strict=True)
    document: dict[str, object] = {"heads": {head: _curve_json(scale, offset) for head, scale, offset in pairs}}
    if calibration.slots:
        document["slots"] = {
            slot: {head: _curve_json(curve.scale, curve.offset) for head, curve in own.items()}
            for slot, own in calibration.slots.items()
        }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _read_curves(found: object) -> dict[str, Curve]:
    return {
        head: Curve(scale=float(_mapping(curve)["scale"]), offset=float(_mapping(curve)["offset"]))
        for head, curve in _mapping(found).items()
    }


def _mapping(found: object) -> Mapping[str, Any]:
    if not isinstance(found, Mapping):
        raise ValueError(f"calibration: found {found!r}, expected an object")
    return found


def _curve_json(scale: float, offset: float) -> dict[str, float]:
    return {"scale": round(float(scale), 6), "offset": round(float(offset), 6)}
