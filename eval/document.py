"""A report as plain JSON values: dataclasses become objects, arrays lists, NaN and infinity null."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

DIGITS = 5
"""Decimals kept: more than any figure here can stand for."""


def plain(value: Any) -> Any:  # noqa: ANN401 - anything in, JSON out
    """Return `value` as JSON values.

    Raises:
        ValueError: something in it has no JSON form.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return round(value, DIGITS) if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    raise ValueError(f"value: found a {type(value).__name__}, expected numbers, texts, lists, mappings or dataclasses")


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write the document, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(plain(document), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)


def read_json(path: Path) -> dict[str, Any]:
    """Return a document written by `write_json`.

    Raises:
        ValueError: the file is missing or is not a JSON object.
    """
    if not path.is_file():
        raise ValueError(f"report: found no file {str(path)!r}; `python wardline.py eval moderation` writes it")
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise ValueError(f"report: found a {type(document).__name__} in {path.name}, expected an object")
    return document
