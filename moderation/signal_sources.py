"""Where signals come from besides the model: the sets of rules in force and the bank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moderation.decision import SURE_LANGUAGE
from moderation.signals import Signal, gather

if TYPE_CHECKING:
    from moderation.bank import Bank
    from moderation.rule_set import RuleSet
    from retrieval_shared.language import Language


@dataclass(frozen=True)
class SignalSources:
    """What is searched for in every text, as it stands at one moment."""

    rule_sets: tuple[RuleSet, ...] = ()
    bank: Bank | None = None

    def find(self, text: str, *, language: Language, regions: Sequence[str]) -> dict[str, tuple[Signal, ...]]:
        """Return the signals of a text per region; the text is searched once, whatever the number of regions.

        A language that is not surely identified (`SURE_LANGUAGE`) rules out no rule.

        Args:
            text: one that `normalise` made canonical.
            language: as told or identified.
            regions: codes of ISO 3166-1 or ISO 3166-2.
        """
        spoken = language.code if language.confidence >= SURE_LANGUAGE else None
        found = [rules.find_in(text, spoken, regions) for rules in self.rule_sets]
        known = self.bank.nearest(text) if self.bank is not None else ()
        return {region: gather((match for each in found for match in each[region]), known) for region in regions}

    @property
    def versions(self) -> dict[str, str]:
        """Return the rules that a decision depends on, for the record; nothing where there are none.

        The bank has no version: which of its entries were matched stands with the decision.
        """
        named = ", ".join(f"{rules.ref}+{rules.digest[:12]}" for rules in self.rule_sets)
        return {"rules": named} if named else {}


NO_SOURCES = SignalSources()
