"""What the service answers about policies, without HTTP: list, add, check, compare, try out, put in force."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any

import structlog
from pydantic import Field

from moderation.document import DocumentError
from moderation.policy import Policy
from moderation.policy_diff import comparison, rule_json
from moderation.policy_document import read_policy
from moderation.policy_store import PolicyStore
from moderation.problem import Problem
from moderation.regions import check_region
from moderation.replay import backtest
from moderation.request_model import Moment, RequestModel, read_request
from moderation.thresholds import HeadThreshold, Thresholds
from moderation.version_store import UnknownVersionError, VersionConflictError

if TYPE_CHECKING:
    from moderation.review.store import LoggedDecision, Store

log = structlog.get_logger()

LITTLE_DATA = 200
"""Positive rows below which a head says that it was fitted on little."""
MAX_BACKTEST = 1_000_000
"""Stored decisions of one backtest."""


class DiffRequest(RequestModel):
    """Two references."""

    before: str
    after: str


class CutRequest(RequestModel):
    """Two cuts of a head's probability."""

    escalate: float = Field(ge=0, le=1)
    act: float = Field(ge=0, le=1)


class BacktestRequest(RequestModel):
    """What to try out, and on which stored decisions."""

    policy: str | None = None
    """A reference; left out: the policy in force."""
    document: str | None = None
    """A policy document that was not added yet, in place of a reference."""
    thresholds: dict[str, CutRequest] = {}
    """Head -> cuts in place of those that are served."""
    region: str | None = None
    """Only decisions for this region, a code of ISO 3166."""
    since: Moment | None = None
    """Only decisions from this time on."""
    limit: int = Field(default=100_000, ge=1, le=MAX_BACKTEST)
    """At most so many decisions, the oldest first."""
    examples: int = Field(default=20, ge=0, le=1_000)
    """Flips shown of each kind."""


