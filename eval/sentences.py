"""The sentences an encoder is measured on: translations, pairs with a similarity, texts with a topic."""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from retrieval_shared.records import read_records

NTREX, TATOEBA = "parallel/eval/ntrex_dev.tsv.xz", "parallel/eval/tatoeba.tsv.xz"
"""Lines of language, English sentence, translation."""
SIMILARITY = "parallel/eval/stsb_dev.tsv.xz"
"""Lines of language, split, score, two sentences."""
TOPICS_TRAIN, TOPICS_DEV = "topics/sib200/train.jsonl.xz", "topics/sib200/dev.jsonl.xz"
"""Records with `lang`, `id` (of the sentence, the same in every language), `label` and `text`."""

HIGHEST_SCORE = 5.0

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Pool:
    """The sentence pairs of one language; a sentence is looked for among all n of them."""

    language: str
    """Language or variety, as the file names it."""
    english: tuple[str, ...]
    """n sentences."""
    translations: tuple[str, ...]
    """Their translations, n."""

    def thinned(self, limit: int, *, seed: int) -> Pool:
        """Return at most `limit` pairs, drawn without replacement, in their order.

        Pools of one length keep the same places, so that parallel ones stay parallel.
        """
        kept = _drawn(len(self.english), limit, seed)
        return Pool(self.language, tuple(self.english[i] for i in kept), tuple(self.translations[i] for i in kept))


@dataclass(frozen=True)
class ScoredPairs:
    """Sentence pairs of one language whose likeness people have scored."""

    language: str
    """Language."""
    scores: tuple[float, ...]
    """n scores from 0 (nothing in common) to 5 (the same)."""
    first: tuple[str, ...]
    """n sentences."""
    second: tuple[str, ...]
    """n sentences."""

    def thinned(self, limit: int, *, seed: int) -> ScoredPairs:
        """Return at most `limit` pairs, drawn without replacement, in their order."""
        kept = _drawn(len(self.scores), limit, seed)
        return ScoredPairs(
            language=self.language,
            scores=tuple(self.scores[i] for i in kept),
            first=tuple(self.first[i] for i in kept),
            second=tuple(self.second[i] for i in kept),
        )


@dataclass(frozen=True)
class TopicRows:
    """Sentences of one language with their topics."""

    language: str
    """Language and script, such as deu_Latn."""
    ids: tuple[str, ...]
    """n names of the sentences; a translation has the name of its original."""
    labels: tuple[str, ...]
    """n topics."""
    texts: tuple[str, ...]
    """n sentences."""

    def thinned(self, limit: int, *, seed: int) -> TopicRows:
        """Return at most `limit` rows, drawn without replacement, in their order."""
        kept = _drawn(len(self.ids), limit, seed)
        ids, labels, texts = ([column[i] for i in kept] for column in (self.ids, self.labels, self.texts))
        return TopicRows(self.language, tuple(ids), tuple(labels), tuple(texts))


@dataclass(frozen=True)
class Topics:
    """Both splits of the topic rows; no sentence stands in both, in whatever language."""

    train: tuple[TopicRows, ...]
    """Per language."""
    dev: tuple[TopicRows, ...]
    """Per language."""


def load_pools(data_dir: Path, name: str) -> tuple[Pool, ...]:
    """Return the pools of `NTREX` or `TATOEBA`, languages in the order of the file.

    Raises:
        ValueError: the file is missing, has no lines, or a line has not three columns with text.
    """
    rows = _by_language(_lines(data_dir / name, columns=3))
    return tuple(Pool(key, tuple(r[1] for r in lines), tuple(r[2] for r in lines)) for key, lines in rows.items())


def load_scored_pairs(data_dir: Path) -> tuple[ScoredPairs, ...]:
    """Return the pairs of the split `dev` per language.

    Raises:
        ValueError: the file is missing, has no such lines, or a line has not five columns with a score from 0 to 5.
    """
    path = data_dir / SIMILARITY
    rows = _by_language(row for row in _lines(path, columns=5) if row[1] == "dev")
    if not rows:
        raise ValueError(f"split: found no line of 'dev' in {path.name}")
    return tuple(
        ScoredPairs(
            language=key,
            scores=tuple(_score(r[2], path.name) for r in lines),
            first=tuple(r[3] for r in lines),
            second=tuple(r[4] for r in lines),
        )
        for key, lines in rows.items()
    )


def load_topics(data_dir: Path) -> Topics:
    """Return both splits as given.

    Raises:
        ValueError: a file is missing, a row lacks a field, or a sentence stands in both splits.
    """
    topics = Topics(train=_topic_rows(data_dir / TOPICS_TRAIN), dev=_topic_rows(data_dir / TOPICS_DEV))
    seen, asked = ({i for rows in split for i in rows.ids} for split in (topics.train, topics.dev))
    if seen & asked:
        raise ValueError(f"id: found {len(seen & asked)} sentences in both splits, such as {min(seen & asked)!r}")
    return topics


def _topic_rows(path: Path) -> tuple[TopicRows, ...]:
    _check_file(path)
    languages: dict[str, list[list[str]]] = {}
    for number, record in enumerate(read_records(path), 1):
        values = [str(record.get(key) or "") for key in ("lang", "id", "label", "text")]
        if not all(values):
            raise ValueError(f"row {number} of {path.name}: found {sorted(record)}, expected lang, id, label and text")
        languages.setdefault(values[0], []).append(values)
    return tuple(
        TopicRows(key, *(tuple(row[column] for row in rows) for column in (1, 2, 3))) for key, rows in languages.items()
    )


def _lines(path: Path, *, columns: int) -> Iterator[list[str]]:
    _check_file(path)
    # Only a line feed ends a line: sentences may hold other characters that Python takes for line ends.
    with lzma.open(path, "rt", encoding="utf-8", newline="\n") as file:
        number = 0
        for number, line in enumerate(file, 1):
            row = line.rstrip("\n").split("\t")
            if len(row) != columns or not all(cell.strip() for cell in row):
                raise ValueError(
                    f"line {number} of {path.name}: found {len(row)} columns, expected {columns} with text"
                )
            yield row
    if not number:
        raise ValueError(f"data: found no lines in {path.name!r}")


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise ValueError(
            f"data: found no file {path.name!r} in {path.parent.name!r}; training/data/README.md names the sources"
        )


def _by_language(rows: Iterable[list[str]]) -> dict[str, list[list[str]]]:
    languages: dict[str, list[list[str]]] = {}
    for row in rows:
        languages.setdefault(row[0], []).append(row)
    return languages


def _score(cell: str, file: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= HIGHEST_SCORE:
        raise ValueError(f"score: found {cell!r} in {file}, allowed 0 to {HIGHEST_SCORE:g}")
    return value


def _drawn(n: int, limit: int, seed: int) -> NDArray[np.int64]:
    if n <= limit:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, size=limit, replace=False))
