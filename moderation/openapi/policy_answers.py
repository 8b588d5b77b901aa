"""The shapes of what is answered about policies."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from moderation.openapi.version_answers import Answer, PublicationResponse
from moderation.policy import Effect, UnsupportedLanguage
from moderation.response import ActionName, ConstraintResponse


class VersionSummary(Answer):
    """One version of a policy."""

    ref: str
    """Id and version, such as `ads-default@2`."""
    id: str
    version: int
    digest: str
    """sha256 of the document as canonical JSON: comments and layout do not change it, every value does."""
    served: bool
    """Whether it decides now."""
    heads: list[str]


class HeadThresholdResponse(Answer):
    """The cuts of one head's probability, and what they were fitted on."""

    name: str
    escalate: float = Field(ge=0, le=1)
    """From here on a person decides."""
    act: float = Field(ge=0, le=1)
    """From here on the policy's rule acts by itself."""
    basis: str
    """How both were chosen."""
    positives: int
    """Positive rows they were fitted on."""
    negatives: int
    little_data: bool
    """Whether the positives are few."""


class ThresholdsResponse(Answer):
    """The thresholds that are served."""

    id: str
    prevalence: float
    """The share of violating ads, per head, that the fit assumed."""
    little_data_below: int
    heads: list[HeadThresholdResponse]


class PolicyListing(Answer):
    """Every version of every policy."""

    policies: list[VersionSummary]
    thresholds: ThresholdsResponse


class RuleResponse(Answer):
    """What one region does about one head."""

    effect: Effect
    severity: int = Field(ge=1, le=4)
    constraints: list[ConstraintResponse]
    on_error: Literal["escalate", "reject", "approve"]
    """What happens to an ad that could not be scored."""


class HeadPolicyResponse(Answer):
    """A head, and the rule of every region that has none of its own."""

    name: str
    kind: Literal["topic", "violation", "auxiliary"]
    definition: str
    default: RuleResponse
    dsa: list[str]
    """Statement categories of the DSA Transparency Database; our own mapping."""


class PolicyResponse(Answer):
    """One version of a policy, in full."""

    ref: str
    id: str
    version: int
    digest: str
    served: bool
    """Whether it decides now."""
    heads: list[HeadPolicyResponse]
    groups: dict[str, list[str]]
    """Group -> its regions and groups."""
    zones: dict[str, str]
    """Region -> IANA time zone."""
    regions: dict[str, dict[str, RuleResponse]]
    """Region or group -> head -> the rule that replaces the head's default."""
    unsupported_language: UnsupportedLanguage
    publications: list[PublicationResponse]
    """Of all its versions, oldest first."""


class RuleChangeResponse(Answer):
    """A head whose rule differs in a region."""

    region: str
    """`default`: every region that neither policy names."""
    policy: str
    """The head."""
    before: RuleResponse | None
    after: RuleResponse | None


class ZoneChangeResponse(Answer):
    """A region whose time zone differs, so that the times of its rules do."""

    region: str
    before: str | None
    """IANA time zone; null: the policy knows none."""
    after: str | None


class LanguageChangeResponse(Answer):
    """What becomes of an ad in a language the model does not read."""

    before: UnsupportedLanguage
    after: UnsupportedLanguage


class PolicyDifference(Answer):
    """What changes between two policies."""

    before: str
    after: str
    changes: list[RuleChangeResponse]
    """Of rules."""
    zones: list[ZoneChangeResponse]
    """Of time zones."""
    unsupported_language: LanguageChangeResponse | None
    """Null: the same in both."""


class RegionCount(Answer):
    """How many stored decisions of a region went from one action to another."""

    region: str
    before: ActionName
    after: ActionName
    decisions: int


class TopicCount(Answer):
    """How many entries of a head went from one effect and action to another; `-` for none."""

    policy: str
    before: str
    after: str
    decisions: int


class FlipResponse(Answer):
    """A stored decision that would be made otherwise."""

    id: int
    item_id: str
    region: str
    before: ActionName
    after: ActionName
    reasons: list[str]
    """Of the new decision."""


class BacktestResponse(Answer):
    """What another policy, or other thresholds, would have decided."""

    policy: str
    thresholds: str
    decisions: int
    """How many were made again."""
    flips: int
    """How many came out otherwise."""
    regions: list[RegionCount]
    topics: list[TopicCount]
    examples: list[FlipResponse]
