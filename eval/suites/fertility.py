"""How finely a tokenizer cuts each language, and how much of it the vocabulary does not know."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from eval.sentences import Pool

CountTokens = Callable[[str], int]
"""Text in, number of tokens out, special tokens not counted."""
TokenSource = Tokenizer | CountTokens

NO_SPACES = frozenset({"zh", "zho", "ja", "jpn", "th", "tha"})
"""Languages that write no space between words; they are counted by character."""

LANGUAGE_OF_ORIGINAL = "eng"


@dataclass(frozen=True)
class TokenCount:
    """The tokens of some texts."""

    tokens: int
    """How many."""
    unknown: int | None
    """Of them the unknown token; None where the counter cannot tell."""


def fertility_report(pools: Sequence[Pool], source: TokenSource) -> dict[str, Any]:
    """Return tokens per word and the share of unknown tokens per language, English first.

    A word is what stands between white space. Of languages that write no spaces it is tokens per character, white
    space not counted: the two are not alike and have means of their own (NaN without such a language). Sums over all
    sentences are divided, not sentence by sentence.

    Args:
        pools: parallel sentences; each distinct English one counts once.
        source: a tokenizer, or a function that counts tokens (then unknown ones are not told).
    """
    english = list(dict.fromkeys(text for pool in pools for text in pool.english))
    texts = {LANGUAGE_OF_ORIGINAL: english, **{pool.language: list(pool.translations) for pool in pools}}
    table = [_record(language, sentences, source) for language, sentences in texts.items()]
    words = [record["fertility"] for record in table if record["unit"] == "word"]
    characters = [record["fertility"] for record in table if record["unit"] == "character"]
    shares = [record["unknown"] for record in table if record["unknown"] is not None]
    return {
        "n": sum(record["n"] for record in table),
        "mean_per_word": float(np.mean(words)) if words else float("nan"),
        "mean_per_character": float(np.mean(characters)) if characters else float("nan"),
        "mean_unknown": float(np.mean(shares)) if shares else None,
        "languages": table,
    }


def writes_no_spaces(language: str) -> bool:
    """Return whether a language name (`zho-CN`, `ja`) is one of those that write no spaces."""
    return language.replace("_", "-").split("-")[0].lower() in NO_SPACES


def count(texts: Sequence[str], source: TokenSource, *, special: bool = False) -> TokenCount:
    """Return how many tokens the texts have.

    Args:
        texts: n texts.
        source: a tokenizer, or a function that counts tokens.
        special: count the special tokens that a tokenizer puts around each text too.

    Raises:
        ValueError: a count is negative.
    """
    if not isinstance(source, Tokenizer):
        counts = [int(source(text)) for text in texts]
        if min(counts, default=0) < 0:
            raise ValueError(f"count_tokens: found {min(counts)}, allowed 0 and up")
        return TokenCount(sum(counts), None)
    document = source.to_str()
    own = Tokenizer.from_str(document)  # the caller's keeps its padding and truncation
    own.no_padding()
    own.no_truncation()
    unknown = _unknown_id(own, json.loads(document)["model"])
    ids = [encoding.ids for encoding in own.encode_batch(list(texts), add_special_tokens=special)]
    known = None if unknown is None else sum(each.count(unknown) for each in ids)
    return TokenCount(sum(map(len, ids)), known)


def _record(language: str, texts: Sequence[str], source: TokenSource) -> dict[str, Any]:
    unit = "character" if writes_no_spaces(language) else "word"
    words = [word for text in texts for word in text.split()]
    units = sum(map(len, words)) if unit == "character" else len(words)
    counted = count(texts, source)
    known = counted.unknown is not None and counted.tokens > 0
    return {
        "language": language,
        "n": len(texts),
        "unit": unit,
        "units": units,
        "tokens": counted.tokens,
        "fertility": counted.tokens / units if units else float("nan"),
        "unknown": (counted.unknown or 0) / counted.tokens if known else None,
    }


def _unknown_id(tokenizer: Tokenizer, model: dict[str, Any]) -> int | None:
    """Return the id of the unknown token; None for a model without one (bytes know everything)."""
    if model.get("unk_id") is not None:
        return int(model["unk_id"])
    token = model.get("unk_token")
    found = tokenizer.token_to_id(token) if token else None
    return None if found is None else int(found)
