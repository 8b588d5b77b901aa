"""Training examples: labelled rows of several sources as one matrix of targets in which unknown stays unknown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from datasets import load_dataset
from numpy.typing import NDArray

from eval.datasets import HEAD_OF_LABEL, ad_fields
from retrieval_shared.text import join_fields, normalise
from training.config import DataConfig
from training.disguise import disguise
from training.regions import region_of

log = structlog.get_logger()

REPOSITORY = Path(__file__).resolve().parent.parent

HEADS = (
    "drugs", "weapons", "counterfeit", "alcohol_tobacco", "gambling", "sexual", "misinformation", "sensational",
    "scam", "pressure", "political", "hate", "harassment", "violence", "self_harm", "toxic",
)  # fmt: skip
"""The heads in their order in every matrix; `toxic` is auxiliary."""

OWN_ADS = "own_ads"
"""The `source` of our own hand-written ads."""
DISGUISED = "disguised"
"""The `kind` of a copy of one of our own ads that was disguised for training."""


@dataclass(frozen=True)
class Examples:
    """n examples with targets for H heads; all arrays share their first axis."""

    texts: tuple[str, ...]
    """The text as the model reads it, in canonical form."""
    targets: NDArray[np.float32]
    """`[n, H]`, 0 or 1, NaN where nobody said."""
    source: NDArray[np.str_]
    """`[n]`, the data set a row comes from."""
    licence: NDArray[np.str_]
    """`[n]`, `open`, `sa` or `unverified`."""
    lang: NDArray[np.str_]
    """`[n]`, language tags."""
    kind: NDArray[np.str_]
    """`[n]`, post, ad, headline, message ... ; for our own ads their kind (positive, hard_negative, ...)."""
    group: NDArray[np.str_]
    """`[n]`; rows of one group never stand on both sides of a split."""
    region: NDArray[np.str_]
    """`[n]`, the region a row is of (`region_of`), empty where nobody said or there are several."""

    def __len__(self) -> int:
        """Return n."""
        return len(self.texts)

    def take(self, rows: NDArray[np.intp]) -> Examples:
        """Return the examples at `rows`, in that order."""
        return Examples(
            texts=tuple(self.texts[i] for i in rows),
            targets=self.targets[rows],
            source=self.source[rows],
            licence=self.licence[rows],
            lang=self.lang[rows],
            kind=self.kind[rows],
            group=self.group[rows],
            region=self.region[rows],
        )


def fold_of(group: Sequence[str] | NDArray[np.str_], *, folds: int, seed: int) -> NDArray[np.int64]:
    """Return each group's fold `[n]` in `[0, folds)`: a hash of the group's name, so that it never moves."""
    return np.array(
        [int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big") % folds for name in group],
        dtype=np.int64,
    )


def target_row(labels: Mapping[str, int | None], *, known: float = np.nan) -> NDArray[np.float32]:
    """Return the targets `[H]` of one row; a head without a label gets `known` (NaN: unknown)."""
    row = np.full(len(HEADS), known, dtype=np.float32)
    for name, value in labels.items():
        head = HEAD_OF_LABEL.get(name, name)
        # Labels without a head (bias, sexism, ...) are not targets; a table of rows says None for a label a row lacks.
        if head in HEADS and value is not None:
            row[HEADS.index(head)] = value
    return row


def load_examples(data: Path | None, config: DataConfig) -> Examples:
    """Return the public rows of the data folder that the configuration allows, then our own ads.

    Args:
        data: the data folder; None takes our own ads alone.
        config: which rows.

    Raises:
        FileNotFoundError: the folder holds no training rows; the message says what data is wanted.
    """
    ads = load_ads(REPOSITORY / config.ads, disguised_copies=config.disguised_copies)
    if data is None:
        log.warning("no data folder: training on our own ads alone")
        return ads
    return concatenate([load_public(public_rows(data), config), ads])


def public_rows(data: Path) -> Path:
    """Return the file of public moderation rows in the data folder.

    Raises:
        FileNotFoundError: there is none; the message says what data is wanted.
    """
    paths = [data / "moderation" / name for name in ("train.jsonl.xz", "train.jsonl")]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"no training rows at {paths[0]}: name the data folder with --data or WARDLINE_DATA; "
            "training/data/README.md gives its form and the public sources"
        )
    return found


def load_public(path: Path, config: DataConfig) -> Examples:
    """Return the rows of a moderation file whose licence, or source, the configuration allows.

    Args:
        path: `train.jsonl(.xz)` in the form `training/data/README.md` describes.
        config: `licences` and `also_sources`; `without_sources` is left to the stages.
    """
    rows = load_dataset("json", data_files={"train": str(path)}, split="train")
    licensed = np.isin(rows["licence"], config.licences) | np.isin(rows["source"], config.also_sources)
    rows = rows.select(np.flatnonzero(licensed))
    tags = rows["region"] if "region" in rows.column_names else [None] * len(rows)
    return Examples(
        texts=tuple(canonical(text) for text in rows["text"]),
        targets=np.stack([target_row(labels) for labels in rows["labels"]]),
        source=np.array(rows["source"]),
        licence=np.array(rows["licence"]),
        lang=np.array(rows["lang"]),
        kind=np.array(rows["kind"]),
        group=np.array(rows["group"]),
        region=np.array([region_of(tag, source) for tag, source in zip(tags, rows["source"], strict=True)]),
    )


def load_ads(path: Path, *, disguised_copies: int = 0) -> Examples:
    """Return our own ads; every head of the guideline is known, `toxic` is not.

    Args:
        path: `ads.jsonl` in the form `training/data/README.md` describes.
        disguised_copies: how often each ad that was not written in disguise is disguised and undone again, once for
            each text that is left: undoing is imperfect, and what it leaves must not look like a violation.
    """
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    read = [(row, row["kind"], canonical(ad_text(row))) for row in rows]
    read += [
        (row, DISGUISED, text) for row in rows if row["kind"] != "evasion" for text in _left(row, disguised_copies)
    ]
    targets = np.stack([target_row(dict.fromkeys(row["labels"], 1), known=0.0) for row, _, _ in read])
    targets[:, HEADS.index("toxic")] = np.nan
    return Examples(
        texts=tuple(text for _, _, text in read),
        targets=targets,
        source=np.full(len(read), OWN_ADS),
        licence=np.full(len(read), "open"),
        lang=np.array([row["lang"] for row, _, _ in read]),
        kind=np.array([kind for _, kind, _ in read]),
        group=np.array([row["id"] for row, _, _ in read]),
        region=np.full(len(read), ""),
    )


def _left(row: Mapping[str, Any], copies: int) -> list[str]:
    """Return what is left of an ad after disguises of its own are undone; without those that are undone in full."""
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(row["id"].encode()).digest()[:8], "big"))
    plain = ad_text(row)
    left = dict.fromkeys(canonical(disguise(plain, rng)) for _ in range(copies))
    left.pop(canonical(plain), None)
    return list(left)


def canonical(text: str) -> str:
    """Return a text as serving reads it."""
    return normalise(text).canonical


def ad_text(row: Mapping[str, Any]) -> str:
    """Return an ad's text as serving builds it: its fields joined in their order."""
    return join_fields(ad_fields(row)).text


def concatenate(parts: Sequence[Examples]) -> Examples:
    """Return all examples of `parts`, one part after the other."""
    return Examples(
        texts=tuple(text for part in parts for text in part.texts),
        targets=np.concatenate([part.targets for part in parts]),
        source=np.concatenate([part.source for part in parts]),
        licence=np.concatenate([part.licence for part in parts]),
        lang=np.concatenate([part.lang for part in parts]),
        kind=np.concatenate([part.kind for part in parts]),
        group=np.concatenate([part.group for part in parts]),
        region=np.concatenate([part.region for part in parts]),
    )
