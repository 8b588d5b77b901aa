"""The moderation API as one plain class: what it answers, without HTTP and without BentoML."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import structlog
from sqlalchemy.exc import SQLAlchemyError

from moderation import schema
from moderation.adapter_api import AdapterApi
from moderation.auth import KeyRing, load_keys
from moderation.bank import StoredBank
from moderation.bank_api import BankApi
from moderation.decision import Decision
from moderation.guards import Guards
from moderation.item import Item
from moderation.metrics import ModerationMetrics
from moderation.model_folders import ModelFolders
from moderation.pipeline import Moderated, Moderator
from moderation.policy import Policy
from moderation.policy_api import PolicyApi
from moderation.policy_document import list_policies
from moderation.policy_store import PolicyStore
from moderation.problem import Problem
from moderation.readiness import Readiness
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
from moderation.scorer import Scorer
from moderation.served_model import ServedModel, Unchanging, readiness_of
from moderation.serving import Serving
from moderation.settings import Settings
from moderation.signal_sources import SignalSources
from moderation.thresholds import Thresholds
from retrieval_shared.adapter_store import AdapterStore
from retrieval_shared.turns import threads_named

log = structlog.get_logger()
A = TypeVar("A")
R = TypeVar("R")

SPARE_THREADS = 1
"""Beyond those that score: one reads a request or writes an answer while another scores, and a short request passes a
long one."""
MAX_WAITING = 64


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
        model: Scorer | ServedModel | Unchanging,
        queue: Recorder,
        policies: PolicyApi,
        *,
        policies_by: Callable[[Thresholds], PolicyApi] | None = None,
        rules: RuleApi | None = None,
        bank: BankApi | None = None,
        keys: KeyRing | None = None,
        keep_text: bool = False,
        region: str = Settings.region,
        guards: Guards | None = None,
    ) -> None:
        """Holds what it is given and, of a moderator that serves for good, scores the bundle's probe text.

        Args:
            model: a moderator, or a model that may be exchanged while requests run.
            queue: where decisions go.
            policies: with the thresholds of the model.
            policies_by: the policies under the thresholds of a later model; None: `policies` serve for good.
            rules: rules of one's own.
            bank: items known to be bad.
            keys: who may ask.
            keep_text: whether texts are stored beside the decisions.
            region: of requests in a dialect that knows none.
            guards: what stands before the routes.
        """
        self.keys = keys or KeyRing()
        self.rules = rules
        self.bank = bank
        self.region = region
        self.guards = guards
        self.metrics = ModerationMetrics()
        self._served = _held(model)
        self.adapters = AdapterApi(self._served)
        self._policies = {self._served.serving.moderator.thresholds.id: policies}
        self._policies_by = policies_by or (lambda _: policies)
        self._queue = queue
        self._keep_text = keep_text
        self._executor = ThreadPoolExecutor(threads_named() + SPARE_THREADS, thread_name_prefix="score")
        self._waiting = 0

    @classmethod
    def open(cls, settings: Settings) -> ModerationApi:
        """The API over the bundle, the database and the keys that `settings` name.

        Raises:
            BundleError: when the bundle is missing or damaged.
            ValueError: when the policy or the keys file cannot be used.
        """
        store = Store(settings.database)
        policy = PolicyStore(store.database, list_policies()).serve(settings.policy)
        folders = ModelFolders(settings.bundle, AdapterStore(settings.adapters), policy=policy)
        return cls.over(ServedModel(folders), store, settings)

    @classmethod
    def over(cls, model: Moderator | ServedModel, store: Store, settings: Settings) -> ModerationApi:
        """The API over a model and a database that are open already; `settings` say the rest.

        Raises:
            ValueError: when the keys file cannot be used.
        """
        database, served = store.database, _held(model)
        moderator = served.serving.moderator
        heads = moderator.heads

        def policies(thresholds: Thresholds) -> PolicyApi:
            versions = PolicyStore(database, list_policies())
            follow = settings.follows_publications
            return PolicyApi(versions, store, served=moderator.policy, follow=follow, thresholds=thresholds)

        return cls(
            served,
            ReviewQueue(store),
            policies(moderator.thresholds),
            policies_by=policies,
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

    def current(self) -> Serving:
        """The model that decides a request that comes now; asked once per request, which ends on it."""
        return self._served.current()

    @property
    def readiness(self) -> Readiness:
        """Whether what serves may get traffic, and what an operator should look at; nothing is loaded for it."""
        return readiness_of(self._served)

    @property
    def policies(self) -> PolicyApi:
        """The policies, under the thresholds of the model that serves."""
        return self._policies_under(self._served.serving)

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

    def decide(
        self, items: Sequence[Item], *, policy_set: str | None, explain: bool, serving: Serving | None = None
    ) -> Moderated:  # fmt: skip
        """What is decided about items: scored, logged, escalations filed, counted.

        Args:
            items: ads.
            policy_set: reference of the policy that decides; None is the one in force.
            explain: whether to look for evidence.
            serving: the model that decides; None is the current one.

        Raises:
            Problem: when the policy is not known or nothing could be logged.
        """
        serving = serving or self.current()
        policy, sources = self._in_force(policy_set, serving)
        with self.metrics.stage("score"):
            made = _moderated(serving, items, policy, sources, explain=explain)
        with self.metrics.stage("record"):
            decisions = self._record(made.decisions, items)
        for decision in decisions:
            self.metrics.count(decision)
        return Moderated(decisions, made.tokens)

    def suggest(self, text: str, scores: Mapping[str, float], *, community: str, serving: Serving) -> None:
        """Files a review of a comment that a client scores otherwise; the same comment again changes nothing.

        Raises:
            Problem: when nothing could be read or stored.
        """
        name = hashlib.sha256(f"{community}\0{text}".encode("utf-8", "replace")).hexdigest()[:24]
        item = Item(id=f"suggested-{name}", fields={"text": text}, regions=(self.region,))
        [made] = _moderated(serving, [item], *self._in_force(None, serving), explain=False).decisions
        told = ", ".join(f"{attribute} {value:.2f}" for attribute, value in scores.items())
        try:
            self._queue.suggest(made, item, reason=f"suggested by a client: {told}", keep_text=self._keep_text)
        except SQLAlchemyError as error:
            log.error("the review queue cannot be written", reason=str(error))
            raise Problem("queue_unavailable", "nothing was filed; send it again", {"Retry-After": "5"}) from error

    def _policies_under(self, serving: Serving) -> PolicyApi:
        """The policies under a model's thresholds, which are kept for replay before they decide anything.

        Made once per thresholds, since making them writes the thresholds to the database, and kept: a request may end
        on a model that was exchanged meanwhile, and a bundle may come back. There are at most as many as bundles that
        the worker has served.
        """
        thresholds = serving.moderator.thresholds
        if thresholds.id not in self._policies:
            self._policies[thresholds.id] = self._policies_by(thresholds)
        return self._policies[thresholds.id]

    def _policy(self, ref: str | None, serving: Serving) -> Policy:
        """The policy that decides a request: the one in force, or a known one that the request names."""
        policies = self._policies_under(serving)
        served = policies.in_force()
        if ref is None or ref in {served.ref, served.id}:
            return served
        try:
            named = policies.get(ref)
            named.check_heads(serving.moderator.heads)
        except (Problem, ValueError) as error:
            detail = f"policy_set must be {served.ref!r}, another of `GET /v1/policies` for the same heads, or left out"
            raise Problem("unknown_policy_set", detail) from error
        return named

    def _in_force(self, policy_set: str | None, serving: Serving) -> tuple[Policy, SignalSources]:
        """What decides now: the policy, and what is searched for beside the model."""
        try:
            policy = self._policy(policy_set, serving)
            rule_sets = self.rules.in_force() if self.rules is not None else ()
        except SQLAlchemyError as error:
            log.error("what is in force cannot be read", reason=str(error))
            raise Problem("queue_unavailable", "nothing was decided; send it again", {"Retry-After": "5"}) from error
        return policy, SignalSources(rule_sets, self.bank.bank if self.bank is not None else None)

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
        moderator = self._served.serving.moderator
        manifest = moderator.bundle.manifest
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
            "heads": list(moderator.heads),
        }


def _held(model: Scorer | ServedModel | Unchanging) -> ServedModel | Unchanging:
    return model if isinstance(model, ServedModel | Unchanging) else Unchanging(model)


def _moderated(
    serving: Serving, items: Sequence[Item], policy: Policy, sources: SignalSources, *, explain: bool
) -> Moderated:
    if not items:
        return Moderated([], 0)
    return serving.moderator.moderate_and_count(items, explain=explain, policy=policy, sources=sources)
