"""What the service answers about rules of one's own, without HTTP: list, add, check, put in force, count hits."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import structlog

from moderation.document import DocumentError
from moderation.problem import Problem
from moderation.rule_hits import count_hits
from moderation.rule_set import RuleSet, read_rule_set
from moderation.version_store import UnknownVersionError, VersionConflictError

if TYPE_CHECKING:
    from moderation.review.store import Store
    from moderation.rule_store import RuleStore

log = structlog.get_logger()


class RuleApi:
    """The rules of one service."""

    def __init__(self, rules: RuleStore, decisions: Store, *, heads: Collection[str]) -> None:
        """Keep where rules and decisions are stored, and the heads that a rule may speak for."""
        self._rules = rules
        self._decisions = decisions
        self._heads = heads

    def in_force(self) -> tuple[RuleSet, ...]:
        """Return the sets that are searched for now, by name; asked at every request, since any worker may publish."""
        return self._rules.all_in_force()

    def listing(self) -> dict[str, Any]:
        """Return every version of every set, those in force marked."""
        served = {rules.ref for rules in self.in_force()}
        return {"rules": [_summary(rules, served=rules.ref in served) for rules in self._rules.all()]}

    def show(self, ref: str) -> dict[str, Any]:
        """Return one version in full, with its publications; raise `Problem` where there is none."""
        rules = self._get(ref)
        served = rules.ref in {each.ref for each in self.in_force()}
        publications = [
            {"ref": each.ref, "action": each.action, "by": each.published_by, "at": each.created_at.isoformat()}
            for each in self._rules.publications(rules.id)
        ]
        own = [
            {
                "name": rule.name, "head": rule.head, "effect": rule.effect, "mode": rule.mode,
                "terms": list(rule.terms), "pattern": rule.pattern, "languages": sorted(rule.languages),
                "regions": sorted(rule.regions),
            }
            for rule in rules.rules
        ]  # fmt: skip
        return {**_summary(rules, served=served), "rules": own, "publications": publications}

    def add(self, text: str, *, by: str) -> dict[str, Any]:
        """Add a version, which finds nothing before it is published; raise `Problem` where it is none."""
        try:
            rules = self._rules.add(text, by=by)
        except DocumentError as error:
            raise Problem("invalid_rules", str(error)) from error
        except VersionConflictError as error:
            raise Problem("rules_conflict", str(error)) from error
        return self.show(rules.ref)

    def validate(self, text: str) -> dict[str, Any]:
        """Return whether a document could be published here, and if not, which line is wrong and why."""
        try:
            rules = read_rule_set(text)
            rules.check_heads(self._heads)
        except ValueError as error:
            return {"valid": False, "error": str(error)}
        return {"valid": True, "ref": rules.ref, "digest": rules.digest}

    def publish(self, ref: str, *, by: str) -> dict[str, Any]:
        """Put a version in force for every worker; the one before stays in force where this one is refused."""
        rules = self._get(ref)
        try:
            rules.check_heads(self._heads)
        except ValueError as error:
            raise Problem("invalid_rules", str(error)) from error
        self._rules.publish(rules.ref, by=by)
        log.info("rules published", ref=rules.ref, by=by)
        return self.show(rules.ref)

    def rollback(self, name: str, *, by: str) -> dict[str, Any]:
        """Put the version in force that was before the present one, or before it was withdrawn."""
        try:
            rules = self._rules.rollback(name, by=by)
        except VersionConflictError as error:
            raise Problem("rules_conflict", str(error)) from error
        log.info("rules rolled back", ref=rules.ref, by=by)
        return self.show(rules.ref)

    def withdraw(self, name: str, *, by: str) -> dict[str, Any]:
        """Put no version of a set in force any more."""
        try:
            rules = self._rules.withdraw(name, by=by)
        except VersionConflictError as error:
            raise Problem("rules_conflict", str(error)) from error
        log.info("rules withdrawn", ref=rules.ref, by=by)
        return self.show(rules.ref)

    def hits(self, ref: str) -> dict[str, Any]:
        """Return how often each rule of a version was found in stored decisions, by region and action.

        Of a shadow rule this is what it would have done: the action is what was decided without it.
        """
        rules = self._get(ref)
        counted = count_hits(rules, self._decisions.decision_rows(with_signals=True))
        return {"ref": rules.ref, "decisions": counted.decisions, "hits": [asdict(each) for each in counted.hits]}

    def _get(self, ref: str) -> RuleSet:
        try:
            return self._rules.get(ref)
        except UnknownVersionError as error:
            raise Problem("unknown_rules", str(error.args[0])) from error


def _summary(rules: RuleSet, *, served: bool) -> dict[str, Any]:
    return {
        "ref": rules.ref, "id": rules.id, "version": rules.version, "digest": rules.digest, "served": served,
        "rule_count": len(rules.rules),
        "shadow_count": sum(rule.mode == "shadow" for rule in rules.rules),
    }  # fmt: skip
