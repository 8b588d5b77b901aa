"""The moderation pipeline: items in, one decision per item out, in their order, whatever happens to a single one."""

from __future__ import annotations

import copy
import hashlib
import json
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
    RegionDecision,
    adapter_key,
    decide,
    decide_failed,
    escalate_unsupported,
    with_evidence,
)
from moderation.evidence import find_evidence
from moderation.item import Item, read_item
from moderation.policy import Policy
from moderation.policy_document import load_policy
from moderation.regions import check_region
from moderation.rules import RuleSignal
from moderation.signal_sources import NO_SOURCES, SignalSources
from moderation.signals import apply_signals, with_places
from moderation.thresholds import load_thresholds
from retrieval_shared.adapters import Adapter, overlay
from retrieval_shared.bundle import BASE_WEIGHTS, CALIBRATION, HEADS, THRESHOLDS, Bundle, load_bundle
from retrieval_shared.errors import BundleError, ScoringError
from retrieval_shared.language import Language, LanguageIdentifier
from retrieval_shared.text import FieldText, NormalisedText, join_fields, normalise

log = structlog.get_logger()


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
        self._classifier = self._own = Classifier(bundle)
        self._heads_version = _heads_version(bundle)
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
    def adapters(self) -> tuple[Adapter, ...]:
        """Return the adapters that are loaded, those of regions and of tasks."""
        return self._classifier.adapters

    @property
    def calibrated_slots(self) -> frozenset[str]:
        """Return the slots with curves of their own in the bundle's calibration, whichever adapters are loaded."""
        return self._classifier.calibrated_slots

    def with_adapters(self, adapters: Sequence[Adapter]) -> Moderator:
        """Return a moderator with the bundle's adapters and these: one of the same name replaces the bundle's.

        It shares the graph; this one stays as it is, and so does what it is deciding. Adapters that were laid over the
        bundle's before and are not among these are gone.

        Raises:
            AdapterError: an adapter was trained for another encoder, or does not fit the graph.
        """
        other = copy.copy(self)
        other._classifier = self._own.with_adapters(overlay(self._own.adapters, adapters))
        return other

    @property
    def versions(self) -> dict[str, str]:
        """Return what decisions depend on, for the record; the adapters of all regions that have one are named."""
        regions = [adapter.name for adapter in self.adapters if adapter.name.startswith("region:")]
        return self._versions(Basis(self.policy, self._sources), slots=regions)

    def _versions(self, basis: Basis, *, slots: Sequence[str]) -> dict[str, str]:
        """Return what decisions depend on that were made under `SLOT` and under the slots of regions in `slots`."""
        policy = basis.policy
        manifest = self.bundle.manifest
        adapters = {adapter.name: f"{adapter.name}@{adapter.version}" for adapter in self.adapters}
        return {
            "bundle": f"{manifest.name}@{manifest.version}+{manifest.digest[:12]}",
            "encoder": self.bundle.sha256(BASE_WEIGHTS)[:12],
            **{adapter_key(slot): adapters[slot] for slot in dict.fromkeys((SLOT, *slots))},
            "heads": self._heads_version,
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
            region: target region; its adapter judges, or that of its country. None: that of no region.

        Raises:
            ValueError: `texts` is one string or the region is unknown.
            ScoringError: the encoder failed.
        """
        if isinstance(texts, str):
            raise ValueError("texts: found one string, expected a sequence of strings")
        if region is not None:
            check_region(region)
        slot = SLOT if region is None else self._classifier.slot_of(region)
        return self._classifier.score(list(texts), [(slot,)] * len(texts)).probabilities

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
        slots = [[self._classifier.slot_of(region) for region in item.regions] for item in items]
        try:
            scores = self._classifier.score([text.text for text in texts], slots)
            decisions = [
                self._decide(item, text, scores, basis, number=i)
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

    def _decide(self, item: Item, text: FieldText, scores: Scores, basis: Basis, *, number: int) -> Decision:
        normalised = scores.normalised[number]
        language = self._language(item, normalised.canonical)
        at = self._clock()
        regions = []
        for region in item.regions:
            slot = self._classifier.slot_of(region)
            row = scores.probabilities[scores.row(number, slot)].tolist()  # [H]
            decided = decide(
                dict(zip(self.heads, row, strict=True)), region=region, policy=basis.policy,
                thresholds=self.thresholds, context=item.context, at=at,
            )  # fmt: skip
            decided = escalate_unsupported(decided, language=language, policy=basis.policy)
            regions.append(replace(decided, adapter=slot))
        regions = _with_signals(regions, text, normalised, language, basis)
        if basis.explain:
            regions = self._explained(regions, text, normalised)
        return Decision(
            id=item.id,
            status="ok",
            error=None,
            language=language,
            decisions=tuple(regions),
            probabilities=regions[0].probabilities,
            obfuscation=normalised.obfuscation,
            versions=self._versions(basis, slots=[region.adapter for region in regions]),
            text_sha256=_sha256(text),
            decided_at=at,
        )

    def _explained(
        self, regions: Sequence[RegionDecision], text: FieldText, normalised: NormalisedText
    ) -> list[RegionDecision]:
        """Return the decisions with evidence, each head explained under the slot it fired under."""
        fired: dict[str, dict[str, None]] = {}
        for region in regions:
            for entry in region.entries:
                fired.setdefault(region.adapter, {})[entry.policy] = None
        if not fired:
            return list(regions)
        evidence = find_evidence(
            self._classifier,
            text,
            normalised,
            fired={slot: list(heads) for slot, heads in fired.items()},
            terms=self._lexicon.find(normalised.canonical),
        )
        return [with_evidence(region, evidence.get(region.adapter, {})) for region in regions]

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
            versions=self._versions(basis, slots=()),
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


def _heads_version(bundle: Bundle) -> str:
    """Return the version of the violation heads: of the hashes of the block they share and of each head's files."""
    files = {name: digest for name, digest in sorted(bundle.manifest.files.items()) if name.startswith(f"{HEADS}/")}
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:12]


def _sha256(text: FieldText) -> str:
    return hashlib.sha256(text.text.encode("utf-8", "replace")).hexdigest()
