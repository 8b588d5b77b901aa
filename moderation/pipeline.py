"""The moderation pipeline: items in, one decision per item out, in their order, whatever happens to a single one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from moderation.classifier import SLOT, Classifier, Scores
from moderation.decision import (
    Decision,
    Evidence,
    RegionDecision,
    decide,
    decide_failed,
    escalate_unsupported,
    with_evidence,
)
from moderation.evidence import find_spans
from moderation.item import Item, read_item
from moderation.policy import Policy
from moderation.policy_document import load_policy
from moderation.regions import check_region
from moderation.rules import RuleSignal
from moderation.signal_sources import NO_SOURCES, SignalSources
from moderation.signals import apply_signals, quote, with_places
from moderation.thresholds import load_thresholds
from retrieval_shared.bundle import BASE_WEIGHTS, CALIBRATION, GRAPH, THRESHOLDS, Bundle, load_bundle
from retrieval_shared.errors import BundleError, ScoringError
from retrieval_shared.language import Language, LanguageIdentifier
from retrieval_shared.text import FieldText, NormalisedText, join_fields, normalise

log = structlog.get_logger()

MAX_LEXICON_EVIDENCE = 3
"""Terms of the lexicon shown per head and item."""


@dataclass(frozen=True)
class Basis:
    """What decides beside the model, the same for every item of a call."""

    policy: Policy
    sources: SignalSources = NO_SOURCES
    explain: bool = True


@dataclass(frozen=True)
class Moderated:
    """What was decided, and how much there was to read."""

    decisions: list[Decision]
    """One per item, in their order."""
    tokens: int
    """Tokens read, special tokens not counted; where chunks of a long text overlap, tokens are read twice."""


def _now() -> datetime:
    return datetime.now(UTC)


class Moderator:
    """Reads ads and decides about them, per target region.

    Example:
        >>> from moderation import Moderator
        >>> moderator = Moderator.load()
        >>> ad = {"id": "a1", "text": "Bet £10, get £30 in free bets on any match. 18+"}
        >>> [decision] = moderator.moderate([ad], regions=["GB", "AE"])
        >>> [(region.region, str(region.action)) for region in decision.decisions]
        [('GB', 'limit'), ('AE', 'reject')]
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        policy: Policy,
        sources: SignalSources = NO_SOURCES,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._clock = clock
        self._sources = sources
        self.bundle = bundle
        self.policy = policy
        self._classifier = Classifier(bundle)
        try:
            self.thresholds = load_thresholds(bundle.file(THRESHOLDS))
        except ValueError as error:
            raise BundleError(f"bundle {bundle.path}: {error}") from error
        self._check_heads()
        self._lexicon = RuleSignal.load()
        self._identifier = LanguageIdentifier(frozenset(bundle.manifest.languages))

    @classmethod
    def load(
        cls,
        path: Path | str | None = None,
        *,
        policy: str | Path | Policy = "ads-default",
        sources: SignalSources = NO_SOURCES,
    ) -> Moderator:
        """Return a moderator over the bundle at `path` (None: the shipped one), a policy, and rules and bank.

        Raises:
            BundleError: the bundle is missing, damaged, or lacks a head the policy names.
            ValueError: the policy is unknown or malformed.
        """
        decides = policy if isinstance(policy, Policy) else load_policy(policy)
        return cls(load_bundle(path), policy=decides, sources=sources)

    @property
    def heads(self) -> tuple[str, ...]:
        """Return the names of the H heads, in the order of `probabilities`."""
        return self._classifier.heads

    @property
    def languages(self) -> tuple[str, ...]:
        """Return the languages the bundle was measured to read."""
        return self.bundle.manifest.languages

    def language(self, text: str) -> Language:
        """Return the language of a text, its disguises undone."""
        return self._identifier.identify(normalise(text).canonical)

    @property
    def classifier(self) -> Classifier:
        """Return the classifier behind the decisions."""
        return self._classifier

    @property
    def versions(self) -> dict[str, str]:
        """Return what a decision depends on, for the record."""
        return self._versions(Basis(self.policy, self._sources))

    def _versions(self, basis: Basis) -> dict[str, str]:
        policy = basis.policy
        manifest = self.bundle.manifest
        graph = self.bundle.sha256(GRAPH)[:12]
        return {
            "bundle": f"{manifest.name}@{manifest.version}+{manifest.digest[:12]}",
            "encoder": self.bundle.sha256(BASE_WEIGHTS)[:12],
            "adapter": f"{SLOT}@{graph}",
            "heads": graph,
            "calibration": self.bundle.sha256(CALIBRATION)[:12],
            "thresholds": self.thresholds.id,
            "policy_set": policy.ref,
            "policy_digest": policy.digest[:12],
            **basis.sources.versions,
        }

    def probabilities(self, texts: Sequence[str], region: str | None = None) -> NDArray[np.float32]:
        """Return calibrated probabilities float32 `[n, H]` in [0, 1].

        Args:
            texts: n texts.
            region: target region; this bundle has no region adapters, so it only has to be a known one.

        Raises:
            ValueError: `texts` is one string or the region is unknown.
            ScoringError: the encoder failed.
        """
        if isinstance(texts, str):
            raise ValueError("texts: found one string, expected a sequence of strings")
        if region is not None:
            check_region(region)
        return self._classifier.score(list(texts)).probabilities

    def moderate(
        self,
        items: Sequence[Item | Mapping[str, object]],
        regions: Sequence[str] | None = None,
        *,
        explain: bool = True,
    ) -> list[Decision]:
        """Return one decision per item, in their order.

        An item that cannot be read gets an error of its own. An item that cannot be scored goes to a person in each of
        its regions, marked `degraded`.

        Args:
            items: items, or mappings with `fields` or the fields themselves, and maybe `id`, `regions`, `language`,
                `context` (age, certificates and so on, by the names of `Context`).
            regions: target regions of items that name none.
            explain: whether to look for evidence (a few more passes per flagged item).

        Raises:
            ValueError: a region of `regions` is unknown.
        """
        return self.moderate_and_count(items, regions, explain=explain).decisions

    def moderate_and_count(
        self,
        items: Sequence[Item | Mapping[str, object]],
        regions: Sequence[str] | None = None,
        *,
        explain: bool = True,
        policy: Policy | None = None,
        sources: SignalSources | None = None,
    ) -> Moderated:
        """Return what `moderate` returns, and the number of tokens read.

        Args:
            items: as in `moderate`.
            regions: as in `moderate`.
            explain: as in `moderate`.
            policy: decides in place of the moderator's own; it has the same heads (`Policy.check_heads`).
            sources: rules of one's own and the bank, in place of the moderator's; their heads are among the policy's.
        """
        for region in regions or ():
            check_region(region)
        decisions: list[Decision | None] = [None] * len(items)
        ready: list[tuple[int, Item]] = []
        for i, raw in enumerate(items):
            read = read_item(raw, default_id=str(i), regions=tuple(regions or ()))
            if isinstance(read, Item):
                ready.append((i, read))
            else:
                decisions[i] = read
        basis = Basis(policy or self.policy, self._sources if sources is None else sources, explain)
        made = self._decide_all([item for _, item in ready], basis)
        for (i, _), decision in zip(ready, made.decisions, strict=True):
            decisions[i] = decision
        return Moderated([decision for decision in decisions if decision is not None], made.tokens)

    def _decide_all(self, items: Sequence[Item], basis: Basis) -> Moderated:
        texts = [join_fields(item.fields) for item in items]
        try:
            scores = self._classifier.score([text.text for text in texts])
            decisions = [
                self._decide(item, text, scores, basis, row=i)
                for i, (item, text) in enumerate(zip(items, texts, strict=True))
            ]
            return Moderated(decisions, scores.tokens)
        except ScoringError as error:
            if len(items) > 1:  # one by one, so that a text the encoder fails on takes no neighbour with it
                alone = [self._decide_all([item], basis) for item in items]
                return Moderated([each for one in alone for each in one.decisions], sum(one.tokens for one in alone))
            log.error("scoring failed", items=len(items), reason=str(error))
            failed = [
                self._failed(item, text, basis, reason=str(error)) for item, text in zip(items, texts, strict=True)
            ]
            return Moderated(failed, tokens=0)

    def _decide(self, item: Item, text: FieldText, scores: Scores, basis: Basis, *, row: int) -> Decision:
        probabilities = {h: float(p) for h, p in zip(self.heads, scores.probabilities[row], strict=True)}
        normalised = scores.normalised[row]
        language = self._language(item, normalised.canonical)
        at = self._clock()
        regions = [
            decide(
                probabilities, region=r, policy=basis.policy, thresholds=self.thresholds, context=item.context, at=at
            )
            for r in item.regions
        ]  # fmt: skip
        regions = [escalate_unsupported(region, language=language, policy=basis.policy) for region in regions]
        regions = _with_signals(regions, text, normalised, language, basis)
        if basis.explain:
            flagged = dict.fromkeys(entry.policy for region in regions for entry in region.entries)
            evidence = self._evidence(text, normalised, list(flagged))
            regions = [with_evidence(region, evidence) for region in regions]
        return Decision(
            id=item.id,
            status="ok",
            error=None,
            language=language,
            decisions=tuple(regions),
            probabilities=probabilities,
            obfuscation=normalised.obfuscation,
            versions=self._versions(basis),
            text_sha256=_sha256(text),
            decided_at=at,
        )

    def _evidence(self, text: FieldText, normalised: NormalisedText, heads: list[str]) -> dict[str, list[Evidence]]:
        """Return evidence per head, its spans counted in the fields as they were sent."""
        if not heads:
            return {}
        evidence: dict[str, list[Evidence]] = {head: [] for head in heads}
        for head, span in find_spans(self._classifier, normalised.canonical, heads).items():
            start, end = normalised.original_span(span.start, span.end)
            evidence[head].append(quote(text, start, end, weight=span.drop, source="model"))
        for match in self._lexicon.find(normalised.canonical):
            shown = sum(piece.source == "rule" for piece in evidence.get(match.head, ()))
            if match.head in evidence and shown < MAX_LEXICON_EVIDENCE:
                start, end = normalised.original_span(match.start, match.end)
                evidence[match.head].append(quote(text, start, end, weight=0.0, source="rule"))
        return evidence

    def _failed(self, item: Item, text: FieldText, basis: Basis, *, reason: str) -> Decision:
        """Return the decision about an item that could not be scored: what the policy, rules and bank say without."""
        normalised = normalise(text.text)
        language = self._language(item, normalised.canonical)
        regions = [decide_failed(region=region, policy=basis.policy, reason=reason) for region in item.regions]
        return Decision(
            id=item.id,
            status="ok",
            error=None,
            language=language,
            decisions=tuple(_with_signals(regions, text, normalised, language, basis)),
            probabilities={},
            obfuscation=None,
            versions=self._versions(basis),
            degraded=True,
            text_sha256=_sha256(text),
            decided_at=self._clock(),
        )

    def _language(self, item: Item, reading: str) -> Language:
        if item.language is not None:
            code = item.language.replace("_", "-").split("-")[0].lower()
            return Language(code=code, confidence=1.0, supported=code in self.languages)
        return self._identifier.identify(reading)

    def _check_heads(self) -> None:
        for what, names in (
            ("policy " + self.policy.ref, {head.name for head in self.policy.heads}),
            ("thresholds " + self.thresholds.id, set(self.thresholds.heads)),
        ):
            if names != set(self.heads):
                raise BundleError(
                    f"bundle {self.bundle.path} has the heads {', '.join(self.heads)}; {what} differs in "
                    f"{', '.join(sorted(names ^ set(self.heads)))}"
                )


def _with_signals(
    regions: Sequence[RegionDecision], text: FieldText, normalised: NormalisedText, language: Language, basis: Basis
) -> list[RegionDecision]:
    """Return the decisions with what rules and the bank say; one per region of an item."""
    found = basis.sources.find(normalised.canonical, language=language, regions=[region.region for region in regions])
    applied = [apply_signals(region, found[region.region], policy=basis.policy) for region in regions]
    if not basis.explain:
        return applied
    return [
        replace(region, signals=with_places(region.signals, text=text, normalised=normalised)) for region in applied
    ]


def _sha256(text: FieldText) -> str:
    return hashlib.sha256(text.text.encode("utf-8", "replace")).hexdigest()
