"""Policy documents: the shipped ones, and everything that is refused, with its line and the reason."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from moderation.document import MAX_BYTES, DocumentError
from moderation.policy import Effect, Policy, Rule
from moderation.policy_document import (
    POLICIES,
    list_policies,
    load_policy,
    policy_schema,
    read_policy,
)
from moderation.rule_set import rules_schema

SMALL = """\
id: shop
version: 3
heads:
  - name: gambling
    kind: topic
    definition: Games with a stake.
    default:
      effect: LIMITED
      severity: 2
      constraints: [{kind: review, value: manual}]
  - name: scam
    kind: violation
    definition: Deceives to take money.
    default: {effect: PROHIBITED, severity: 4, on_error: reject}
regions:
  IN:
    gambling: {effect: PROHIBITED, severity: 3}
  IN-GA:
    gambling: {effect: LIMITED, severity: 2, constraints: [{kind: age, value: 21}, {kind: licence, value: state}]}
"""


def small(tmp_path: Path, text: str = SMALL) -> Policy:
    path = tmp_path / "shop.yaml"
    path.write_text(text, encoding="utf-8")
    return load_policy(path)


def test_digest_follows_values_not_layout(tmp_path: Path) -> None:
    digest = small(tmp_path).digest
    relaid = yaml.safe_dump(yaml.safe_load(SMALL), sort_keys=True)
    assert small(tmp_path, "# a comment\n" + relaid).digest == digest
    assert small(tmp_path, SMALL.replace("severity: 4", "severity: 3")).digest != digest
    assert len(digest) == 64


def test_a_policy_may_let_unread_languages_pass(tmp_path: Path) -> None:
    assert small(tmp_path).unsupported_language == "escalate"
    assert small(tmp_path, SMALL + "unsupported_language: flag\n").unsupported_language == "flag"


def test_shipped_references() -> None:
    assert load_policy("ads-default@2") == load_policy("ads-default")
    assert [policy.ref for policy in list_policies()] == ["ads-default@1", "ads-default@2"]
    assert load_policy(str(POLICIES / "ads-default@1.yaml")).ref == "ads-default@1"


def test_the_example_of_the_documentation_is_a_policy(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/policy.md").read_text(encoding="utf-8")
    example = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert example is not None
    policy = small(tmp_path, example[1])
    assert policy.ref == "shop@1"
    assert policy.rule("gambling", "NO") == (Rule(Effect.PROHIBITED, 3), "NO")


@pytest.mark.parametrize("ref", ["", "ads", "ads-default@99", "ads-default@", "../ads-default@1", "ads-default@01"])
def test_an_unknown_reference_lists_the_known_ones(ref: str) -> None:
    with pytest.raises(ValueError, match=r"policy: found .*, allowed .*ads-default@1"):
        load_policy(ref)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent\.yaml.*cannot be read"):
        load_policy(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("version: 3", "version: 3\nowner: me", "document: .*'owner'"),
        ("id: shop\n", "", "document: 'id' is a required property"),
        ("id: shop", "id: Shop!", "id: 'Shop!'"),
        ("version: 3", "version: 0", "version: 0"),
        ("severity: 4,", "severity: 9,", r"heads\.1\.default\.severity: 9"),
        ("effect: PROHIBITED, severity: 4", "effect: FORBID, severity: 4", r"heads\.1\.default\.effect: 'FORBID'"),
        ("on_error: reject", "on_eror: reject", r"heads\.1\.default: .*'on_eror'"),
        ("on_error: reject", "on_error: ignore", r"heads\.1\.default\.on_error: 'ignore'"),
        ("kind: topic", "kind: subject", r"heads\.0\.kind: 'subject'"),
        ("      constraints: [{kind: review, value: manual}]\n", "", r"heads\.0\.default: 'constraints' is a required"),
        ("[{kind: review, value: manual}]", "[]", r"heads\.0\.default\.constraints: \[\]"),
        (
            "{kind: age, value: 21}",
            "{kind: age, value: old}",
            r"regions\.IN-GA\.gambling\.constraints\.0\.value: 'old'",
        ),
        ("{kind: age, value: 21}", "{kind: age}", r"constraints\.0: 'value' is a required property"),
        ("{kind: age, value: 21}", "{kind: age, value: 21, unit: y}", r"constraints\.0: .*'unit'"),
        ("  IN:", "  india:", "regions: 'india'"),
        ("  IN:", "  XX:", "region: found 'XX'"),
        (
            "  IN:\n    gambling",
            "  IN:\n    gamling",
            "regions.IN.gamling: unknown head 'gamling', allowed",
        ),
        ("name: scam", "name: gambling", "heads.1.name: 'gambling' is given 2 times"),
        ("  IN-GA:", "  IN:", r"line \d+: key 'IN' is given 2 times"),
        ("  IN:", "  NO:", "line 16: key 'NO' is not text"),
        ("id: shop", "id: [shop", "while parsing a flow sequence"),
        (SMALL, "", "document: None is not of type 'object'"),
        (SMALL, "- a", "document: .* is not of type 'object'"),
        (SMALL, "a: [*a]", r"line 1: alias \*a: write the value out"),
        ("id: shop", "id: &a shop", "line 1: anchor &a: write the value out"),
    ],
)
def test_a_wrong_document_is_refused_by_the_name_of_its_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SMALL
    with pytest.raises(ValueError, match=r"policy shop\.yaml: (.|\n)*" + f"({message})"):
        small(tmp_path, SMALL.replace(old, new, 1))


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"id: caf\xe9")
    with pytest.raises(ValueError, match=r"policy latin\.yaml: "):
        load_policy(path)


def test_the_schema_is_itself_valid() -> None:
    faults = Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(policy_schema())
    assert [fault.message for fault in faults] == []


TIMES = "regions:\n  IN:\n    gambling: {effect: LIMITED, severity: 2, constraints: [%s]}\n"


def with_constraints(*constraints: str, rest: str = "") -> str:
    return SMALL[: SMALL.index("regions:")] + TIMES % ", ".join(constraints) + rest


HOURS = '{kind: hours, start: "06:00", end: "21:00", zone: Asia/Kolkata}'


def test_times_are_read_as_they_are_written() -> None:
    policy = read_policy(
        with_constraints("{kind: quiet_period, start: 2026-05-02, end: 2026-05-03T12:00:00}", HOURS)
        + "zones: {IN: Asia/Kolkata}\n"
    )
    quiet, hours = policy.rule("gambling", "IN")[0].constraints
    assert (quiet.start, quiet.end, quiet.zone) == ("2026-05-02", "2026-05-03T12:00:00", None)
    assert (hours.start, hours.end, hours.zone) == ("06:00", "21:00", "Asia/Kolkata")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (with_constraints("{kind: hours, start: 06:00, end: 21:00}"), "line 17: .*write times in quotes"),
        (with_constraints('{kind: hours, start: "6:00", end: "21:00", zone: UTC}'), "found '6:00', allowed a time of"),
        (with_constraints('{kind: hours, start: "06:00", end: "06:00", zone: UTC}'), "start and end are both 06:00"),
        (with_constraints('{kind: hours, start: "06:00", end: "21:00"}'), "line 17: .*no time zone for IN: name it"),
        (with_constraints('{kind: hours, start: "06:00", end: "21:00", zone: Mars/One}'), "zone: found 'Mars/One'"),
        (with_constraints("{kind: hours, value: 6}"), "'start' is a required property"),
        (with_constraints("{kind: age, value: 18, start: 2026-01-01}"), "should not be valid"),
        (with_constraints("{kind: age, value: 18}", "{kind: age, value: 21}"), "age is given 2 times"),
        (with_constraints("{kind: advertisers}"), "'values' is a required property"),
        (with_constraints("{kind: disclosure}"), "'value' is a required property"),
        (with_constraints('{kind: quiet_period, start: 2026-05-02, end: "20260503", zone: UTC}'), "'20260503'"),
        (with_constraints("{kind: quiet_period, start: 2026-05-03, end: 2026-05-02, zone: UTC}"), "before it begins"),
        (with_constraints("{kind: quiet_period, start: 2026-13-40, end: 2026-05-02, zone: UTC}"), "'2026-13-40'"),
        (with_constraints("{kind: quiet_period, start: 2026-05-01T00:00:00Z, end: 2026-05-02, zone: UTC}"), "offset"),
        (
            with_constraints(
                "{kind: quiet_period, start: 2026-05-01, end: 2026-05-04, zone: UTC}",
                "{kind: quiet_period, start: 2026-05-04, end: 2026-05-05, zone: UTC}",
            ),
            "line 17: .*overlapping rules: quiet_period:2026-05-01/2026-05-04 and quiet_period:2026-05-04/2026-05-05",
        ),
        (SMALL + "zones: {IN: Mars/One}\n", "line 20: zones.IN: found 'Mars/One'"),
        (SMALL + "zones: {XX: UTC}\n", "line 20: zones.XX: region: found 'XX'"),
        (SMALL + "groups: {DE: [FR]}\n", "line 20: groups.DE: 'DE' is a country"),
        (SMALL + "groups: {EU: [XX]}\n", "line 20: groups.EU.0: region: found 'XX'"),
        (SMALL + "groups: {EU: []}\n", "groups.EU: "),
        (SMALL + "groups:\n  A1: [DE]\n  B1: [C1]\n  C1: [B1]\n", "line 22: groups.B1: .*B1 > C1 > B1"),
        (SMALL + "groups: {A1: [A1]}\n", "groups hold each other: A1 > A1"),
        (
            SMALL + "  A1: {scam: {effect: ALLOWED, severity: 1}}\n  B1: {scam: {effect: ALLOWED, severity: 1}}\n"
            "groups: {A1: [DE, FR], B1: [FR]}\n",
            "line 21: regions.B1.scam: overlapping rules: A1 and B1 both hold FR",
        ),
        ("a: " + "[" * 40 + "]" * 40, "line 1: document: nested deeper than 32"),
        ("a: [" + "1," * 100_001 + "]", "line 1: document: more than 100000 values"),
        ("a: 1\x00", "line 1: no YAML: "),
        ("? [a]\n: 1", "line 1: key 'a collection' is not text"),
        ("a:\n  - !!python/object/apply:os.system [ls]", "line 2: no YAML: could not determine a constructor"),
    ],
)  # fmt: skip
def test_what_no_policy_may_say_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        read_policy(text)


def test_a_document_of_ten_megabytes_is_refused_unread() -> None:
    with pytest.raises(DocumentError, match=rf"line 1: document: 10000000 bytes, allowed {MAX_BYTES}"):
        read_policy("#" * 10_000_000)


def test_two_groups_that_hold_a_region_may_rule_different_heads() -> None:
    rest = (
        "  A1: {scam: {effect: ALLOWED, severity: 1}}\n  B1: {gambling: {effect: PROHIBITED, severity: 1}}\n"
        "groups: {A1: [FR], B1: [FR]}\n"
    )
    policy = read_policy(SMALL + rest)
    assert [policy.rule(head, "FR")[1] for head in ("scam", "gambling")] == ["A1", "B1"]


def test_groups_that_hold_many_groups_are_read_in_linear_time() -> None:
    """60 groups, each of which holds all later ones: 2 to the 59th ways lead from the first to the last."""
    held = "".join(f"  G{i}: [{', '.join(f'G{k}' for k in range(i + 1, 60))}]\n" for i in range(59))
    policy = read_policy(SMALL + "groups:\n" + held + "  G59: [DE]\n")
    assert policy.levels("DE") == (("DE",), ("G59",), tuple(f"G{i}" for i in range(59)))
    with pytest.raises(DocumentError, match=r"line 21: groups\.G0: groups hold each other: G0 > G1 > .* > G59 > G0$"):
        read_policy(SMALL + "groups:\n" + held + "  G59: [G0]\n")


def test_a_cycle_is_told_without_the_way_to_it() -> None:
    chain = "".join(f"  C{i}: [C{i + 1}]\n" for i in range(99))
    with pytest.raises(DocumentError, match=r"groups hold each other: C98 > C99 > C98$"):
        read_policy(f"{SMALL}groups:\n{chain}  C99: [DE, C98]\n")


LISTED = "{kind: advertisers, values: %s}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SMALL + "groups: {EU: [DE, FR, DE]}\n", "line 20: groups.EU.2: 'DE' is given twice, allowed once"),
        (
            SMALL.replace("kind: violation", "kind: violation\n    dsa: [VIOLENCE, SCAMS_AND_FRAUD, VIOLENCE]"),
            "line 13: heads.1.dsa.2: 'VIOLENCE' is given twice",
        ),
        (with_constraints(LISTED % "[a, b, b]"), "line 17: .*values.2: 'b' is given twice, allowed once"),
    ],
)
def test_what_a_list_holds_twice_is_refused(text: str, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        read_policy(text)


OBJECTS = json.dumps([{"a": i} for i in range(4_000)])


@pytest.mark.parametrize(
    ("text", "list_"),
    [
        (SMALL + f"groups: {{EU: {OBJECTS}}}\n", "groups.EU"),
        (SMALL.replace("kind: violation", f"kind: violation\n    dsa: {OBJECTS}"), "heads.1.dsa"),
        (with_constraints(LISTED % OBJECTS), "regions.IN.gambling.constraints.0.values"),
        (with_constraints(*["{kind: age, value: 18}"] * 51), "regions.IN.gambling.constraints"),
    ],
)
def test_a_list_longer_than_any_policy_needs_is_refused_by_its_length(text: str, list_: str) -> None:
    with pytest.raises(DocumentError, match=rf"line \d+: {re.escape(list_)}: .*"):
        read_policy(text)
    messages = (error.message for error in Draft202012Validator(policy_schema()).iter_errors(yaml.safe_load(text)))
    assert next(messages).endswith("is too long")


def test_no_list_is_compared_item_by_item() -> None:
    """`uniqueItems` compares every two items of a list that cannot be sorted."""
    for schema in (policy_schema(), rules_schema()):
        assert "uniqueItems" not in json.dumps(schema)


def test_of_regions_alike_one_is_asked_for_the_groups_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,300 regions, 26 in each of 50 groups that lie in each other."""
    asked = []
    levels = Policy.levels
    monkeypatch.setattr(Policy, "levels", lambda policy, region: asked.append(region) or levels(policy, region))
    states = [[f"US-{i:02d}{letter}" for letter in string.ascii_uppercase] for i in range(50)]
    groups = [", ".join([f"G{i + 1}" if i < 49 else "DE", *states[i]]) for i in range(50)]
    held = "".join(f"  G{i}: [{members}]\n" for i, members in enumerate(groups))
    read_policy(f"{SMALL}groups:\n{held}")
    assert asked == [*(members[0] for members in states[:49]), "DE", states[49][0]]


