"""The HTTP routes in the shape of Google's Perspective API."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import APIRouter, Request
from numpy.typing import NDArray

from moderation.auth import Scope
from moderation.compat.perspective import (
    ATTRIBUTES,
    AnalyzeRequest,
    SuggestRequest,
    parse_analyze,
    parse_suggest,
    render_analyze,
    render_suggest,
)
from moderation.compat.perspective_discovery import discovery_document
from moderation.compat.perspective_languages import language_code, with_supported_attributes
from moderation.compat.perspective_scores import MAPPING_FILE, ScoreMapping, attribute_scores
from moderation.compat.sentences import split_sentences
from moderation.decision import SURE_LANGUAGE
from moderation.openapi import comments
from moderation.profanity import Profanity
from moderation.request import caller_of, google_key, read_body, read_bytes
from retrieval_shared.language import UNDETERMINED, Language
from retrieval_shared.text import normalise

if TYPE_CHECKING:
    from moderation.api import ModerationApi
    from moderation.metrics import ModerationMetrics
    from moderation.scorer import Scorer

PREFIX = "/v1alpha1"
DISCOVERY = "/$discovery/rest"
PROFANITY = "PROFANITY"
"""The attribute that the list stands for, and no head."""
UNSURE_READ_AS = "en"
"""Language of a comment too short to tell, which every attribute can be scored in."""


@dataclass(frozen=True)
class Perspective:
    """What scores comments beside the model."""

    profanity: Profanity
    mapping: ScoreMapping

    @classmethod
    def beside(cls, bundle: Path) -> Perspective:
        """The shipped profanity list, and the mapping that lies in a bundle's folder."""
        return cls(Profanity.load(), ScoreMapping.load(bundle / MAPPING_FILE))

    def analyze(self, model: Scorer, asked: AnalyzeRequest, *, metrics: ModerationMetrics) -> dict[str, Any]:
        """The answer of comments:analyze; nothing is decided and nothing is stored, whatever `doNotStore` says.

        Args:
            model: scores.
            asked: the request.
            metrics: where the time that it takes to score is counted.

        Raises:
            PerspectiveError: the language is not known, or an attribute does not support it.
            ScoringError: the encoder failed.
        """
        detected = [_read_as(model.language(asked.text))]
        asked = with_supported_attributes(asked, detected=detected, supported=self._supported(model))
        codes = dict.fromkeys(language_code(tag) for tag in asked.languages or detected)
        wanted = tuple(codes) if any(each.attribute == PROFANITY for each in asked.attributes) else ()
        places = split_sentences(asked.text) if asked.span_annotations else ()
        texts = [asked.text, *(asked.text[start:end] for start, end in places)]
        with metrics.stage("score"):
            rows = model.probabilities(texts)  # [texts, H]
        whole, *parts = (self._scores(model, row, text, wanted) for row, text in zip(rows, texts, strict=True))
        spans = [(start, end, scores) for (start, end), scores in zip(places, parts, strict=True)]
        return render_analyze(asked, whole, spans, detected)

    def _scores(self, model: Scorer, row: NDArray[np.float32], text: str, languages: Sequence[str]) -> dict[str, float]:
        """The scores of one text, by attribute.

        Args:
            model: names the heads.
            row: `[H]`, its probabilities.
            text: as sent.
            languages: codes of those in which profanity is looked for; empty: PROFANITY is not scored.
        """
        probabilities = {head: float(value) for head, value in zip(model.heads, row, strict=True)}
        profanity = self.profanity.score(normalise(text).canonical, languages) if languages else None
        return attribute_scores(probabilities, profanity=profanity, mapping=self.mapping)

    def _supported(self, model: Scorer) -> Mapping[str, frozenset[str]]:
        """Attribute -> the languages it can be scored in."""
        read = frozenset(model.bundle.manifest.languages)
        return {name: self.profanity.languages if name == PROFANITY else read for name in ATTRIBUTES}


def perspective_router(current: Callable[[], ModerationApi]) -> APIRouter:
    """The routes over the API that `current` returns at each request."""
    router = APIRouter(tags=["Perspective"])

    def authorised(request: Request) -> ModerationApi:
        api = current()
        api.keys.authorise(caller_of(request, key=google_key(request)), Scope.MODERATE)
        return api

    @router.post(f"{PREFIX}/comments:analyze", **comments.ANALYZE.post())
    async def analyze(request: Request) -> dict[str, Any]:
        """Scores a comment under Perspective's attributes; stores nothing."""
        api = authorised(request)
        # Whatever its type: many clients send none. Nothing is stored, so a web page that gets so far changes nothing.
        asked = parse_analyze(await read_bytes(request))
        return await api.run(lambda wanted: analyzed(api, wanted), asked)

    @router.post(f"{PREFIX}/comments:suggestscore", **comments.SUGGEST.post())
    async def suggest(request: Request) -> dict[str, Any]:
        """Takes a client's own view of a comment into the review queue."""
        api = authorised(request)
        asked = parse_suggest(await read_body(request))
        return await api.run(lambda wanted: suggested(api, wanted), asked)

    @router.get(DISCOVERY, **comments.DISCOVERY.get())
    async def discovery(request: Request) -> dict[str, Any]:
        """Describes these routes to Google's API clients."""
        return discovery_document(str(request.base_url))

    return router


def _read_as(found: Language) -> str:
    """The code of the language that a comment is read in where the request names none.

    Of a word or two the identifier often says a language far off: `lol` would be Uzbek, and refused.
    """
    told = found.supported or found.confidence >= SURE_LANGUAGE or found.code == UNDETERMINED
    return found.code if told else UNSURE_READ_AS


def analyzed(api: ModerationApi, asked: AnalyzeRequest) -> dict[str, Any]:
    """The answer of comments:analyze, by one model from beginning to end.

    Raises:
        PerspectiveError: the language is not known, or an attribute does not support it.
        ScoringError: the encoder failed.
    """
    serving = api.current()
    return serving.perspective.analyze(serving.moderator, asked, metrics=api.metrics)


def suggested(api: ModerationApi, asked: SuggestRequest) -> dict[str, Any]:
    """The answer to a suggestion, which now waits in the review queue.

    Raises:
        Problem: nothing could be stored.
    """
    serving = api.current()
    api.suggest(asked.text, asked.scores, community=asked.community_id, serving=serving)
    return render_suggest(asked, [_read_as(serving.moderator.language(asked.text))])
