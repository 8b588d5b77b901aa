"""How an encoder was trained, as one JSON document that travels with it into every bundle."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval_shared.bundle import ENCODER_RECORD
from training.encoder_config import EncoderConfig
from training.parallel import ENGLISH, Sentences


def encoder_record(
    config: EncoderConfig, sentences: Sentences, *, sha256: str, curves: Sequence[Mapping[str, Any] | None]
) -> dict[str, Any]:
    """Return the record of a run.

    Args:
        config: the whole configuration.
        sentences: the parallel text.
        sha256: its hash.
        curves: the loss curve of each stage (`read_curve`); a stage that left none is left out.
    """
    pairs = sentences.lang != ENGLISH
    return {
        "config": dataclasses.asdict(config),
        "data": {
            "sentences": len(sentences),
            "pairs": int(pairs.sum()),
            "sha256": sha256,
            "languages": _counts(sentences.lang[pairs]),
            "sources": _counts(sentences.source[pairs]),
        },
        "teacher": {"name": config.teacher, "sha256": config.teacher_sha256},
        "curves": [curve for curve in curves if curve is not None],
    }


def write_record(folder: Path, record: Mapping[str, Any] | None) -> None:
    """Write the record into a folder; None removes the one that lies there."""
    path = folder / ENCODER_RECORD
    if record is None:
        path.unlink(missing_ok=True)
    else:
        path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return the record that lies in a folder, None where there is none."""
    path = folder / ENCODER_RECORD
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _counts(names: NDArray[np.str_]) -> dict[str, int]:
    """Return name -> how often it stands there, the most frequent first."""
    found, counts = np.unique(names, return_counts=True)
    return {str(found[i]): int(counts[i]) for i in np.argsort(-counts, kind="stable")}
