"""Sets of rules in the database: two workers see the same, and a set that is read back finds the same places."""

from __future__ import annotations

from pathlib import Path

from moderation.database import Database
from moderation.rule_store import RuleStore

RULES = """\
id: shop
version: 1
rules:
  - {name: sure-win, head: gambling, kind: terms, terms: [sure win], effect: escalate, mode: active}
  - {name: number, head: scam, kind: regex, pattern: 'call \\d{4}', effect: reject, mode: shadow, regions: [DE]}
"""


def test_two_workers_find_the_same(tmp_path: Path) -> None:
    first, second = (RuleStore(Database(f"sqlite:///{tmp_path / 'rules.db'}")) for _ in range(2))
    first.add(RULES, by="ann")
    second.publish("shop@1", by="bob")
    text = "a sure win, call 0900"
    places = [
        [(match.rule, match.start, match.end) for match in rules.find(text, "en", "DE")]
        for store in (first, second)
        for rules in store.all_in_force()
    ]
    assert places == [[("shop@1/sure-win", 2, 10), ("shop@1/number", 12, 21)]] * 2
