"""The moderation API as one plain class: what it answers, without HTTP and without BentoML."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray
from sqlalchemy.exc import SQLAlchemyError

from moderation import schema
from moderation.auth import KeyRing, load_keys
from moderation.bank import StoredBank
from moderation.bank_api import BankApi
from moderation.compat.perspective_routes import Perspective
from moderation.decision import Decision
from moderation.guards import Guards
from moderation.item import Item
from moderation.metrics import ModerationMetrics
from moderation.pipeline import Moderated, Moderator
from moderation.policy import Policy
from moderation.policy_api import PolicyApi
from moderation.policy_document import list_policies
from moderation.policy_store import PolicyStore
from moderation.problem import Problem
from moderation.response import (
    ErrorResult,
    ModerateResponse,
    OkResult,
    UsageResponse,
    render_decision,
    render_error,
)
from moderation.review.queue import ReviewQueue
from moderation.review.store import Store
from moderation.rule_api import RuleApi
from moderation.rule_store import RuleStore
from moderation.schema import Batch, parse_request
from moderation.settings import Settings
from moderation.signal_sources import NO_SOURCES, SignalSources
from moderation.thresholds import Thresholds
from retrieval_shared.bundle import Bundle
from retrieval_shared.errors import ScoringError
from retrieval_shared.language import Language

log = structlog.get_logger()
A = TypeVar("A")
R = TypeVar("R")

PROBE_TOLERANCE = 0.02
PROBE_REGION = "US"
SCORING_THREADS = 2
MAX_WAITING = 64


@dataclass(frozen=True)
class Readiness:
    """Whether the service may get traffic, and what an operator should look at."""

    ready: bool
    bundle: str
    """Name and version of the loaded bundle."""
    probe_difference: float | None
    """Largest difference between the probe text's probabilities now and those in the bundle; None: not scored."""
    warnings: tuple[str, ...] = ()


