"""What a bundle says about how its encoder was trained."""

from __future__ import annotations

from typing import Any

from eval.document import read_json
from retrieval_shared.bundle import ENCODER_RECORD, Bundle

KEYS = {"config": (), "data": ("sentences", "pairs", "sha256", "languages", "sources"), "teacher": ("name", "sha256")}
"""The objects of a record, each with what it must hold."""
CURVE = ("stage", "steps", "points")


def training_record(bundle: Bundle) -> dict[str, Any] | None:
    """Return the record; None where the bundle has none, as older ones.

    Raises:
        ValueError: it is not a JSON object, or something of it is missing.
    """
    path = bundle.path / ENCODER_RECORD
    if not path.is_file():
        return None
    record = read_json(path)
    for name, keys in KEYS.items():
        _check(record.get(name), keys, name=name)
    curves = record.get("curves")
    if not isinstance(curves, list):
        raise ValueError(f"curves: found a {type(curves).__name__} in {ENCODER_RECORD}, expected a list")
    for curve in curves:
        _check(curve, CURVE, name="curves")
    return record


def _check(value: object, keys: tuple[str, ...], *, name: str) -> None:
    found = sorted(value) if isinstance(value, dict) else []
    if not isinstance(value, dict) or not set(keys) <= set(found):
        expected = f"an object with {', '.join(keys)}" if keys else "an object"
        raise ValueError(f"{name}: found {', '.join(found) or 'nothing'} in {ENCODER_RECORD}, expected {expected}")
