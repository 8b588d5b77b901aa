"""Where signals come from: one search for all regions, the bank beside the rules, what a decision depends on."""

from __future__ import annotations

from moderation.bank import BankMatch
from moderation.rule_set import RuleSet, read_rule_set
from moderation.signal_sources import NO_SOURCES, SignalSources
from moderation.signals import Signal
from retrieval_shared.language import Language

RULES = read_rule_set("""\
id: shop
version: 3
rules:
  - {name: sure-win, head: gambling, kind: terms, terms: [sure win], effect: escalate, mode: active}
  - {name: austrian, head: scam, kind: terms, terms: [win], effect: reject, mode: active, regions: [AT]}
  - {name: german, head: scam, kind: terms, terms: [win], effect: reject, mode: shadow, languages: [de]}
""")
ENGLISH = Language("en", 0.98, True)


class FakeBank:
    """Knows one text."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def nearest(self, text: str) -> tuple[BankMatch, ...]:
        """The entry, where the text is it."""
        self.asked.append(text)
        return (BankMatch("bank_1", "scam", 1.0, "exact"),)


def names(found: tuple[Signal, ...]) -> list[str]:
    return [signal.name for signal in found]


def test_every_region_gets_its_rules_and_the_bank_is_asked_once() -> None:
    bank = FakeBank()
    found = SignalSources((RULES,), bank).find("sure win", language=ENGLISH, regions=["DE", "AT"])
    assert {region: names(signals) for region, signals in found.items()} == {
        "DE": ["shop@3/sure-win", "bank_1"],
        "AT": ["shop@3/sure-win", "shop@3/austrian", "bank_1"],
    }
    assert bank.asked == ["sure win"]


def test_a_language_that_is_not_sure_rules_out_no_rule() -> None:
    unsure = Language("en", 0.4, True)
    found = SignalSources((RULES,)).find("sure win", language=unsure, regions=["DE"])
    assert names(found["DE"]) == ["shop@3/sure-win", "shop@3/german"]


def test_a_decision_depends_on_the_rules_in_force_by_digest() -> None:
    other = RuleSet("bets", 1, (), digest="ab" * 32)
    assert SignalSources((RULES, other)).versions == {"rules": f"shop@3+{RULES.digest[:12]}, bets@1+abababababab"}
    assert NO_SOURCES.versions == {}
    assert NO_SOURCES.find("sure win", language=ENGLISH, regions=["DE"]) == {"DE": ()}
