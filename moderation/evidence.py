"""Evidence: the stretch of a text that a head's probability hangs on, under the slot it was judged under.

Attention proposes, occlusion decides. Where a head looks is a guess about why it fired, not a reason (Jain and Wallace
2019, "Attention is not explanation"); so the words it looks at most are only candidates, and the one kept is that whose
deletion lowers the probability most (Li, Monroe and Jurafsky 2016, "Understanding neural networks through
representation erasure", arXiv 1612.08220). The report measures the result against deleting random stretches of the
same length.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from moderation.classifier import SLOT, Classifier
from moderation.decision import Evidence
from moderation.signals import quote

if TYPE_CHECKING:
    from moderation.rules import RuleMatch
    from retrieval_shared.text import FieldText, NormalisedText

CANDIDATES = 6
"""Stretches tried per head; each costs one pass over the text."""
WORDS = 4
"""Words of a stretch."""
MAX_LEXICON_EVIDENCE = 3
"""Terms of the lexicon shown per head and item."""
_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class Span:
    """A stretch of a text and what it carries."""

    start: int
    """First code point."""
    end: int
    """One past the last code point."""
    drop: float
    """How much the head's probability falls when the stretch is deleted; at most the probability itself."""


def find_evidence(
    classifier: Classifier,
    text: FieldText,
    normalised: NormalisedText,
    *,
    fired: Mapping[str, Sequence[str]],
    terms: Iterable[RuleMatch],
) -> dict[str, dict[str, list[Evidence]]]:
    """Return evidence per slot and head, its spans counted in the fields as they were sent.

    Each slot explains what fired under it, with one search for all of its heads; terms of the lexicon follow.

    Args:
        classifier: the heads.
        text: the item's fields.
        normalised: `normalise(text.text)`.
        fired: slot -> the heads to explain under it.
        terms: what the lexicon found in the canonical text.

    Raises:
        ScoringError: the encoder failed.
    """
    shown = _quote_terms(text, normalised, terms)
    found: dict[str, dict[str, list[Evidence]]] = {}
    for slot, heads in fired.items():
        spans = find_spans(classifier, normalised.canonical, heads, slot=slot)
        found[slot] = {head: [] for head in heads}
        for head, span in spans.items():
            start, end = normalised.original_span(span.start, span.end)
            found[slot][head].append(quote(text, start, end, weight=span.drop, source="model"))
        for head in heads:
            found[slot][head] += shown.get(head, [])
    return found


def _quote_terms(
    text: FieldText, normalised: NormalisedText, terms: Iterable[RuleMatch]
) -> dict[str, list[Evidence]]:  # fmt: skip
    """Return the first `MAX_LEXICON_EVIDENCE` terms of each head as evidence."""
    shown: dict[str, list[Evidence]] = {}
    for term in terms:
        if len(shown.setdefault(term.head, [])) < MAX_LEXICON_EVIDENCE:
            start, end = normalised.original_span(term.start, term.end)
            shown[term.head].append(quote(text, start, end, weight=0.0, source="rule"))
    return shown


def find_spans(classifier: Classifier, reading: str, heads: Sequence[str], *, slot: str = SLOT) -> dict[str, Span]:
    """Return for each head the stretch of `reading` whose deletion lowers its probability under a slot most.

    A head whose probability no candidate lowers gets no span.

    Args:
        classifier: the heads.
        reading: the text as it was scored, in canonical form.
        heads: names of the heads to explain.
        slot: the adapter slot to explain them under.

    Raises:
        ScoringError: the encoder failed.
    """
    words = [match.span() for match in _WORD.finditer(reading)]
    if not words or not heads:
        return {}
    attention = _word_attention(classifier, reading, words, slot=slot)  # [H, words]
    numbers = [classifier.heads.index(head) for head in heads]
    windows = {number: _windows(attention[number]) for number in numbers}
    unique = sorted({window for per_head in windows.values() for window in per_head})
    deleted = [delete(reading, words[first][0], words[last][1]) for first, last in unique]
    scores = classifier.probabilities([reading, *deleted], slot=slot)  # [1 + windows, H]
    found: dict[str, Span] = {}
    for head, number in zip(heads, numbers, strict=True):
        drops = {
            window: float(scores[0, number] - scores[1 + unique.index(window), number]) for window in windows[number]
        }
        best = max(drops, key=lambda window: drops[window])
        if drops[best] > 0:
            found[head] = Span(start=words[best[0]][0], end=words[best[1]][1], drop=drops[best])
    return found


def delete(text: str, start: int, end: int) -> str:
    """Return `text` without the code points from `start` to `end`, with no double space left behind."""
    return f"{text[:start].rstrip(' ')} {text[end:].lstrip(' ')}".strip()


def _word_attention(
    classifier: Classifier, reading: str, words: Sequence[tuple[int, int]], *, slot: str
) -> NDArray[np.float32]:
    """Return each head's attention `[H, words]`: the sum over a word's tokens, the largest of the chunks."""
    starts = np.array([start for start, _ in words])
    attention = np.zeros((len(classifier.heads), len(words)), dtype=np.float32)
    for chunk, weights in classifier.encoder.attention(reading, slot=slot):
        here = np.zeros_like(attention)
        for token, (start, end) in enumerate(chunk.spans):
            if end > start:
                here[:, np.searchsorted(starts, start, side="right") - 1] += weights[:, token]
        attention = np.maximum(attention, here)
    return attention


def _windows(weights: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Return up to `CANDIDATES` stretches `(first word, last word)` with the most attention, no two the same."""
    width = min(WORDS, len(weights))
    sums = np.convolve(weights, np.ones(width), mode="valid")  # [len - width + 1]
    windows: list[tuple[int, int]] = []
    for first in np.argsort(-sums, kind="stable"):
        # Neighbours that overlap by more than half say the same thing.
        if all(abs(int(first) - other) >= (width + 1) // 2 for other, _ in windows):
            windows.append((int(first), int(first) + width - 1))
        if len(windows) == CANDIDATES:
            break
    return windows
