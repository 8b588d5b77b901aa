"""The document of the routes of policies."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

from moderation.auth import Scope
from moderation.openapi import policy_examples as examples
from moderation.openapi.json_schema import schema_of
from moderation.openapi.operation import Content, Operation, document_body, json_body
from moderation.openapi.policy_answers import (
    BacktestResponse,
    PolicyDifference,
    PolicyListing,
    PolicyResponse,
)
from moderation.openapi.version_answers import UnusableDocument, UsableDocument
from moderation.policy_api import BacktestRequest, DiffRequest
from moderation.policy_document import policy_schema

_DOCUMENT = document_body(policy_schema(), text=examples.POLICY_TEXT, values=examples.POLICY_VALUES)
_POLICY = schema_of(PolicyResponse)
_REF = "`ads-default@2`, or `ads-default`: of a name alone the version in force, else the latest."
Reference = Annotated[str, Path(description=_REF, openapi_examples={"a version": {"value": "ads-default@2"}})]
Name = Annotated[
    str, Path(description="The policy's id, without a version.", openapi_examples={"a name": {"value": "ads-default"}})
]
"""Parameters of a path."""

LIST = Operation(
    id="listPolicies",
    summary="List the policies",
    answer=Content(schema_of(PolicyListing), {"listing": examples.LISTED}),
    answered="Every version, and what the heads' thresholds were fitted on.",
)
SCHEMA = Operation(
    id="getPolicySchema",
    summary="Show the schema of policies",
    answer=Content({"type": "object"}, {"schema": policy_schema()}),
    answered="The JSON Schema, draft 2020-12.",
)
SHOW = Operation(
    id="getPolicy",
    summary="Show a policy",
    answer=Content(_POLICY, {"published": examples.PUBLISHED}),
    answered="The policy.",
    refused=("unknown_policy", "not_found"),
)
VALIDATE = Operation(
    id="validatePolicy",
    summary="Check a policy",
    body=_DOCUMENT,
    answer=Content(
        {"anyOf": [schema_of(UsableDocument), schema_of(UnusableDocument)]},
        {"usable": examples.USABLE, "unusable": examples.UNUSABLE},
    ),
    answered="Whether it could be published here, and if not, why.",
    refused=("invalid_encoding",),
)
DIFF = Operation(
    id="comparePolicies",
    summary="Compare two policies",
    body=json_body(schema_of(DiffRequest), {"two versions": {"before": "ads-default@1", "after": "ads-default@2"}}),
    answer=Content(schema_of(PolicyDifference), {"changes": examples.CHANGES}),
    answered="Rules that differ, by region and head; time zones; what becomes of languages that are not read.",
    refused=("invalid_json", "invalid_request", "unknown_policy"),
)
ADD = Operation(
    id="addPolicy",
    summary="Add a policy",
    scope=Scope.ADMIN,
    status=201,
    body=_DOCUMENT,
    answer=Content(_POLICY, {"added": examples.SHOWN}),
    answered="The policy as it was added, or as it was there already with the same content.",
    refused=("invalid_encoding", "invalid_policy", "policy_conflict"),
)
BACKTEST = Operation(
    id="backtestPolicy",
    summary="Try a policy out",
    scope=Scope.ADMIN,
    body=json_body(
        schema_of(BacktestRequest),
        {
            "another policy": {"policy": "ads-default@2", "region": "DE", "since": "2026-11-01T00:00:00Z"},
            "other thresholds": {"thresholds": {"gambling": {"escalate": 0.3, "act": 0.9}}, "limit": 10_000},
        },
    ),
    answer=Content(schema_of(BacktestResponse), {"report": examples.BACKTESTED}),
    answered="What would have been decided otherwise.",
    refused=("invalid_json", "invalid_request", "unknown_policy", "invalid_policy"),
)
PUBLISH = Operation(
    id="publishPolicy",
    summary="Put a policy in force",
    scope=Scope.ADMIN,
    answer=Content(_POLICY, {"published": examples.PUBLISHED}),
    answered="The policy, which decides from now on.",
    refused=("unknown_policy", "not_found", "invalid_policy"),
)
ROLLBACK = Operation(
    id="rollBackPolicy",
    summary="Go back to the version before",
    scope=Scope.ADMIN,
    answer=Content(_POLICY, {"rolled back": examples.PUBLISHED}),
    answered="The policy that is in force again.",
    refused=("not_found", "policy_conflict"),
)
OPERATIONS = (LIST, SCHEMA, SHOW, VALIDATE, DIFF, ADD, BACKTEST, PUBLISH, ROLLBACK)
