"""Policies: the shipped one against the guideline's table, fallback of regions, and documents that are wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from moderation.policy import POLICIES, Constraint, Effect, Policy, Rule, list_policies, load_policy

HEADS = (
    "drugs weapons counterfeit alcohol_tobacco gambling sexual misinformation sensational scam pressure political hate "
    "harassment violence self_harm toxic"
)
REGIONS = "US DE FR GB IN ID TR BR JP AE"
# the guideline's table: P prohibited, L limited, and the severity
TABLE = """
drugs           L3 P4 P4 P4 P4 P4 P4 P4 P4 P4
weapons         L3 L3 P4 P4 P4 P4 P4 P4 P4 P4
alcohol_tobacco L2 L2 L2 L2 P3 P3 P3 L2 L2 P3
gambling        L2 L2 L2 L2 P3 P4 P4 L2 P3 P4
sexual          L2 L2 L2 L2 P3 P4 P3 L2 L2 P4
political       L2 L2 L3 L2 L3 L3 L3 L3 L3 P4
pressure        P2 P2 P2 P2 P2 L2 P2 P2 P2 L2
sensational     L1 L1 L1 L1 L1 L1 L1 L1 L1 L1
counterfeit     P3 P3 P3 P3 P3 P3 P3 P3 P3 P3
misinformation  P3 P3 P3 P3 P3 P3 P3 P3 P3 P3
harassment      P3 P3 P3 P3 P3 P3 P3 P3 P3 P3
scam            P4 P4 P4 P4 P4 P4 P4 P4 P4 P4
hate            P4 P4 P4 P4 P4 P4 P4 P4 P4 P4
violence        P4 P4 P4 P4 P4 P4 P4 P4 P4 P4
self_harm       P4 P4 P4 P4 P4 P4 P4 P4 P4 P4
"""

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


@pytest.fixture(scope="module")
def default() -> Policy:
    return load_policy()


def small(tmp_path: Path, text: str = SMALL) -> Policy:
    path = tmp_path / "shop.yaml"
    path.write_text(text, encoding="utf-8")
    return load_policy(path)


def test_default_policy_has_the_sixteen_heads_in_order(default: Policy) -> None:
    assert default.ref == "ads-default@1"
    assert [head.name for head in default.heads] == HEADS.split()
    assert list(default.regions) == REGIONS.split()
    assert [head.name for head in default.heads if head.kind == "auxiliary"] == ["toxic"]
    assert all(head.definition.endswith(".") and head.dsa for head in default.heads)


@pytest.mark.parametrize("line", TABLE.strip().splitlines())
def test_default_policy_says_what_the_guideline_says(default: Policy, line: str) -> None:
    head, *cells = line.split()
    for region, cell in zip(REGIONS.split(), cells, strict=True):
        rule, decided = default.rule(head, region)
        assert (rule.effect[0], rule.severity, decided) == (cell[0], int(cell[1]), region)


def test_constraints_of_the_default_policy_are_split_and_typed(default: Policy) -> None:
    rule, _ = default.rule("gambling", "DE")
    assert rule.constraints == (
        Constraint("age", 18),
        Constraint("licence", "national_regulator_whitelist"),
        Constraint("time", "online_slots_casino_poker_broadcast_internet_21-06"),
        Constraint("disclosure", "addiction_risk"),
    )
    assert Constraint("no_income_claims", None) in default.rule("gambling", "BR")[0].constraints
    assert [str(item) for item in rule.constraints[:1]] == ["age:18"]
    assert str(Constraint("no_income_claims")) == "no_income_claims"


def test_default_policy_equals_the_region_matrix(default: Policy, data_dir: Path) -> None:
    lines = (data_dir / "moderation/ads/regions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == sum(map(len, default.regions.values())) == 150
    for row in rows:
        rule = default.regions[row["region"]][row["head"]]
        assert (rule.effect, rule.severity) == (row["effect"], row["severity"])
        assert [str(item) for item in rule.constraints] == row["constraints"]


def test_defaults_are_never_milder_than_limited_with_review_on_a_topic(default: Policy) -> None:
    for head in default.heads:
        if head.kind == "topic":
            assert head.default.effect is Effect.LIMITED
            assert Constraint("review", "manual") in head.default.constraints
        elif head.name not in {"sensational", "toxic"}:
            assert head.default.effect is Effect.PROHIBITED
    assert default.head("toxic").default == Rule(Effect.ALLOWED, severity=1)


def test_default_policy_is_the_published_one(default: Policy) -> None:
    """A published version never changes: a change of a value is a new version, with a line of its own here."""
    assert default.digest == "02d2ef4c7514cbc1ebb9293207400951d71f1c5fb9458af1685955645e2d7182"


def test_rule_falls_back_from_sub_region_to_country_to_default(tmp_path: Path) -> None:
    policy = small(tmp_path)
    assert policy.rule("gambling", "IN-GA")[0].effect is Effect.LIMITED
    assert policy.rule("gambling", "IN-GA")[1] == "IN-GA"
    assert policy.rule("gambling", "IN-GJ") == (Rule(Effect.PROHIBITED, 3), "IN")
    assert policy.rule("scam", "IN-GA") == (Rule(Effect.PROHIBITED, 4, on_error="reject"), "default")
    assert policy.rule("gambling", "FR")[1] == "default"
    assert [policy.policy_region(code) for code in ("IN-GA", "IN-GJ", "IN", "FR")] == ["IN-GA", "IN", "IN", "default"]


def test_rule_refuses_an_unknown_head_or_region(tmp_path: Path) -> None:
    policy = small(tmp_path)
    with pytest.raises(ValueError, match="head: found 'poker', policy shop@3 has gambling, scam"):
        policy.rule("poker", "IN")
    with pytest.raises(ValueError, match="region: found 'XX'"):
        policy.rule("scam", "XX")
    with pytest.raises(ValueError, match="region: found 'default'"):
        policy.policy_region("default")


def test_check_heads_names_both_differences(tmp_path: Path) -> None:
    policy = small(tmp_path)
    policy.check_heads(["scam", "gambling"])
    with pytest.raises(ValueError, match=r"heads without a rule \['hate'\].*without a head of the model \['scam'\]"):
        policy.check_heads(["gambling", "hate"])


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
    assert load_policy("ads-default@1") == load_policy("ads-default")
    assert "ads-default@1" in [policy.ref for policy in list_policies()]
    assert load_policy(str(POLICIES / "ads-default@1.yaml")).ref == "ads-default@1"


def test_the_example_of_the_documentation_is_a_policy(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/policy.md").read_text(encoding="utf-8")
    example = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert example is not None
    policy = small(tmp_path, example[1])
    assert policy.ref == "shop@1"
    assert policy.rule("gambling", "NO") == (Rule(Effect.PROHIBITED, 3), "NO")


@pytest.mark.parametrize("ref", ["", "ads", "ads-default@2", "ads-default@", "../ads-default@1", "ads-default@01"])
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
        ("  IN:\n    gambling", "  IN:\n    gamling", "regions.IN: unknown head 'gamling', allowed gambling, scam"),
        ("name: scam", "name: gambling", "heads: 'gambling' is given 2 times"),
        ("  IN-GA:", "  IN:", r"line \d+: key 'IN' is given 2 times"),
        ("  IN:", "  NO:", "line 16: key 'NO' is not text"),
        ("id: shop", "id: [shop", "while parsing a flow sequence"),
        (SMALL, "", "document: None is not of type 'object'"),
        (SMALL, "- a", "document: .* is not of type 'object'"),
        (SMALL, "a: &a [*a]", "document: "),
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
    schema = json.loads((POLICIES / "policy.schema.json").read_text(encoding="utf-8"))
    faults = Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema)
    assert [fault.message for fault in faults] == []
