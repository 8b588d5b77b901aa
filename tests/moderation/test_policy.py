"""Policies: the shipped one against the guideline's table, and the fallback of regions and groups."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moderation.policy import Constraint, Effect, Policy, Rule, constraint_json
from moderation.policy_document import load_policy

HEADS = (
    "drugs weapons counterfeit alcohol_tobacco gambling sexual misinformation sensational scam pressure political hate "
    "harassment violence self_harm toxic"
)
REGIONS = "US DE FR GB IN ID TR BR JP AE"
# the guideline's table: P prohibited, F fully limited, L limited, and the severity
TABLE = """
drugs           L3 P4 P4 P4 P4 P4 P4 P4 P4 P4
weapons         L3 L3 P4 P4 P4 P4 P4 P4 P4 P4
alcohol_tobacco L2 L2 L2 L2 P3 P3 P3 L2 L2 P3
gambling        L2 F2 L2 L2 P3 P4 P4 L2 P3 P4
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
    assert default.ref == "ads-default@2"
    assert [head.name for head in default.heads] == HEADS.split()
    assert [name for name in default.regions if name not in {"EU", "IN-GJ"}] == REGIONS.split()
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
    """But for one effect and one kind of constraint that the matrix has no word for."""
    lines = (data_dir / "moderation/ads/regions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == sum(len(default.regions[region]) for region in REGIONS.split()) == 150
    for row in rows:
        rule = default.regions[row["region"]][row["head"]]
        listed = (row["region"], row["head"]) == ("DE", "gambling")
        assert (rule.effect, rule.severity) == ("FULLY_LIMITED" if listed else row["effect"], row["severity"])
        told = [str(item) for item in rule.constraints if item.kind != "quiet_period"]
        assert told == row["constraints"]


def test_defaults_are_never_milder_than_limited_with_review_on_a_topic(default: Policy) -> None:
    for head in default.heads:
        if head.kind == "topic":
            assert head.default.effect is Effect.LIMITED
            assert Constraint("review", "manual") in head.default.constraints
        elif head.name not in {"sensational", "toxic"}:
            assert head.default.effect is Effect.PROHIBITED
    assert default.head("toxic").default == Rule(Effect.ALLOWED, severity=1)


@pytest.mark.parametrize(
    ("ref", "digest"),
    [
        ("ads-default@1", "02d2ef4c7514cbc1ebb9293207400951d71f1c5fb9458af1685955645e2d7182"),
        ("ads-default@2", "6f9637f34c3d915a78235e1aab8dfcc1cdb592785fac448fd1c7484a465d71ac"),
    ],
)
def test_a_published_version_never_changes(ref: str, digest: str) -> None:
    """A change of a value is a new version, with a line of its own here."""
    assert load_policy(ref).digest == digest


@pytest.mark.parametrize(
    ("head", "region", "effect", "decided"),
    [
        ("political", "NL", "LIMITED", "EU"),
        ("political", "DE", "LIMITED", "DE"),
        ("political", "CH", "LIMITED", "default"),
        ("gambling", "NL", "LIMITED", "default"),
        ("alcohol_tobacco", "IN-GJ", "PROHIBITED", "IN-GJ"),
        ("alcohol_tobacco", "IN-MH", "PROHIBITED", "IN"),
        ("gambling", "IN-GJ", "PROHIBITED", "IN"),
    ],
)
def test_the_default_policy_falls_back_through_state_country_and_union(
    default: Policy, head: str, region: str, effect: str, decided: str
) -> None:
    rule, found = default.rule(head, region)
    assert (rule.effect, found) == (effect, decided)


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


GROUPS = """\
id: grouped
version: 1
heads:
  - {name: gambling, kind: topic, definition: Games., default: {effect: PROHIBITED, severity: 3}}
  - {name: political, kind: topic, definition: Politics., default: {effect: PROHIBITED, severity: 3}}
groups:
  EU: [DE, AT, FR, ES-CT]
  EEA: [EU, "NO"]
  EUROPE: [EEA, GB]
zones: {ES: Europe/Madrid, ES-CN: Atlantic/Canary}
regions:
  EUROPE:
    gambling: {effect: ALLOWED, severity: 1}
    political: {effect: ALLOWED, severity: 1}
  EU:
    political: {effect: FULLY_LIMITED, severity: 3, constraints: [{kind: disclosure, value: eu_label}]}
  AT:
    gambling: {effect: LIMITED, severity: 2, constraints: [{kind: age, value: 18}]}
"""


def test_rules_come_from_the_nearest_of_region_country_groups_and_default(tmp_path: Path) -> None:
    policy = small(tmp_path, GROUPS)
    assert policy.levels("AT-9") == (("AT-9",), ("AT",), ("EU",), ("EEA",), ("EUROPE",))
    assert policy.levels("ES-CT") == (("ES-CT",), ("ES",), ("EU",), ("EEA",), ("EUROPE",))
    assert policy.levels("JP") == (("JP",),)
    nearest = {
        (head, region): policy.rule(head, region)[1]
        for head in ("gambling", "political")
        for region in ("AT", "AT-9", "DE", "NO", "GB", "ES", "ES-CT")
    }
    assert nearest == {
        ("gambling", "AT"): "AT", ("gambling", "AT-9"): "AT", ("gambling", "DE"): "EUROPE",
        ("gambling", "NO"): "EUROPE", ("gambling", "GB"): "EUROPE", ("gambling", "ES"): "default",
        ("gambling", "ES-CT"): "EUROPE", ("political", "AT"): "EU", ("political", "AT-9"): "EU",
        ("political", "DE"): "EU", ("political", "NO"): "EUROPE", ("political", "GB"): "EUROPE",
        ("political", "ES"): "default", ("political", "ES-CT"): "EU",
    }  # fmt: skip
    assert [policy.policy_region(code) for code in ("AT-9", "DE", "NO", "ES")] == ["AT", "EU", "EUROPE", "default"]


def test_made_up_sub_regions_leave_nothing_behind(tmp_path: Path) -> None:
    """Whoever asks for 46,656 codes of one country must not fill the memory."""
    policy = small(tmp_path, GROUPS)
    for number in range(200):
        policy.rule("gambling", f"DE-{number}")
    assert len(policy._found) == 1  # noqa: SLF001 - what grows


def test_a_time_zone_is_the_regions_else_its_countrys(tmp_path: Path) -> None:
    policy = small(tmp_path, GROUPS)
    found = [policy.zone(region) for region in ("ES", "ES-CT", "ES-CN", "DE")]
    assert found == ["Europe/Madrid", "Europe/Madrid", "Atlantic/Canary", None]


def test_constraints_are_told_with_what_they_have() -> None:
    hours = Constraint("hours", start="06:00", end="21:00", zone="Europe/Berlin")
    assert str(hours) == "hours:06:00/21:00"
    assert str(Constraint("advertisers", values=("a", "b"))) == "advertisers:a,b"
    assert constraint_json(hours) == {
        "kind": "hours", "value": None, "start": "06:00", "end": "21:00", "zone": "Europe/Berlin",
    }  # fmt: skip
    assert constraint_json(Constraint("age", 18)) == {"kind": "age", "value": 18}
