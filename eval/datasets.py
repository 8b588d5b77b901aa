"""The labelled rows an evaluation reads, from a data folder laid out as `training/data/README.md` describes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval_shared.records import read_records
from retrieval_shared.text import join_fields

HEAD_OF_LABEL = {"clickbait": "sensational", "spam_scam": "scam", "pressure_claim": "pressure"}
"""Public label names that mean one of our heads under another name."""

SUITES = {
    "dev": "moderation/dev.jsonl.xz",
    "hatecheck": "moderation/eval/hatecheck.jsonl.xz",
    "multilingual_hatecheck": "moderation/eval/multilingual_hatecheck.jsonl.xz",
    "hatemojicheck": "moderation/eval/hatemojicheck.jsonl.xz",
    "xstest": "moderation/eval/xstest.jsonl.xz",
    "rtplx": "moderation/eval/rtplx_prompts.jsonl.xz",
    "ads_dev": "moderation/ads/ads_dev.jsonl",
}
"""Suite name -> file in the data folder."""

TRAINING_ROWS = "moderation/train.jsonl.xz"
AD_FIELDS = ("title", "body", "cta", "landing_text")


@dataclass(frozen=True)
class Row:
    """One labelled text."""

    id: str
    """Identifier within its file."""
    text: str
    """What the model reads; an ad's fields joined in their order."""
    labels: Mapping[str, float]
    """Head or label name -> 1.0 or 0.0; a missing name is unknown."""
    lang: str = "und"
    """Language tag."""
    source: str = ""
    """The data set the row comes from."""
    kind: str = ""
    """post, ad, headline ...; for hand-written ads positive, multi, evasion, hard_negative or clean."""
    licence: str = ""
    """`open`, `sa` or `unverified`."""
    region: str = ""
    """Region or locale, empty where unknown."""
    group: str = ""
    """Rows of one group are resampled together; the row's own id where the file names none."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """The fields of an ad; empty for plain texts."""
    regions: tuple[str, ...] = ()
    """The regions an ad is meant for."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """What only this suite knows (function, target, another system's score)."""


@dataclass(frozen=True)
class Suite:
    """The rows of one file."""

    name: str
    """Its name in `SUITES`, or the file's."""
    rows: tuple[Row, ...]
    """n rows."""

    @property
    def texts(self) -> list[str]:
        """Return the n texts."""
        return [row.text for row in self.rows]

    def labels(self, heads: Sequence[str]) -> NDArray[np.float64]:
        """Return float64 [n, H], NaN where a row does not say."""
        values = [[row.labels.get(head, np.nan) for head in heads] for row in self.rows]
        return np.array(values, dtype=np.float64).reshape(len(self.rows), len(heads))

    def column(self, name: str) -> NDArray[np.str_]:
        """Return one attribute of every row as text, [n]."""
        return np.array([str(getattr(row, name)) for row in self.rows], dtype=np.str_)

    def where(self, keep: NDArray[np.bool_]) -> Suite:
        """Return the suite with the rows marked in `keep` (bool [n])."""
        return Suite(self.name, tuple(row for row, kept in zip(self.rows, keep, strict=True) if kept))

    def thinned(self, limit: int, *, seed: int) -> Suite:
        """Return at most `limit` rows, drawn without replacement, in their order; all when there are no more."""
        if len(self.rows) <= limit:
            return self
        chosen = np.sort(np.random.default_rng(seed).choice(len(self.rows), size=limit, replace=False))
        return Suite(self.name, tuple(self.rows[i] for i in chosen))


def data_folder(path: Path | None = None) -> Path:
    """Return the data folder: the argument, else the environment's WARDLINE_DATA.

    Raises:
        ValueError: neither names a folder; the message says what is wanted.
    """
    named = path if path is not None else os.environ.get("WARDLINE_DATA")
    wanted = f"a folder with {SUITES['dev']} and its like; training/data/README.md gives the form and the sources"
    if not named:
        raise ValueError(f"data: found nothing, name it with --data DIR or WARDLINE_DATA: {wanted}")
    folder = Path(named)
    if not folder.is_dir():
        raise ValueError(f"data: found {str(folder)!r}, which is not a folder, expected {wanted}")
    return folder


def load_suite(data_dir: Path, name: str) -> Suite:
    """Return the rows of a named suite.

    Raises:
        ValueError: the name is unknown, the file is missing, or a row lacks its text or has a label other than 0 or 1.
    """
    if name not in SUITES:
        raise ValueError(f"name: found {name!r}, allowed {', '.join(SUITES)}")
    return load_rows(data_dir / SUITES[name], name=name)


def load_rows(path: Path, *, name: str = "") -> Suite:
    """Return the rows of any file of this form, plain texts or ads.

    Raises:
        ValueError: the file is missing, or a row lacks its text or has a label other than 0 or 1.
    """
    if not path.is_file():
        raise ValueError(
            f"data: found no file {path.name!r} in {path.parent.name!r}; training/data/README.md names the sources"
        )
    rows = tuple(_row(record, where=f"{path.name}, row {i + 1}") for i, record in enumerate(read_records(path)))
    return Suite(name or path.name, rows)


def load_training(
    data_dir: Path, *, licences: Sequence[str], also_sources: Sequence[str] = (), without_sources: Sequence[str] = ()
) -> Suite:
    """Return the training rows of these licences or of `also_sources`, never those of `without_sources`."""
    suite = load_rows(data_dir / TRAINING_ROWS, name="train")
    kept = [
        (row.licence in licences or row.source in also_sources) and row.source not in without_sources
        for row in suite.rows
    ]
    return suite.where(np.array(kept, dtype=bool))


def ad_fields(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the non-empty fields of an ad."""
    return {name: str(record[name]) for name in AD_FIELDS if record.get(name)}


def is_english(lang: str) -> bool:
    """Return whether a language tag of any suite (`en`, `en-GB`, `eng`, `eng_Latn`) means English."""
    return lang.replace("_", "-").split("-")[0].lower() in {"en", "eng"}


def _row(record: Mapping[str, Any], *, where: str) -> Row:
    fields = ad_fields(record)
    text = record.get("text") if not fields else join_fields(fields).text
    if not isinstance(text, str) or not text:
        raise ValueError(f"text: found {text!r} in {where}, expected a non-empty text or the fields of an ad")
    identifier = str(record.get("id", where))
    meta = record.get("meta") or {}
    return Row(
        id=identifier,
        text=text,
        labels=_labels(record.get("labels") or {}, where=where),
        lang=str(record.get("lang") or "und"),
        source=str(record.get("source") or ""),
        kind=str(record.get("kind") or ""),
        licence=str(record.get("licence") or ""),
        region=str(record.get("region") or ""),
        # Parallel prompts carry their number in the meta data, not in `group`.
        group=str(record.get("group") or meta.get("idx") or identifier),
        fields=fields,
        regions=tuple(record.get("regions") or ()),
        meta=meta,
    )


def _labels(labels: Any, *, where: str) -> dict[str, float]:  # noqa: ANN401 - parsed JSON
    if isinstance(labels, list):  # our own training ads list the heads that hold
        labels = dict.fromkeys(labels, 1)
    if not isinstance(labels, Mapping) or not set(labels.values()) <= {0, 1}:
        raise ValueError(f"labels: found {labels!r} in {where}, expected a mapping of names to 0 or 1")
    return {HEAD_OF_LABEL.get(str(name), str(name)): float(value) for name, value in labels.items()}
