"""Rules of one's own: terms and patterns per language and region in a versioned document, and where they are found."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import re2  # type: ignore[import-untyped]
from jsonschema import Draft202012Validator

from moderation.document import DocumentPath, read_document, read_file
from moderation.regions import check_region, parent_region
from moderation.rules import RuleEffect, RuleMatch, RuleMode
from moderation.terms import Occurrence, TermFinder, check_term, longest

SCHEMA = Path(__file__).parent / "policies" / "rules.schema.json"
MAX_PATTERNS = 200
"""Per document; each is searched for by itself, some 10 microseconds per ad."""
MAX_PROGRAM = 2_500
"""Instructions a pattern may compile to: a search takes time linear in them and in the text, whatever the pattern."""
MAX_PROGRAMS = 20_000
"""Instructions of all patterns of a document together."""
MAX_APPLYING = 1_024
"""Pairs of a language and a region for which the rules that apply are kept."""
MAX_PLACES = 16
"""Places shown per pattern; each one more can cost another reading of the rest of the text."""
_MAX_MEMORY = 1024 * 1024  # bytes for the program and the states that RE2 keeps of it
_NEIGHBOURS = ("", "\n", "a", " ")  # the edge, a line break, an ASCII word character, any other: all that RE2 asks for
_CODES = "allowed are codes in quotes where YAML reads them otherwise: 'NO', 'no'"
_HINTS = {"languages": _CODES, "regions": _CODES}


@dataclass(frozen=True)
class TextRule:
    """One rule: what it looks for, where, and what follows."""

    name: str
    head: str
    effect: RuleEffect
    mode: RuleMode
    terms: tuple[str, ...] = ()
    """Whole words, as `TermFinder` has it; none where there is a pattern."""
    pattern: str | None = None
    """In the syntax of RE2."""
    languages: frozenset[str] = frozenset()
    """Codes of ISO 639; none: every language."""
    regions: frozenset[str] = frozenset()
    """Codes of ISO 3166; none: every region."""

    @cached_property
    def compiled(self) -> Any:  # noqa: ANN401 - the library has no types
        """What searches for the pattern, None without one; `compile_pattern` says what it raises."""
        return None if self.pattern is None else compile_pattern(self.pattern)

    def applies(self, language: str | None, region: str) -> bool:
        """Return whether the rule is for texts of a language (None: not known, so it may be) in a region."""
        spoken = language is None or not self.languages or language in self.languages
        return spoken and (not self.regions or not self.regions.isdisjoint({region, parent_region(region)}))


@dataclass(frozen=True)
class RuleSet:
    """One immutable version of a document of rules.

    Example:
        >>> rules = read_rule_set('''
        ... id: shop-rules
        ... version: 1
        ... rules:
        ...   - {name: sure-win, head: gambling, kind: terms, terms: [sure win], effect: escalate, mode: active}
        ... ''')
        >>> [(match.rule, match.effect, match.start, match.end) for match in rules.find("A SURE-WIN!", "en", "DE")]
        [('shop-rules@1/sure-win', 'escalate', 2, 10)]
    """

    id: str
    version: int
    rules: tuple[TextRule, ...]
    digest: str = ""
    """sha256 of the document as canonical JSON, in hex: comments and layout do not change it, every value does."""

    @property
    def ref(self) -> str:
        """Return id and version, such as `shop-rules@1`."""
        return f"{self.id}@{self.version}"

    def check_heads(self, known: Iterable[str]) -> None:
        """Raise `ValueError` for a rule that speaks for a head that is not known; call it when both are loaded."""
        heads = set(known)
        for rule in self.rules:
            if rule.head not in heads:
                raise ValueError(
                    f"rules {self.ref}: rule {rule.name!r} speaks for head {rule.head!r}, allowed {sorted(heads)}"
                )

    def find(self, text: str, language: str | None, region: str) -> tuple[RuleMatch, ...]:
        """Return the places of the rules that apply, by place and then by the order of the rules.

        Terms of one rule that overlap are told as `longest` has it; no rule hides another. Of a pattern the first
        `MAX_PLACES` places are told.

        Args:
            text: one that `normalise` made canonical; offsets count its code points.
            language: code of ISO 639; None where it is not known: rules of every language apply.
            region: code of ISO 3166-1 or ISO 3166-2.
        """
        return self.find_in(text, language, [region])[region]

    def find_in(
        self, text: str, language: str | None, regions: Sequence[str]
    ) -> dict[str, tuple[RuleMatch, ...]]:  # fmt: skip
        """Return what `find` returns, for each of some regions; the text is searched once."""
        applying = {region: self._applying(language, region) for region in regions}
        anywhere = frozenset().union(*applying.values())
        found = [*self._find_terms(text, anywhere), *self._find_patterns(text, anywhere)]
        found.sort(key=lambda each: (each[1].start, each[1].end, each[0]))
        return {region: tuple(match for i, match in found if i in here) for region, here in applying.items()}

    def _applying(self, language: str | None, region: str) -> frozenset[int]:
        """Return the places of the rules that apply; worked out once, since every item asks again."""
        known = self._known.get((language, region))
        if known is None:
            known = frozenset(i for i, rule in enumerate(self.rules) if rule.applies(language, region))
            if len(self._known) >= MAX_APPLYING:  # the codes of sub-regions that callers make up are many
                self._known.clear()
            self._known[language, region] = known
        return known

    def _find_terms(self, text: str, applying: Collection[int]) -> Iterator[tuple[int, RuleMatch]]:
        """Yield the terms, each with the place of its rule."""
        by_rule: dict[int, list[Occurrence]] = {}
        for each in self._finder.find(text):
            i, _ = self._terms[each.term]
            if i in applying:
                by_rule.setdefault(i, []).append(each)
        for i, occurrences in by_rule.items():
            for start, end, term in longest(occurrences):
                yield i, self._match(i, self._terms[term][1], start, end)

    def _find_patterns(self, text: str, applying: Collection[int]) -> Iterator[tuple[int, RuleMatch]]:
        """Yield the places of patterns, each with the place of its rule."""
        for i, pattern in self._patterns.items():
            if i in applying:
                for place in islice(pattern.finditer(text), MAX_PLACES):
                    yield i, self._match(i, pattern.pattern, *place.span())

    def _match(self, i: int, term: str, start: int, end: int) -> RuleMatch:
        rule = self.rules[i]
        return RuleMatch(
            rule.head, term, start, end, rule=f"{self.ref}/{rule.name}", effect=rule.effect, mode=rule.mode
        )  # fmt: skip

    @cached_property
    def _terms(self) -> tuple[tuple[int, str], ...]:
        """Every term with the place of its rule."""
        return tuple((i, term) for i, rule in enumerate(self.rules) for term in rule.terms)

    @cached_property
    def _finder(self) -> TermFinder:
        return TermFinder([term for _, term in self._terms])

    @cached_property
    def _patterns(self) -> Mapping[int, Any]:
        """Place of a rule -> its compiled pattern."""
        return {i: rule.compiled for i, rule in enumerate(self.rules) if rule.pattern is not None}

    @cached_property
    def _known(self) -> dict[tuple[str | None, str], frozenset[int]]:
        return {}


def load_rule_set(path: str | Path) -> RuleSet:
    """Return the rules of a file.

    Raises:
        ValueError: the file cannot be read, or is refused; the message names file, line and reason.
    """
    return read_file(Path(path), read_rule_set, what="rules")


def read_rule_set(text: str) -> RuleSet:
    """Return the rules of a YAML text, compiled.

    Raises:
        DocumentError: they are none; the message names the first wrong line and the reason.
    """
    document = read_document(text)
    document.check(_validator(), hints=_HINTS)
    made = tuple(map(_rule, document.values["rules"]))
    for path, reason in _faults(document.values["rules"], made):
        raise document.fault(path, reason)
    rules = RuleSet(
        id=document.values["id"],
        version=int(document.values["version"]),  # JSON Schema takes 3.0 for an integer
        rules=made,
        digest=document.digest,
    )
    rules.find("", None, "")  # compiles, so that no item waits for it
    return rules


def compile_pattern(pattern: str) -> Any:  # noqa: ANN401 - the library has no types
    """Return a pattern compiled by RE2, which takes linear time on every text.

    Raises:
        ValueError: RE2 does not take it (it has no look-around and no back references), it is too large, or it can
            match without a character.
    """
    options = re2.Options()
    options.max_mem = _MAX_MEMORY
    options.log_errors = False
    options.never_capture = True
    options.case_sensitive = False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        raise ValueError(f"RE2 does not take it: {error.args[0].decode('utf-8', 'replace')}") from error
    if compiled.programsize > MAX_PROGRAM:
        raise ValueError(f"too large: {compiled.programsize} instructions, allowed {MAX_PROGRAM}; repeat less")
    for before in _NEIGHBOURS:
        for after in _NEIGHBOURS:
            if compiled.fullmatch(before + after, len(before), len(before)):
                raise ValueError("it matches the empty string, so every text")
    return compiled


def rules_schema() -> dict[str, Any]:
    """Return the JSON Schema of a document."""
    schema: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return schema


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(rules_schema())


def _rule(rule: Mapping[str, Any]) -> TextRule:
    """Return a rule of a document that the schema takes."""
    return TextRule(
        name=rule["name"],
        head=rule["head"],
        effect=rule["effect"],
        mode=rule["mode"],
        terms=tuple(rule.get("terms", ())),
        pattern=rule.get("pattern"),
        languages=frozenset(rule.get("languages", ())),
        regions=frozenset(rule.get("regions", ())),
    )


def _faults(rules: Iterable[Mapping[str, Any]], made: Iterable[TextRule]) -> Iterator[tuple[DocumentPath, str]]:
    """Yield what the schema cannot see of the rules of a document, also made: path and reason."""
    names: set[str] = set()
    for i, rule in enumerate(rules):
        if rule["name"] in names:
            yield ("rules", i, "name"), f"{rule['name']!r} is given twice, allowed once"
        names.add(rule["name"])
        foreign = "pattern" if rule["kind"] == "terms" else "terms"
        if foreign in rule:
            yield ("rules", i, foreign), f"a rule of kind {rule['kind']} has no {foreign}"
        for j, region in enumerate(rule.get("regions", ())):
            yield from _refusal(("rules", i, "regions", j), check_region, region)
        for j, term in enumerate(rule.get("terms", ())):
            yield from _refusal(("rules", i, "terms", j), check_term, term)
    yield from _faults_of_patterns(made)


def _faults_of_patterns(rules: Iterable[TextRule]) -> Iterator[tuple[DocumentPath, str]]:
    """Compile the patterns and yield those that are refused, alone or because of all before them."""
    patterns = instructions = 0
    for i, rule in enumerate(rules):
        if rule.pattern is None:
            continue
        path = ("rules", i, "pattern")
        patterns += 1
        if patterns > MAX_PATTERNS:
            yield path, f"more than {MAX_PATTERNS} patterns"
        try:
            instructions += rule.compiled.programsize
        except ValueError as error:
            yield path, str(error)
        if instructions > MAX_PROGRAMS:
            yield path, f"too large: {instructions} instructions with the patterns before, allowed {MAX_PROGRAMS}"


def _refusal(path: DocumentPath, check: Callable[[str], object], value: str) -> Iterator[tuple[DocumentPath, str]]:
    """Yield why a check refuses a value, if it does."""
    try:
        check(value)
    except ValueError as error:
        yield path, str(error)
