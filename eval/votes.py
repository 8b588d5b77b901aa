"""Rows that several readers voted on: what fraction of them saw each of Perspective's attributes in a text."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moderation.compat.perspective_scores import attribute_scores
from retrieval_shared.records import read_records

VOTES_OF: Mapping[str, str] = {
    "TOXICITY": "toxic",
    "IDENTITY_ATTACK": "hate",
    "INSULT": "harassment",
    "THREAT": "violence",
    "SEXUALLY_EXPLICIT": "sexual",
}
"""Attribute -> the name of the votes that speak of it. Nobody voted on the other attributes in rows we may use."""
ATTRIBUTES = tuple(VOTES_OF)
"""The A attributes in the order of every matrix here."""
USUAL = (0.7, 0.8, 0.9)
"""Thresholds at which Perspective's users cut."""
MACHINE_WRITTEN = ("rtplx_completions",)
"""Sources whose texts nobody wrote."""
FEWEST_RATERS = 2
"""One voice is no fraction."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class VotedRows:
    """n texts on which somebody voted; all arrays share their first axis."""

    texts: tuple[str, ...]
    """As they were written."""
    fraction: Floats
    """`[n, A]`, the share of raters who saw the attribute, in [0, 1]; NaN where fewer than two were asked."""
    source: NDArray[np.str_]
    """`[n]`, the data set a row comes from."""
    lang: NDArray[np.str_]
    """`[n]`, language tags."""
    licence: NDArray[np.str_]
    """`[n]`, `open`, `sa` or `unverified`."""
    group: NDArray[np.str_]
    """`[n]`; rows of one group never stand on both sides of a split."""

    def __len__(self) -> int:
        """Return n."""
        return len(self.texts)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> VotedRows:
        """Return the rows that are marked, bool `[n]`, or at the given places."""
        places = np.arange(len(self))[rows]
        return VotedRows(
            texts=tuple(self.texts[i] for i in places),
            fraction=self.fraction[places],
            source=self.source[places],
            lang=self.lang[places],
            licence=self.licence[places],
            group=self.group[places],
        )


def load_voted(path: Path) -> VotedRows:
    """Return the rows of a moderation file on which two or more raters voted, in their order.

    Args:
        path: in the form `training/data/README.md` describes: `votes` is name -> [positive, raters].

    Raises:
        ValueError: the file is missing, or votes are not two counts of which the first is at most the second.
    """
    if not path.is_file():
        raise ValueError(f"data: found no file {path.name!r}; training/data/README.md names the sources")
    found = [(row, _fractions(row)) for row in read_records(path) if row.get("votes")]
    found = [(row, fractions) for row, fractions in found if not np.isnan(fractions).all()]

    def column(name: str) -> NDArray[np.str_]:
        return np.array([str(row.get(name) or "") for row, _ in found], dtype=np.str_)

    return VotedRows(
        texts=tuple(str(row["text"]) for row, _ in found),
        fraction=np.array([fractions for _, fractions in found], dtype=np.float64).reshape(len(found), len(ATTRIBUTES)),
        source=column("source"),
        lang=column("lang"),
        licence=column("licence"),
        # Parallel prompts carry their number in the meta data, not in `group`.
        group=np.array([str(row.get("group") or (row.get("meta") or {}).get("idx") or row["id"]) for row, _ in found]),
    )


def scores_of(probabilities: NDArray[np.float32], heads: Sequence[str], attributes: Collection[str]) -> Floats:
    """Return what serving scores before any mapping, float64 `[n, attributes]`, for probabilities `[n, H]`."""
    rows = [attribute_scores(dict(zip(heads, map(float, row), strict=True))) for row in probabilities]
    values = [[row[attribute] for attribute in attributes] for row in rows]
    return np.array(values, dtype=np.float64).reshape(len(rows), len(attributes))


def _fractions(row: Mapping[str, Any]) -> list[float]:
    votes = row["votes"]
    return [_fraction(votes.get(name), where=str(row.get("id", ""))) for name in VOTES_OF.values()]


def _fraction(counts: Any, *, where: str) -> float:  # noqa: ANN401 - parsed JSON
    if counts is None:
        return float("nan")
    if not (isinstance(counts, list) and len(counts) == 2 and 0 <= counts[0] <= counts[1]):
        raise ValueError(f"votes: found {counts!r} in row {where}, expected [positive, raters]")
    positive, raters = counts
    return float(positive / raters) if raters >= FEWEST_RATERS else float("nan")