class Scorer(Protocol):
    """What the API needs of a `Moderator`."""

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the H heads."""

    @property
    def policy(self) -> Policy:
        """The policy that decides."""

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds of the heads."""

    @property
    def bundle(self) -> Bundle:
        """The model bundle that scores."""

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Probabilities `[n, H]` of n texts."""

    def language(self, text: str) -> Language:
        """The language of a text."""

    def moderate_and_count(
        self,
        items: Sequence[Item],
        *,
        explain: bool,
        policy: Policy | None = None,
        sources: SignalSources = NO_SOURCES,
    ) -> Moderated:
        """One decision per item, in order, and the tokens of their texts."""


class Recorder(Protocol):
    """What the API needs of a `ReviewQueue`."""

    def record(self, decisions: Sequence[Decision], items: Sequence[Item], *, keep_text: bool) -> list[Decision]:
        """Logs the decisions, files escalations, returns the decisions with their review ids."""

    def suggest(self, decision: Decision, item: Item, *, reason: str, keep_text: bool) -> Decision:
        """Files a review that somebody outside asked for."""


class ModerationApi:
    """What the service answers, without HTTP and without BentoML."""

    def __init__(
        self,
        moderator: Scorer,
        queue: Recorder,
        policies: PolicyApi,
        *,
        rules: RuleApi | None = None,
        bank: BankApi | None = None,
        keys: KeyRing | None = None,
        keep_text: bool = False,
        region: str = Settings.region,
        guards: Guards | None = None,
    ) -> None:
        """Holds what it is given and scores the bundle's probe text."""
        self.keys = keys or KeyRing()
        self.policies = policies
        self.rules = rules
        self.bank = bank
        self.region = region
        self.guards = guards
        self.perspective = Perspective.beside(moderator.bundle.path)
        self.metrics = ModerationMetrics()
        self.readiness = probe(moderator)
        self._moderator = moderator
        self._queue = queue
        self._keep_text = keep_text
        # Two threads: a short request may pass a long one. Each scores on one core.
        self._executor = ThreadPoolExecutor(SCORING_THREADS, thread_name_prefix="score")
        self._waiting = 0

    @classmethod
    def open(cls, settings: Settings) -> ModerationApi:
        """The API over the bundle, the database and the keys that `settings` name.

        Raises:
            BundleError: when the bundle is missing or damaged.
            ValueError: when the policy or the keys file cannot be used.
        """
        store = Store(settings.database)
        served = PolicyStore(store.database, list_policies()).serve(settings.policy)
        return cls.over(Moderator.load(settings.bundle, policy=served), store, settings)

    @classmethod
    def over(cls, moderator: Moderator, store: Store, settings: Settings) -> ModerationApi:
        """The API over a moderator and a database that are open already; `settings` say the rest.

        Raises:
            ValueError: when the keys file cannot be used.
        """
        database, heads = store.database, moderator.heads
        policies = PolicyApi(
            PolicyStore(database, list_policies()),
            store,
            served=moderator.policy,
            follow=settings.follows_publications,
            thresholds=moderator.thresholds,
        )
        return cls(
            moderator,
            ReviewQueue(store),
            policies,
            rules=RuleApi(RuleStore(database), store, heads=heads),
            bank=BankApi(StoredBank(database), heads=heads),
            keys=load_keys(settings.keys) if settings.keys else KeyRing(),
            keep_text=settings.keep_text,
            region=settings.region,
            guards=Guards.over(database, settings.rate_limit),
        )

    def close(self) -> None:
        """Lets running requests end and takes no more."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    async def moderate(self, body: bytes) -> ModerateResponse:
        """The answer to a request body, worked out beside the event loop.

        Raises:
            Problem: when the request as a whole is refused.
        """
        return await self.run(self.answer, body)

    async def run(self, work: Callable[[A], R], given: A) -> R:
        """What `work` makes of `given`, on one of the scoring threads.

        Raises:
            Problem: when too many requests are waiting; and whatever `work` raises.
        """
        if self._waiting >= MAX_WAITING:
            raise Problem("overloaded", f"{MAX_WAITING} requests are waiting already", {"Retry-After": "1"})
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work, given)
        finally:
            self._waiting -= 1

    def answer(self, body: bytes) -> ModerateResponse:
        """The answer to a request body: parse, score, record, render.

        Raises:
            Problem: when the request as a whole is refused.
        """
        with self.metrics.stage("parse"):
            batch = parse_request(body)
        items = [entrant.item for entrant in batch.entrants if entrant.item is not None]
        made = self.decide(items, policy_set=batch.policy_set, explain=batch.explain)
        with self.metrics.stage("render"):
            results = self._results(batch, made.decisions)
            usage = UsageResponse(items=len(items), tokens=made.tokens)
            return ModerateResponse(id=f"mod_{uuid.uuid4().hex}", results=results, usage=usage)

    def decide(self, items: Sequence[Item], *, policy_set: str | None, explain: bool) -> Moderated:
        """What is decided about items: scored, logged, escalations filed, counted.

        Args:
            items: ads.
            policy_set: reference of the policy that decides; None is the one in force.
            explain: whether to look for evidence.

        Raises:
            Problem: when the policy is not known or nothing could be logged.
        """
        policy, sources = self._in_force(policy_set)
        with self.metrics.stage("score"):
            made = self._moderated(items, policy, sources, explain=explain)
        with self.metrics.stage("record"):
            decisions = self._record(made.decisions, items)
        for decision in decisions:
            self.metrics.count(decision)
        return Moderated(decisions, made.tokens)

    def suggest(self, text: str, scores: Mapping[str, float], *, community: str) -> None:
        """Files a review of a comment that a client scores otherwise; the same comment again changes nothing.

        Raises:
            Problem: when nothing could be read or stored.
        """
        name = hashlib.sha256(f"{community}\0{text}".encode("utf-8", "replace")).hexdigest()[:24]
        item = Item(id=f"suggested-{name}", fields={"text": text}, regions=(self.region,))
        [made] = self._moderated([item], *self._in_force(None), explain=False).decisions
        told = ", ".join(f"{attribute} {value:.2f}" for attribute, value in scores.items())
        try:
            self._queue.suggest(made, item, reason=f"suggested by a client: {told}", keep_text=self._keep_text)
        except SQLAlchemyError as error:
            log.error("the review queue cannot be written", reason=str(error))
            raise Problem("queue_unavailable", "nothing was filed; send it again", {"Retry-After": "5"}) from error

    def language(self, text: str) -> Language:
        """The language of a text."""
        return self._moderator.language(text)

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages the model reads."""
        return self._moderator.bundle.manifest.languages

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Probabilities `[n, H]` of n texts, nothing decided and nothing logged.

        Raises:
            ScoringError: the encoder failed.
        """
        with self.metrics.stage("score"):
            return self._moderator.probabilities(texts)

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the H heads."""
        return self._moderator.heads

    @property
    def model(self) -> str:
        """Name and version of the bundle."""
        manifest = self._moderator.bundle.manifest
        return f"{manifest.name}@{manifest.version}"

    def _policy(self, ref: str | None) -> Policy:
        """The policy that decides a request: the one in force, or a known one that the request names."""
        served = self.policies.in_force()
        if ref is None or ref in {served.ref, served.id}:
            return served
        try:
            named = self.policies.get(ref)
            named.check_heads(self._moderator.heads)
        except (Problem, ValueError) as error:
            detail = f"policy_set must be {served.ref!r}, another of `GET /v1/policies` for the same heads, or left out"
            raise Problem("unknown_policy_set", detail) from error
        return named

    def _in_force(self, policy_set: str | None) -> tuple[Policy, SignalSources]:
        """What decides now: the policy, and what is searched for beside the model."""
        try:
            policy = self._policy(policy_set)
            rule_sets = self.rules.in_force() if self.rules is not None else ()
        except SQLAlchemyError as error:
            log.error("what is in force cannot be read", reason=str(error))
            raise Problem("queue_unavailable", "nothing was decided; send it again", {"Retry-After": "5"}) from error
        return policy, SignalSources(rule_sets, self.bank.bank if self.bank is not None else None)

    def _moderated(
        self, items: Sequence[Item], policy: Policy, sources: SignalSources, *, explain: bool
    ) -> Moderated:  # fmt: skip
        if not items:
            return Moderated([], 0)
        return self._moderator.moderate_and_count(items, explain=explain, policy=policy, sources=sources)

    def _record(self, decisions: Sequence[Decision], items: Sequence[Item]) -> list[Decision]:
        try:
            return self._queue.record(decisions, items, keep_text=self._keep_text)
        except SQLAlchemyError as error:
            # An escalation that nobody will see is worse than an error: the caller sends the request again.
            log.error("the decision log cannot be written", reason=str(error))
            raise Problem("queue_unavailable", "nothing was decided; send it again", {"Retry-After": "5"}) from error

    def _results(self, batch: Batch, decisions: Sequence[Decision]) -> list[OkResult | ErrorResult]:
        left = iter(decisions)
        results: list[OkResult | ErrorResult] = []
        for entrant in batch.entrants:
            if entrant.error is not None:
                self.metrics.count_item_error(entrant.error.code)
                results.append(render_error(entrant.id, entrant.error))
            elif entrant.item is not None:
                results.append(render_decision(next(left), entrant.item, offset_unit=batch.offset_unit))
        return results

    def limits(self) -> dict[str, Any]:
        """What a request may hold, and what is done with more."""
        manifest = self._moderator.bundle.manifest
        return {
            "max_body_bytes": schema.MAX_BODY_BYTES,
            "max_items": schema.MAX_ITEMS,
            "max_field_characters": schema.MAX_FIELD_CHARACTERS,
            "max_regions": schema.MAX_REGIONS,
            "fields": list(schema.FIELDS),
            "max_tokens_per_chunk": manifest.max_tokens,
            "long_text": "read in overlapping chunks, the highest probability counts; never cut",
            "max_waiting_requests": MAX_WAITING,
            "languages": list(manifest.languages),
            "heads": list(self._moderator.heads),
        }


def probe(moderator: Scorer) -> Readiness:
    """Scores the bundle's probe text, compares with what the bundle recorded, and goes the whole way to a decision.

    The last so that whatever is loaded on first use is loaded before the service is ready.
    """
    manifest = moderator.bundle.manifest
    bundle = f"{manifest.name}@{manifest.version}"
    try:
        scores = moderator.probabilities([manifest.probe.text])[0]  # [H]
        moderator.moderate_and_count(
            [Item(id="probe", fields={"text": manifest.probe.text}, regions=(PROBE_REGION,))], explain=True
        )
    except ScoringError as error:
        return Readiness(False, bundle, None, (f"the probe text could not be scored: {error}",))
    recorded = manifest.probe.probabilities
    found = dict(zip(moderator.heads, scores, strict=True))
    difference = max(abs(float(found[head]) - value) for head, value in recorded.items())
    if difference <= PROBE_TOLERANCE:
        return Readiness(True, bundle, difference)
    warning = (
        f"the probe text's probabilities differ by {difference:.3f} from those of the bundle (allowed: "
        f"{PROBE_TOLERANCE}); this machine computes otherwise, so the thresholds may not hold"
    )
    log.warning(warning)
    return Readiness(True, bundle, difference, (warning,))
