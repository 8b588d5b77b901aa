"""Is the evidence what the head looked at? Deleting it must cost more than deleting an equally long random span."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.datasets import Suite
from eval.metrics.intervals import wilson
from eval.scores import Scorer
from retrieval_shared.text import join_fields

RANDOM_SPANS = 6
"""Random spans per evidence span: as many as the candidates that the evidence is the best of."""


@dataclass(frozen=True)
class Span:
    """The heaviest evidence of one head on one item."""

    head: str
    """The head it speaks for."""
    field: str
    """The field it lies in."""
    start: int
    """First code point."""
    end: int
    """One past the last."""


def faithfulness_report(decisions: Sequence[Any], suite: Suite, scorer: Scorer, *, seed: int) -> dict[str, Any]:
    """Return per head the mean drop by deleting evidence and by deleting random spans, and how often the first wins.

    `wins` are against the mean of the random spans, `wins_best` against the best of them, which has as many tries.

    Args:
        decisions: what `Moderator.moderate` said about the suite's ads, in their order, with evidence.
        suite: ads with fields.
        scorer: the same model's probabilities.
        seed: of the random spans.
    """
    spans = [heaviest_spans(decision) for decision in decisions]
    rng = np.random.default_rng(seed)
    cases = [
        (dict(row.fields), span, [random_span(row.fields, span, rng=rng) for _ in range(RANDOM_SPANS)])
        for row, of_row in zip(suite.rows, spans, strict=True)
        for span in of_row
        if span.end - span.start < len(row.fields[span.field])  # nothing would be left of the field to compare with
    ]
    texts = [
        text
        for fields, span, others in cases
        for text in (join_fields(fields).text, *(without(fields, s) for s in (span, *others)))
    ]
    scores = scorer(texts, what="evidence").reshape(len(cases), RANDOM_SPANS + 2, len(scorer.heads))
    by_head: dict[str, list[NDArray[np.float32]]] = {}
    for (_, span, _), values in zip(cases, scores, strict=True):
        by_head.setdefault(span.head, []).append(values[:, scorer.heads.index(span.head)])
    return {
        "n": len(cases),
        "random_spans": RANDOM_SPANS,
        "heads": [_drops(head, np.stack(by_head[head])) for head in scorer.heads if head in by_head],
    }


def heaviest_spans(decision: Any) -> list[Span]:  # noqa: ANN401 - a decision, or a stand-in of one
    """Return the heaviest non-empty piece of the model's evidence of every entry of a decision's first region."""
    if decision.status != "ok" or not decision.decisions:
        return []
    found = []
    for entry in decision.decisions[0].entries:
        pieces = [piece for piece in entry.evidence if piece.source == "model" and piece.end > piece.start]
        if pieces:
            best = max(pieces, key=lambda piece: piece.weight)
            found.append(Span(entry.policy, best.field, best.start, best.end))
    return found


def random_span(fields: Mapping[str, str], span: Span, *, rng: np.random.Generator) -> Span:
    """Return a span of the same head, field and length at a uniformly random place of the field."""
    length = span.end - span.start
    start = int(rng.integers(0, len(fields[span.field]) - length + 1))
    return Span(span.head, span.field, start, start + length)


def without(fields: Mapping[str, str], span: Span) -> str:
    """Return the joined text of the fields with the span deleted; a space if nothing else is left."""
    value = fields[span.field]
    kept = {**fields, span.field: value[: span.start] + value[span.end :]}
    return join_fields({name: text for name, text in kept.items() if text}).text or " "


def _drops(head: str, values: NDArray[np.float32]) -> dict[str, Any]:
    """Return one head's row; values [k, 2 + RANDOM_SPANS]: whole text, without evidence, without random spans."""
    evidence = values[:, 0] - values[:, 1]
    random = values[:, 0] - values[:, 2:].mean(1)
    wins = int((evidence > random).sum())
    best = values[:, 0] - values[:, 2:].min(1)
    return {
        "head": head,
        "n": int(evidence.size),
        "drop_evidence": float(evidence.mean()),
        "drop_random": float(random.mean()),
        "wins": wins / evidence.size,
        "interval": wilson(wins, int(evidence.size)),
        "wins_best": float((evidence > best).mean()),
    }