class PolicyApi:
    """The policies of one service."""

    def __init__(
        self, policies: PolicyStore, decisions: Store, *, served: Policy, follow: bool, thresholds: Thresholds
    ) -> None:
        """Keep what decides, so that it can be decided again.

        Args:
            policies: the versions in the database.
            decisions: the stored decisions.
            served: the policy to serve.
            follow: whether a published version of it takes its place.
            thresholds: the thresholds that are served.
        """
        self._policies = policies
        self._decisions = decisions
        self._served = served
        self._follow = follow
        self._thresholds = thresholds
        policies.remember(thresholds)

    def in_force(self) -> Policy:
        """Return the policy that decides now; asked at every request, since any worker may publish."""
        published = self._policies.in_force(self._served.id) if self._follow else None
        return published or self._served

    def get(self, ref: str) -> Policy:
        """Return a policy; raise `Problem` where there is none."""
        try:
            return self._policies.get(ref)
        except UnknownVersionError as error:
            raise Problem("unknown_policy", str(error.args[0])) from error

    def listing(self) -> dict[str, Any]:
        """Return every version, the one in force marked, with what the served heads were fitted on."""
        served = self.in_force()
        rows = [
            {"ref": policy.ref, "id": policy.id, "version": policy.version, "digest": policy.digest}
            | {"served": policy.ref == served.ref, "heads": [head.name for head in policy.heads]}
            for policy in self._policies.all()
        ]
        heads = [
            {"name": name, **asdict(threshold), "little_data": threshold.positives < LITTLE_DATA}
            for name, threshold in self._thresholds.heads.items()
        ]
        fitted = {"id": self._thresholds.id, "prevalence": self._thresholds.prevalence}
        return {"policies": rows, "thresholds": {**fitted, "little_data_below": LITTLE_DATA, "heads": heads}}

    def show(self, ref: str) -> dict[str, Any]:
        """Return one policy in full, with its publications; raise `Problem` where there is none."""
        policy = self.get(ref)
        heads = [{**asdict(head), "default": rule_json(head.default)} for head in policy.heads]
        regions = {
            region: {head: rule_json(rule) for head, rule in rules.items()} for region, rules in policy.regions.items()
        }
        return {
            "ref": policy.ref, "id": policy.id, "version": policy.version, "digest": policy.digest,
            "served": policy.ref == self.in_force().ref, "heads": heads,
            "groups": {group: list(members) for group, members in policy.groups.items()},
            "zones": dict(policy.zones), "regions": regions, "unsupported_language": policy.unsupported_language,
            "publications": [
                {"ref": each.ref, "action": each.action, "by": each.published_by, "at": each.created_at.isoformat()}
                for each in self._policies.publications(policy.id)
            ],
        }  # fmt: skip

    def add(self, text: str, *, by: str) -> dict[str, Any]:
        """Add a version, which does not decide before it is published; raise `Problem` where it is none."""
        try:
            policy = self._policies.add(text, by=by)
        except DocumentError as error:
            raise Problem("invalid_policy", str(error)) from error
        except VersionConflictError as error:
            raise Problem("policy_conflict", str(error)) from error
        return self.show(policy.ref)

    def validate(self, text: str) -> dict[str, Any]:
        """Return whether a document is a policy that could be published here, and if not, why."""
        try:
            policy = read_policy(text)
            policy.check_heads(self._thresholds.heads)
        except ValueError as error:
            return {"valid": False, "error": str(error)}
        return {"valid": True, "ref": policy.ref, "digest": policy.digest}

    def diff(self, request: object) -> dict[str, Any]:
        """Return what changes between two policies."""
        wanted = read_request(DiffRequest, request)
        return comparison(self.get(wanted.before), self.get(wanted.after))

    def backtest(self, request: object) -> dict[str, Any]:
        """Return what a policy or thresholds would have made of stored decisions."""
        wanted = read_request(BacktestRequest, request)
        if wanted.policy is not None and wanted.document is not None:
            raise Problem("invalid_request", "policy, document: both are given, allowed one of them")
        try:
            if wanted.region is not None:
                check_region(wanted.region)
            thresholds = self._with(wanted.thresholds)
        except ValueError as error:
            raise Problem("invalid_request", str(error)) from error
        try:
            policy = read_policy(wanted.document) if wanted.document is not None else self._asked(wanted.policy)
            report = backtest(self._rows(wanted), policy=policy, thresholds=thresholds, examples=wanted.examples)
        except ValueError as error:
            raise Problem("invalid_policy", str(error)) from error
        return report.to_json()

    def publish(self, ref: str, *, by: str) -> dict[str, Any]:
        """Put a version in force for every worker; the one before stays in force where this one is refused."""
        policy = self.get(ref)
        try:
            policy.check_heads(self._thresholds.heads)
        except ValueError as error:
            raise Problem("invalid_policy", str(error)) from error
        published = self._policies.publish(policy.ref, by=by)
        log.info("policy published", ref=published.ref, by=by)
        return self.show(published.ref)

    def rollback(self, name: str, *, by: str) -> dict[str, Any]:
        """Put the version in force that was before the present one."""
        try:
            policy = self._policies.rollback(name, by=by)
        except VersionConflictError as error:
            raise Problem("policy_conflict", str(error)) from error
        log.info("policy rolled back", ref=policy.ref, by=by)
        return self.show(policy.ref)

    def _asked(self, ref: str | None) -> Policy:
        return self.in_force() if ref is None else self.get(ref)

    def _rows(self, wanted: BacktestRequest) -> Iterator[LoggedDecision]:
        return islice(self._decisions.decision_rows(region=wanted.region, since=wanted.since), wanted.limit)

    def _with(self, cuts: Mapping[str, CutRequest]) -> Thresholds:
        """Return the served thresholds with some heads' cuts replaced; raise `ValueError` where one is wrong."""
        unknown = sorted(set(cuts) - set(self._thresholds.heads))
        if unknown:
            raise ValueError(f"thresholds: unknown head {unknown[0]!r}, allowed {', '.join(self._thresholds.heads)}")
        if not cuts:
            return self._thresholds
        tried = {}
        for name, cut in cuts.items():
            try:
                tried[name] = HeadThreshold(cut.escalate, cut.act, "tried in a backtest", 0, 0)
            except ValueError as error:
                raise ValueError(f"thresholds.{name}.{error}") from error
        return Thresholds.of(prevalence=self._thresholds.prevalence, heads={**self._thresholds.heads, **tried})
