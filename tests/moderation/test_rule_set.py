"""Rule documents: what they find where, what is refused and on which line, and offsets in code points."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from moderation import rule_set as module
from moderation.document import DocumentError
from moderation.rule_set import (
    MAX_APPLYING,
    MAX_PATTERNS,
    MAX_PLACES,
    MAX_PROGRAM,
    MAX_PROGRAMS,
    RuleSet,
    TextRule,
    compile_pattern,
    load_rule_set,
    read_rule_set,
    rules_schema,
)
from moderation.rules import RuleMatch
from retrieval_shared.text import normalise

SHOP = r"""id: shop-rules
version: 3
rules:
  - name: sure-win
    head: gambling
    kind: terms
    terms: [sure win, 토토]
    languages: [en, ko]
    effect: escalate
    mode: active
  - name: phone
    head: scam
    kind: regex
    pattern: 'call \+?\d{6,}'
    regions: [DE, IN-GJ]
    effect: reject
    mode: shadow
"""


def one_rule(**values: object) -> RuleSet:
    rule = {"name": "r", "head": "scam", "kind": "regex", "effect": "evidence", "mode": "active", **values}
    return read_rule_set(yaml.safe_dump({"id": "shop", "version": 1, "rules": [rule]}, allow_unicode=True))


def places(rules: RuleSet, text: str, language: str | None = None, region: str = "DE") -> list[tuple[str, str]]:
    found = rules.find(text, language, region)
    return [(match.rule.partition("/")[2], text[match.start : match.end]) for match in found]


def test_a_document_becomes_rules_in_its_order() -> None:
    rules = read_rule_set(SHOP)
    assert rules.ref == "shop-rules@3"
    assert rules.rules == (
        TextRule(
            "sure-win", "gambling", "escalate", "active",
            terms=("sure win", "토토"), languages=frozenset({"en", "ko"}),
        ),
        TextRule(
            "phone", "scam", "reject", "shadow",
            pattern=r"call \+?\d{6,}", regions=frozenset({"DE", "IN-GJ"}),
        ),
    )  # fmt: skip


def test_a_match_tells_its_rule_what_follows_and_where() -> None:
    assert read_rule_set(SHOP).find("Sure-win! Call +49123456", "en", "DE") == (
        RuleMatch("gambling", "sure win", 0, 8, rule="shop-rules@3/sure-win", effect="escalate", mode="active"),
        RuleMatch("scam", r"call \+?\d{6,}", 10, 24, rule="shop-rules@3/phone", effect="reject", mode="shadow"),
    )


def test_the_digest_follows_values_not_layout() -> None:
    digest = read_rule_set(SHOP).digest
    assert read_rule_set("# a comment\n" + yaml.safe_dump(yaml.safe_load(SHOP))).digest == digest
    assert read_rule_set(SHOP.replace("sure win", "sure wins")).digest != digest
    assert len(digest) == 64


@pytest.mark.parametrize(
    ("language", "region", "expected"),
    [
        ("en", "DE", ["sure-win", "phone"]),
        ("ko", "FR", ["sure-win"]),
        ("de", "DE", ["phone"]),
        (None, "FR", ["sure-win"]),
        ("de", "DE-BY", ["phone"]),
        ("de", "IN", []),
        ("de", "IN-GJ", ["phone"]),
        ("de", "IN-MH", []),
    ],
)
def test_a_rule_applies_in_its_languages_and_regions(language: str | None, region: str, expected: list[str]) -> None:
    text = "sure win, call 1234567"
    assert [name for name, _ in places(read_rule_set(SHOP), text, language, region)] == expected


def test_a_longer_term_hides_a_shorter_one_of_its_own_rule_only() -> None:
    rule = {"head": "scam", "kind": "terms", "effect": "reject"}
    document = {
        "id": "shop",
        "version": 1,
        "rules": [
            {"name": "long", "terms": ["wine shop", "wine"], "mode": "shadow", **rule},
            {"name": "short", "terms": ["wine"], "mode": "active", **rule},
            {"name": "pattern", **rule, "kind": "regex", "pattern": "wine", "mode": "active"},
        ],
    }
    expected = [("short", "wine"), ("pattern", "wine"), ("long", "wine shop")]
    assert places(read_rule_set(yaml.safe_dump(document)), "a wine shop") == expected


def test_disguised_terms_are_found_in_canonical_text() -> None:
    rules = one_rule(kind="terms", terms=["v1agra"])
    assert places(rules, normalise("V\u200biAgr\u0430!").canonical) == [("r", "ViAgra")]


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        (r"\d+", "🍷🍷 12 é 34", ["12", "34"]),
        (r"wine", "e\u0301e\u0301 👩‍👩‍👧 wine", ["wine"]),
        (r"шоп", "Вино ШОП 🍷", ["ШОП"]),
        (r"賭.", "新竹賭場", ["賭場"]),
        (r"\pL+\pM+", "a हिन् b", ["हि", "न्"]),
        (r"(?-i)Win", "win WIN Win", ["Win"]),
        (r"^buy", "buy\nbuy", ["buy"]),
        (r"(?m)^buy$", "buy\nbuy now\nbuy", ["buy", "buy"]),
        (r"a.b", "a\nb a🍷b", ["a🍷b"]),
        (r"(?P<sum>\d)(\d)", "12", ["12"]),
    ],
)
def test_places_of_patterns_count_code_points(pattern: str, text: str, expected: list[str]) -> None:
    assert [place for _, place in places(one_rule(pattern=pattern), text)] == expected


@settings(deadline=None)
@given(st.text(st.sampled_from("ab1é\u0301🍷👩\u200d賭ß"), max_size=20))
def test_places_of_patterns_are_those_of_the_standard_library(text: str) -> None:
    found = one_rule(pattern="1[^1]").find(text, None, "DE")
    assert [(match.start, match.end) for match in found] == [match.span() for match in re.finditer("1[^1]", text)]


def test_of_a_pattern_only_the_first_places_are_told() -> None:
    found = one_rule(pattern="a").find("a" * 1_000, None, "DE")
    assert [match.start for match in found] == list(range(MAX_PLACES))


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(a|a)*b", r"(a*)*b", r"(?:a?){200}a{200}b"])
def test_no_pattern_takes_more_than_linear_time(pattern: str) -> None:
    """Any of these would run for years in an engine that backtracks."""
    assert compile_pattern(pattern + "z").search("a" * 10_000) is None


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(", "RE2 does not take it: missing ): ("),
        (r"(?=a)", "RE2 does not take it: invalid perl operator"),
        (r"(a)\1", "RE2 does not take it: invalid escape sequence"),
        ("a{1001}", "RE2 does not take it: invalid repetition size"),
        (r"(?:\pL{30}\d){30}", "RE2 does not take it: pattern too large"),
        (r"\pL{3,20}\d{4}", "too large: 23965 instructions, allowed 2500"),
        ("a*", "it matches the empty string"),
        ("a|", "it matches the empty string"),
        (r"\b", "it matches the empty string"),
        (r"\B", "it matches the empty string"),
        ("^", "it matches the empty string"),
        ("(?m)$", "it matches the empty string"),
        (r"a?\b", "it matches the empty string"),
        (r"(?m)^$", "it matches the empty string"),
        (r"a?\bb?", "it matches the empty string"),
    ],
)
def test_a_pattern_is_refused_with_its_line_and_the_reason(pattern: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        compile_pattern(pattern)
    quoted = "'" + pattern + "'"
    with pytest.raises(DocumentError, match=re.escape(f"line 14: rules.1.pattern: {reason}")):
        read_rule_set(SHOP.replace(r"'call \+?\d{6,}'", quoted))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("version: 3", "version: 3\nowner: me", "line 1: document: .*'owner'"),
        ("version: 3", "version: 0", "line 2: version: 0"),
        ("id: shop-rules", "id: Shop", "line 1: id: 'Shop'"),
        ("id: shop-rules", 'id: "shop\\n"', "line 1: id: "),
        ("    head: gambling\n", "", "line 4: rules.0: 'head' is a required property"),
        ("    mode: active\n", "", "line 4: rules.0: 'mode' is a required property"),
        ("kind: terms", "kind: words", "line 6: rules.0.kind: 'words'"),
        ("kind: terms", "kind: regex", "line 4: rules.0: 'pattern' is a required property"),
        ("kind: regex", "kind: regex\n    terms: [a]", "line 14: rules.1.terms: a rule of kind regex has no terms"),
        ("kind: terms", "kind: terms\n    pattern: a", "line 7: rules.0.pattern: a rule of kind terms has no pattern"),
        ("effect: reject", "effect: limit", "line 16: rules.1.effect: 'limit'"),
        ("mode: shadow", "mode: off", "line 17: rules.1.mode: False is not one of"),
        ("[sure win, 토토]", "[]", r"line 7: rules.0.terms: \[\]"),
        ("[sure win, 토토]", "[sure win, '!!']", "line 7: rules.0.terms.1: term: found '!!', allowed text with a"),
        ("[sure win, 토토]", f"[{'a' * 201}]", "line 7: rules.0.terms.0: 'a+' is too long"),
        ("name: phone", "name: sure-win", "line 11: rules.1.name: 'sure-win' is given twice"),
        ("[DE, IN-GJ]", "[DE, XX]", "line 15: rules.1.regions.1: region: found 'XX'"),
        ("[DE, IN-GJ]", "[NO]", "line 15: rules.1.regions.0: False is not of type 'string': .*in quotes"),
        ("[en, ko]", "[no]", "line 8: rules.0.languages.0: False is not of type 'string': .*in quotes"),
        ("[en, ko]", "[en-GB]", "line 8: rules.0.languages.0: 'en-GB' does not match"),
        ("id: shop-rules", "id: *a", "line 1: alias"),
        (SHOP, "[]", "line 1: document: .* is not of type 'object'"),
    ],
)
def test_what_no_rule_may_say_is_refused_with_its_line(old: str, new: str, message: str) -> None:
    assert old in SHOP
    with pytest.raises(DocumentError, match=message):
        read_rule_set(SHOP.replace(old, new, 1))


def test_patterns_are_counted() -> None:
    rule = "- {name: r%d, head: scam, kind: regex, pattern: a, effect: evidence, mode: active}\n"
    rules = "".join(rule % number for number in range(MAX_PATTERNS + 1))
    with pytest.raises(DocumentError, match=rf"rules\.{MAX_PATTERNS}\.pattern: more than {MAX_PATTERNS} patterns"):
        read_rule_set(f"id: shop\nversion: 1\nrules:\n{rules}")


def with_patterns(*patterns: str) -> str:
    rule = {"head": "scam", "kind": "regex", "effect": "evidence", "mode": "active"}
    rules = [{"name": f"r{i}", "pattern": pattern, **rule} for i, pattern in enumerate(patterns)]
    return yaml.safe_dump({"id": "shop", "version": 1, "rules": rules}, width=10_000)


@pytest.mark.parametrize(
    "pattern",
    [
        r"(fake|forged)\W{1,3}(passports?|diplomas?)",
        r"\pL+\pM+",
        r"\pL+ \pL+",
        r"\pL+\W{0,3}\d{4,}",
        r"\p{Cyrillic}{3,20}",
        r"https?://[^\s]{5,200}",
        r"free[^.]{0,60}money",
        r"(?s)buy.{0,100}now",
        r"[A-Z]{2}\d{2} ?(\d{4} ?){4,7}\d{0,2}",
        r"казино|ставк[аи]|лотере[яию]",
    ],
)
def test_an_ordinary_pattern_is_small_enough(pattern: str) -> None:
    assert 0 < compile_pattern(pattern).programsize <= MAX_PROGRAM


LARGE = "a{1000}b{1000}"


def test_the_patterns_of_a_set_are_bounded_together() -> None:
    size = compile_pattern(LARGE).programsize
    fit = MAX_PROGRAMS // size
    assert len(read_rule_set(with_patterns(*[LARGE] * fit)).rules) == fit
    reason = (
        rf"rules\.{fit}\.pattern: too large: {size * (fit + 1)} instructions with the patterns before, allowed 20000"
    )
    with pytest.raises(DocumentError, match=reason):
        read_rule_set(with_patterns(*[LARGE] * (fit + 1)))


def test_a_pattern_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(module, "compile_pattern", lambda pattern: compiled.append(pattern) or compile_pattern(pattern))
    rules = read_rule_set(with_patterns("wine", "beer", "wine"))
    assert places(rules, "wine") == [("r0", "wine"), ("r2", "wine")]
    assert compiled == ["wine", "beer", "wine"]


def test_rules_are_asked_once_whether_they_apply_to_a_language_and_region(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    applies = TextRule.applies
    monkeypatch.setattr(TextRule, "applies", lambda rule, *where: asked.append(where) or applies(rule, *where))
    rules = read_rule_set(SHOP)
    asked.clear()
    found = [rules.find_in("sure win, call 1234567", "en", ["DE", "FR"]) for _ in range(3)]
    assert asked == [("en", "DE")] * 2 + [("en", "FR")] * 2
    assert found[0] == found[1] == found[2]
    assert [match.rule for match in found[0]["FR"]] == ["shop-rules@3/sure-win"]
    assert [name for name, _ in places(rules, "sure win, call 1234567", "de", "DE")] == ["phone"]


def test_however_many_regions_are_asked_for_no_more_than_so_many_are_kept() -> None:
    rules = read_rule_set(SHOP)
    codes = [f"{country}-{number}" for country in ("DE", "IN") for number in range(MAX_APPLYING)]
    assert not rules.find_in("call 1234567", "de", codes)["IN-7"]
    for code in ("DE-3", "DE-1000", "IN-GJ"):
        assert [name for name, _ in places(rules, "call 1234567", "de", code)] == ["phone"]
    assert len(rules._known) <= MAX_APPLYING


def test_a_file_is_named_in_what_is_wrong_with_it(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(SHOP, encoding="utf-8")
    assert load_rule_set(path) == read_rule_set(SHOP)
    path.write_text("id: ]", encoding="utf-8")
    with pytest.raises(ValueError, match=r"rules shop\.yaml: line 1: no YAML"):
        load_rule_set(str(path))
    with pytest.raises(ValueError, match=r"rules: found .*absent\.yaml', which cannot be read"):
        load_rule_set(tmp_path / "absent.yaml")


def test_heads_are_checked_against_the_models() -> None:
    rules = read_rule_set(SHOP)
    rules.check_heads(["gambling", "scam", "drugs"])
    with pytest.raises(ValueError, match=r"rules shop-rules@3: rule 'phone' speaks for head 'scam', allowed"):
        rules.check_heads(["gambling"])


def test_the_schema_is_itself_valid() -> None:
    faults = Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(rules_schema())
    assert [fault.message for fault in faults] == []


def test_the_examples_are_true() -> None:
    found = doctest.testmod(module)
    assert (found.failed, found.attempted) == (0, 2)
