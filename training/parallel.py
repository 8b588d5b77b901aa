"""Parallel text: English sentences with their translations, packed as token ids, and pairs drawn from them."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray
from tokenizers import Tokenizer

log = structlog.get_logger()

ENGLISH = "en"
_BATCH = 50_000


@dataclass(frozen=True)
class Sentences:
    """S sentences with the language, the source and the meaning of each."""

    texts: tuple[str, ...]
    """The sentences."""
    lang: NDArray[np.str_]
    """`[S]`, language tags."""
    source: NDArray[np.str_]
    """`[S]`, the data set each comes from."""
    english: NDArray[np.int64]
    """`[S]`, the number of the English sentence each translates; its own for an English one."""

    def __len__(self) -> int:
        """Return S."""
        return len(self.texts)


def load_parallel(folder: Path) -> Sentences:
    """Return all sentences of `part-*.jsonl(.xz)` in `folder`; an English sentence that comes again is kept once.

    Raises:
        FileNotFoundError: there is no such file; the message says what is wanted.
    """
    paths = sorted([*folder.glob("part-*.jsonl.xz"), *folder.glob("part-*.jsonl")])
    if not paths:
        raise FileNotFoundError(
            f"no parallel text (part-*.jsonl.xz) in {folder}: name the data folder with --data or WARDLINE_DATA; "
            "training/data/README.md gives its form and the public sources"
        )
    texts: list[str] = []
    lang: list[str] = []
    source: list[str] = []
    english: list[int] = []
    numbers: dict[str, int] = {}
    for path in paths:
        for row in _rows(path):
            number = numbers.setdefault(row["en"], len(texts))
            if number == len(texts):
                texts.append(row["en"])
                lang.append(ENGLISH)
                source.append(row["source"])
                english.append(number)
            for tag, text in row["translations"].items():
                texts.append(text)
                lang.append(tag)
                source.append(row["source"])
                english.append(number)
        log.info("parallel text", file=path.name, sentences=len(texts))
    return Sentences(tuple(texts), np.array(lang), np.array(source), np.array(english, dtype=np.int64))


def _rows(path: Path) -> Iterator[Any]:
    open_text = lzma.open if path.suffix == ".xz" else open
    with open_text(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


@dataclass(frozen=True)
class PackedTokens:
    """Token ids of S sentences, without special tokens, one after the other."""

    ids: NDArray[np.uint16]
    """`[sum of tokens]`."""
    offsets: NDArray[np.int64]
    """`[S + 1]`; sentence i holds `ids[offsets[i]:offsets[i + 1]]`."""

    def bags(self, rows: NDArray[np.intp]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the ids of `rows`, joined, and where each begins `[len(rows)]`."""
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        places = np.repeat(self.offsets[rows] - starts[:-1], lengths) + np.arange(starts[-1])
        return self.ids[places].astype(np.int64), starts[:-1].astype(np.int64)


def pack(tokenizer: Tokenizer, texts: Sequence[str], *, max_tokens: int) -> PackedTokens:
    """Return the ids of all texts, each cut to `max_tokens`.

    Raises:
        ValueError: the vocabulary does not fit 16 bits.
    """
    if tokenizer.get_vocab_size() > 1 << 16:
        raise ValueError(f"vocabulary: found {tokenizer.get_vocab_size()}, allowed at most {1 << 16}")
    parts: list[NDArray[np.uint16]] = []
    lengths: list[int] = []
    for start in range(0, len(texts), _BATCH):
        batch = tokenizer.encode_batch_fast(list(texts[start : start + _BATCH]), add_special_tokens=False)
        rows = [encoding.ids[:max_tokens] for encoding in batch]
        lengths += map(len, rows)
        parts.append(np.array([i for row in rows for i in row], dtype=np.uint16))
        log.info("tokens", sentences=min(start + _BATCH, len(texts)), of=len(texts))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return PackedTokens(ids=np.concatenate(parts) if parts else np.zeros(0, np.uint16), offsets=offsets)


def pair_chances(
    sentences: Sentences, *, alpha: float, caps: Mapping[str, float], weights: Mapping[str, float] | None = None
) -> NDArray[np.float64]:
    """Return the chance of each sentence to be drawn with its English one, `[S]`, summing to 1; 0 for English.

    A language's chance goes with its number of pairs to the power `alpha` (temperature sampling, Conneau et al. 2020,
    arXiv 1911.02116, section 3.1), a sentence's within its language with the weight of its source; then the sources
    that start with a key of `caps` are held to that share of all.

    Args:
        sentences: S sentences.
        alpha: in [0, 1]; 1 keeps the proportions, 0 makes all languages equal.
        caps: start of a source's name -> its largest share, in (0, 1).
        weights: start of a source's name -> how much more often it is drawn; 1 for the others.
    """
    _, number, counts = np.unique(sentences.lang, return_inverse=True, return_counts=True)
    chances = np.where(sentences.lang != ENGLISH, 1.0, 0.0)
    for name, weight in (weights or {}).items():
        chances[np.char.startswith(sentences.source, name)] *= weight
    of_language = np.bincount(number, weights=chances)
    share = counts**alpha / np.where(of_language > 0, of_language, 1.0)
    chances *= share[number]
    chances /= chances.sum()
    for name, cap in caps.items():
        capped = np.char.startswith(sentences.source, name)
        share = chances[capped].sum()
        if share > cap:
            chances[capped] *= cap / share * (1 - share) / (1 - cap) if share < 1 else 1.0
            chances /= chances.sum()
    return chances


def with_siblings(
    rows: NDArray[np.int64], english: NDArray[np.int64], *, siblings: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Return each of `rows` with up to `siblings` other translations of its English sentence, drawn at random.

    One pass over an English sentence then serves several pairs.

    Args:
        rows: `[n]`, numbers of translations.
        english: `[S]`, the number of the English sentence each sentence translates; its own for an English one.
        siblings: at least 0.
        rng: draws them.
    """
    translations = np.flatnonzero(english != np.arange(len(english)))
    order = translations[np.argsort(english[translations], kind="stable")]  # translations of one sentence together
    keys = english[order]
    firsts, lasts = (np.searchsorted(keys, english[rows], side=side) for side in ("left", "right"))
    groups = []
    for row, first, last in zip(rows, firsts, lasts, strict=True):
        others = order[first:last][order[first:last] != row]
        groups.append(np.append(row, rng.permutation(others)[:siblings]))
    return groups