@pytest.mark.parametrize("value", ["9007199254740992", "-9007199254740992", str(2**64 + 1), "1.0e+300"])
def test_a_number_that_some_reader_of_json_would_change_is_refused(value: str) -> None:
    with pytest.raises(DocumentError, match=r"line 17: .*constraints\.0\.value: .* (than|of) the (max|min)imum of"):
        read_policy(with_constraints(f"{{kind: note, value: {value}}}"))


def test_a_number_is_a_whole_one_however_it_is_written() -> None:
    text = with_constraints("{kind: note, value: 9007199254740991}", "{kind: age, value: 18.0}")
    note, age = read_policy(text).rule("gambling", "IN")[0].constraints
    assert [(type(each.value), each.value) for each in (note, age)] == [(int, 2**53 - 1), (int, 18)]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (SMALL.replace("id: shop", 'id: "shop\\n"'), "id"),
        (SMALL.replace("name: scam", 'name: "scam\\n"'), "heads.1.name"),
        (SMALL.replace("  IN:", '  "IN\\n":'), "regions"),
        (SMALL.replace("IN:\n    gambling", 'IN:\n    "gambling\\n"'), "regions.IN"),
        (SMALL + 'groups: {"EU\\n": [DE]}\n', "groups"),
        (SMALL + 'groups: {EU: ["DE\\n"]}\n', "groups.EU.0"),
        (SMALL + 'zones: {"DE\\n": UTC}\n', "zones"),
        (with_constraints('{kind: "age\\n", value: 18}'), "regions.IN.gambling.constraints.0.kind"),
    ],
)
def test_no_name_ends_in_a_line_break(text: str, path: str) -> None:
    with pytest.raises(DocumentError, match=rf"line \d+: {re.escape(path)}: .*does not match"):
        read_policy(text)
