"""The document of the routes of rules of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Path

from moderation.auth import Scope
from moderation.openapi.json_schema import schema_of
from moderation.openapi.operation import Content, Operation, document_body
from moderation.openapi.version_answers import Answer, PublicationResponse, UnusableDocument, UsableDocument
from moderation.response import ActionName
from moderation.rule_set import rules_schema
from moderation.rules import RuleEffect, RuleMode


class RuleSetSummary(Answer):
    """One version of a set of rules."""

    ref: str
    """Id and version, such as `shop-rules@1`."""
    id: str
    version: int
    digest: str
    """sha256 of the document as canonical JSON."""
    served: bool
    """Whether it is in force."""
    rule_count: int
    shadow_count: int
    """Rules that are only logged."""


class RuleListing(Answer):
    """Every version of every set."""

    rules: list[RuleSetSummary]


class TextRuleResponse(Answer):
    """One rule: terms or a pattern, where it applies, and what follows."""

    name: str
    head: str
    effect: RuleEffect
    mode: RuleMode
    terms: list[str]
    pattern: str | None
    languages: list[str]
    """None: every language."""
    regions: list[str]
    """None: every region."""


class RuleSetResponse(RuleSetSummary):
    """One version of a set in full."""

    rules: list[TextRuleResponse]
    publications: list[PublicationResponse]
    """Of all its versions, the oldest first."""


class RuleHitsResponse(Answer):
    """Stored decisions in which one rule was found, of one region and action."""

    rule: str
    mode: RuleMode
    region: str
    action: ActionName
    decisions: int


class RuleSetHits(Answer):
    """How often the rules of one version were found."""

    ref: str
    decisions: int
    """In which any of them was found."""
    hits: list[RuleHitsResponse]


_TEXT = """\
id: shop-rules
version: 1
rules:
  - name: sure-win
    head: gambling
    kind: terms
    terms: [sure win]
    effect: escalate
    mode: shadow
"""
_VALUES: Mapping[str, Any] = {
    "id": "shop-rules",
    "version": 1,
    "rules": [
        {"name": "sure-win", "head": "gambling", "kind": "terms", "terms": ["sure win"], "effect": "escalate",
         "mode": "shadow"}
    ],
}  # fmt: skip
_SUMMARY: Mapping[str, Any] = {
    "ref": "shop-rules@1", "id": "shop-rules", "version": 1, "digest": "9d" * 32, "served": False, "rule_count": 1,
    "shadow_count": 1,
}  # fmt: skip
_SHOWN: Mapping[str, Any] = {
    **_SUMMARY,
    "rules": [
        {"name": "sure-win", "head": "gambling", "effect": "escalate", "mode": "shadow", "terms": ["sure win"],
         "pattern": None, "languages": [], "regions": []}
    ],
    "publications": [],
}  # fmt: skip
_PUBLISHED: Mapping[str, Any] = {
    **_SHOWN,
    "served": True,
    "publications": [{"ref": "shop-rules@1", "action": "publish", "by": "ann", "at": "2026-11-21T08:30:00+00:00"}],
}
_USABLE: Mapping[str, Any] = {"valid": True, "ref": "shop-rules@1", "digest": _SUMMARY["digest"]}
_UNUSABLE: Mapping[str, Any] = {"valid": False, "error": "line 7: rules.0.pattern: RE2 does not take it: missing )"}
_HITS: Mapping[str, Any] = {
    "ref": "shop-rules@1",
    "decisions": 31,
    "hits": [{"rule": "sure-win", "mode": "shadow", "region": "DE", "action": "approve", "decisions": 31}],
}
_DOCUMENT = document_body(rules_schema(), text=_TEXT, values=_VALUES)
_RULES = schema_of(RuleSetResponse)
_REF = "`shop-rules@1`, or `shop-rules`: of a name alone the version in force, else the latest."
Reference = Annotated[str, Path(description=_REF, openapi_examples={"a version": {"value": "shop-rules@1"}})]
Name = Annotated[
    str, Path(description="The set's id, without a version.", openapi_examples={"a name": {"value": "shop-rules"}})
]
"""Parameters of a path."""

LIST = Operation(
    id="listRules",
    summary="List the rules",
    answer=Content(schema_of(RuleListing), {"listing": {"rules": [_SUMMARY]}}),
    answered="Every version of every set, those in force marked.",
)
SCHEMA = Operation(
    id="getRulesSchema",
    summary="Show the schema of rules",
    answer=Content({"type": "object"}, {"schema": rules_schema()}),
    answered="The JSON Schema, draft 2020-12.",
)
SHOW = Operation(
    id="getRules",
    summary="Show a set of rules",
    answer=Content(_RULES, {"published": _PUBLISHED}),
    answered="The set.",
    refused=("unknown_rules", "not_found"),
)
HITS = Operation(
    id="countRuleHits",
    summary="Count where rules were found",
    scope=Scope.ADMIN,
    answer=Content(schema_of(RuleSetHits), {"of a shadow rule": _HITS}),
    answered="How often each rule was found in stored decisions, and what was decided there.",
    refused=("unknown_rules", "not_found"),
)
VALIDATE = Operation(
    id="validateRules",
    summary="Check a set of rules",
    body=_DOCUMENT,
    answer=Content(
        {"anyOf": [schema_of(UsableDocument), schema_of(UnusableDocument)]},
        {"usable": _USABLE, "unusable": _UNUSABLE},
    ),
    answered="Whether it could be published here, and if not, why.",
    refused=("invalid_encoding",),
)
ADD = Operation(
    id="addRules",
    summary="Add a set of rules",
    scope=Scope.ADMIN,
    status=201,
    body=_DOCUMENT,
    answer=Content(_RULES, {"added": _SHOWN}),
    answered="The set as it was added, or as it was there already with the same content.",
    refused=("invalid_encoding", "invalid_rules", "rules_conflict"),
)
PUBLISH = Operation(
    id="publishRules",
    summary="Put a set of rules in force",
    scope=Scope.ADMIN,
    answer=Content(_RULES, {"published": _PUBLISHED}),
    answered="The set, which is searched for from now on.",
    refused=("unknown_rules", "not_found", "invalid_rules"),
)
ROLLBACK = Operation(
    id="rollBackRules",
    summary="Go back to the rules before",
    scope=Scope.ADMIN,
    answer=Content(_RULES, {"rolled back": _PUBLISHED}),
    answered="The set that is in force again.",
    refused=("not_found", "rules_conflict"),
)
WITHDRAW = Operation(
    id="withdrawRules",
    summary="Withdraw a set of rules",
    scope=Scope.ADMIN,
    answer=Content(_RULES, {"withdrawn": _SHOWN}),
    answered="The set that is in force no more.",
    refused=("not_found", "rules_conflict"),
)
OPERATIONS = (LIST, SCHEMA, SHOW, HITS, VALIDATE, ADD, PUBLISH, ROLLBACK, WITHDRAW)
