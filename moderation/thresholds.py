"""The thresholds: from which probability a head needs a person, and from which its rule acts by itself."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_HEAD_KEYS = {"escalate", "act", "basis", "positives", "negatives"}


@dataclass(frozen=True)
class HeadThreshold:
    """Two cuts of one head's calibrated probability."""

    escalate: float
    """From here on a person decides; below, the head does not fire. In [0, act]."""
    act: float
    """From here on the policy's rule acts by itself. In [escalate, 1]."""
    basis: str
    """How both were chosen, in words."""
    positives: int
    """Positive rows they were fitted on."""
    negatives: int
    """Negative rows they were fitted on."""

    def __post_init__(self) -> None:
        """Raise `ValueError` unless 0 <= escalate <= act <= 1 and the counts are whole numbers from 0."""
        for name, value in (("escalate", self.escalate), ("act", self.act)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"{name}: found {value!r}, allowed a number in [0, 1]")
        if not 0 <= self.escalate <= self.act <= 1:
            raise ValueError(f"escalate, act: found {self.escalate}, {self.act}, allowed 0 <= escalate <= act <= 1")
        if not isinstance(self.basis, str):
            raise ValueError(f"basis: found {self.basis!r}, allowed a text")
        for name, count in (("positives", self.positives), ("negatives", self.negatives)):
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise ValueError(f"{name}: found {count!r}, allowed a whole number from 0")


@dataclass(frozen=True)
class Thresholds:
    """The thresholds of all heads: one immutable, content-named object. Make one with `Thresholds.of`."""

    id: str
    """`thr_` and the first 10 hex digits of the content's sha256."""
    prevalence: float
    """The share of violating ads, per head, that the fit assumed; in (0, 1)."""
    heads: Mapping[str, HeadThreshold]

    @classmethod
    def of(cls, *, prevalence: float, heads: Mapping[str, HeadThreshold]) -> Thresholds:
        """Return thresholds under the id of their content; raise `ValueError` for a prevalence outside (0, 1)."""
        if isinstance(prevalence, bool) or not isinstance(prevalence, int | float) or not 0 < prevalence < 1:
            raise ValueError(f"prevalence: found {prevalence!r}, allowed a number above 0 and below 1")
        return cls(id=_content_id(prevalence, heads), prevalence=prevalence, heads=dict(heads))

    def to_json(self) -> str:
        """Return the document that `load_thresholds` reads."""
        return json.dumps({"id": self.id, **_content(self.prevalence, self.heads)}, indent=2) + "\n"


def load_thresholds(path: str | Path) -> Thresholds:
    """Return the thresholds of a JSON file.

    Raises:
        ValueError: it is not such a file, or its id is not that of its content (it was edited by hand).
        OSError: it cannot be read.
    """
    path = Path(path)
    try:
        return _parse(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"thresholds {path.name}: {error}") from error


def _parse(document: Any) -> Thresholds:  # noqa: ANN401 - parsed JSON may be anything
    """Return the thresholds of a parsed document."""
    _check_keys("document", document, {"id", "prevalence", "heads"})
    if not isinstance(document["heads"], dict):
        raise ValueError("heads: allowed a mapping of head names")
    heads = {}
    for name, value in document["heads"].items():
        _check_keys(f"heads.{name}", value, _HEAD_KEYS)
        try:
            heads[name] = HeadThreshold(**value)
        except ValueError as error:
            raise ValueError(f"heads.{name}.{error}") from error
    thresholds = Thresholds.of(prevalence=document["prevalence"], heads=heads)
    if thresholds.id != document["id"]:
        raise ValueError(f"id: found {document['id']!r}, allowed {thresholds.id!r}, the id of the content")
    return thresholds


def _check_keys(at: str, value: object, keys: set[str]) -> None:
    """Raise `ValueError` unless the value is a mapping with exactly these keys."""
    found = set(value) if isinstance(value, dict) else None
    if found != keys:
        raise ValueError(f"{at}: found {'no mapping' if found is None else sorted(found)}, allowed {sorted(keys)}")


def _content(prevalence: float, heads: Mapping[str, HeadThreshold]) -> dict[str, Any]:
    """Return what the id names."""
    return {"prevalence": prevalence, "heads": {name: asdict(head) for name, head in heads.items()}}


def _content_id(prevalence: float, heads: Mapping[str, HeadThreshold]) -> str:
    """Return `thr_` and the first 10 hex digits of the content's sha256; the order of heads does not matter."""
    canonical = json.dumps(_content(prevalence, heads), sort_keys=True, separators=(",", ":"))
    return f"thr_{hashlib.sha256(canonical.encode()).hexdigest()[:10]}"
