from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import moderation
from moderation.bank import StoredBank
from moderation.classifier import SLOT, Scores
from moderation.database import Database
from moderation.decision import Action, Context, Decision
from moderation.item import Item
from moderation.pipeline import Moderator
from moderation.rule_set import read_rule_set
from moderation.rules import RuleSignal
from moderation.signal_sources import SignalSources
from moderation.thresholds import HeadThreshold, Thresholds
from retrieval_shared.bundle import THRESHOLDS, Bundle, write_manifest
from retrieval_shared.errors import BundleError, ScoringError

PROBABILITY_NOISE = 1e-5
"""Rounding alone: whatever shares a run with a text, each token is quantised by itself."""


@pytest.fixture(scope="module")
def moderator(tiny_bundle: Bundle) -> Moderator:
    return Moderator.load(tiny_bundle.path)


def edited(bundle: Bundle, folder: Path, thresholds: str) -> Path:
    shutil.copytree(bundle.path, folder)
    (folder / THRESHOLDS).write_text(thresholds, encoding="utf-8")
    write_manifest(folder, bundle.manifest)
    return folder


def break_on(monkeypatch: pytest.MonkeyPatch, moderator: Moderator, word: str) -> None:
    """Let scoring fail for every batch with a text that holds `word`."""
    score = moderator.classifier.score

    def failing(texts: Sequence[str], slots: Sequence[Sequence[str]]) -> Scores:
        if any(word in text for text in texts):
            raise ScoringError("the encoder gave a value that is not finite")
        return score(texts, slots)

    monkeypatch.setattr(moderator.classifier, "score", failing)


def quoted(decision: Decision, fields: Mapping[str, str]) -> int:
    """Check that every piece of evidence is what its offsets say, and return how many there are."""
    pieces = [piece for region in decision.decisions for entry in region.entries for piece in entry.evidence]
    for piece in pieces:
        assert fields[piece.field][piece.start : piece.end] == piece.text
        assert piece.text
    return len(pieces)


def test_one_decision_per_item_and_region_in_order(moderator: Moderator) -> None:
    items = [{"id": f"a{i}", "text": text} for i, text in enumerate(["free bet", "vodka shop", "tea and bread"])]
    decisions = moderator.moderate(items, regions=["US", "IN-GJ"])
    assert [decision.id for decision in decisions] == ["a0", "a1", "a2"]
    for decision in decisions:
        assert decision.status == "ok"
        assert not decision.degraded
        assert [region.region for region in decision.decisions] == ["US", "IN-GJ"]
        assert tuple(decision.probabilities) == moderator.heads
        for region in decision.decisions:
            fired = {entry.policy for entry in region.entries}
            assert fired == {head for head, p in decision.probabilities.items() if p >= 0.4}
            assert region.probabilities == decision.probabilities  # none has an adapter of its own
            assert (region.adapter, region.is_fallback) == (SLOT, True)


def test_a_batch_is_near_one_by_one(moderator: Moderator) -> None:
    texts = ["free bet", "", "v o d k a", "tea " * 200, "كازينو 🎰", "replica rolex watch"]
    batch = moderator.probabilities(texts, region="DE")
    assert batch.shape == (6, 16)
    assert batch.dtype == np.float32
    alone = np.concatenate([moderator.probabilities([text]) for text in texts])
    assert np.abs(batch - alone).max() <= PROBABILITY_NOISE


def test_probabilities_and_moderate_agree(moderator: Moderator) -> None:
    [decision] = moderator.moderate([{"title": "Free", "body": "bet"}], ["GB"], explain=False)
    np.testing.assert_allclose(
        list(decision.probabilities.values()), moderator.probabilities(["Free\nbet"])[0], atol=1e-6
    )


def test_nothing_in_nothing_out(moderator: Moderator) -> None:
    assert moderator.moderate([], regions=["DE"]) == []
    assert moderator.probabilities([]).shape == (0, 16)


@pytest.mark.parametrize(
    ("raw", "code", "message"),
    [
        ({"text": ""}, "empty_text", "no text in any field"),
        ({"text": " \n\t"}, "empty_text", "no text"),
        ({}, "empty_text", "no text"),
        ({"body": None}, "empty_text", "no text"),
        ({"text": 3}, "invalid_item", "field 'text'"),
        ({"text": float("nan")}, "invalid_item", "field 'text'"),
        ({"text": b"free"}, "invalid_item", "field 'text'"),
        ({"fields": "free bet"}, "invalid_item", "fields: expected a mapping"),
        ({"fields": ["free"]}, "invalid_item", "fields: expected a mapping"),
        ({"fields": {"body": ["free"]}}, "invalid_item", "field 'body'"),
        ({"text": "a", "regions": "DE"}, "invalid_item", "regions"),
        ({"text": "a", "regions": 3}, "invalid_item", "regions"),
        ({"text": "a", "context": 18}, "invalid_item", "context: found int, expected a mapping"),
        ({"text": "a", "context": {"age": 18}}, "invalid_item", "context: unknown key 'age', allowed: advertiser_id"),
        ({"text": "a", "context": {"min_age": 200}}, "invalid_item", "context: min_age: found 200, allowed"),
        ({"text": "a", "context": {"certificates": "gambling:GB"}}, "invalid_item", "expected a list"),
        ({"text": "a", "context": {"certificates": 3}}, "invalid_item", "context: "),
        ({"text": "a", "context": {"scheduled_at": "soon"}}, "invalid_item", "context: Invalid isoformat"),
        ({"text": "a", "regions": ["XX"]}, "unknown_region", "'XX'"),
        ({"text": "a", "regions": ["de"]}, "unknown_region", "'de'"),
        ({"text": "a", "regions": [None]}, "unknown_region", "'None'"),
        ("free bet", "invalid_item", "found str, expected a mapping"),
        (None, "invalid_item", "found NoneType, expected a mapping"),
    ],
)
def test_a_bad_item_gets_an_error_and_its_neighbours_a_decision(
    moderator: Moderator, raw: object, code: str, message: str
) -> None:
    good = {"id": "good", "text": "tea"}
    before, bad, after = moderator.moderate([good, raw, good], regions=["DE"], explain=False)  # type: ignore[list-item]
    assert before.status == after.status == "ok"
    assert before.id == after.id == "good"  # two of one id are two decisions
    assert bad.status == "error"
    assert bad.id == "1"  # its place, for want of an id
    assert bad.error is not None
    assert bad.error.code == code
    assert message in bad.error.message
    assert bad.decisions == ()


def test_an_item_without_any_region(moderator: Moderator) -> None:
    [decision] = moderator.moderate([{"id": "a", "text": "tea"}])
    assert decision.error is not None
    assert decision.error.code == "no_region"


def test_an_unknown_region_of_the_call_is_the_callers_mistake(moderator: Moderator) -> None:
    with pytest.raises(ValueError, match="region: found 'XX'"):
        moderator.moderate([{"text": "tea"}], regions=["DE", "XX"])
    with pytest.raises(ValueError, match="region: found 'Mars'"):
        moderator.probabilities(["tea"], region="Mars")
    with pytest.raises(ValueError, match="texts: found one string"):
        moderator.probabilities("tea")


def test_an_items_own_regions_win(moderator: Moderator) -> None:
    items = [{"text": "tea", "regions": ["FR"]}, Item(id="i", fields={"text": "tea"}), {"text": "tea", "regions": []}]
    found = moderator.moderate(items, regions=["DE"], explain=False)
    assert [[region.region for region in decision.decisions] for decision in found] == [["FR"], ["DE"], ["DE"]]


def test_context_reaches_the_decision(moderator: Moderator) -> None:
    texts = ["vodka shop casino free bet", "wine and tea", "win cash now", "smoke vape click here", "casino"]
    contexts = [Context(), Context(min_age=25)]
    plain, vouched = (
        moderator.moderate([Item("a", {"body": text}, ("GB",), context=context) for text in texts], explain=False)
        for context in contexts
    )
    assert any("age" in reason for decision in plain for reason in decision.decisions[0].reasons)
    assert not any("age" in reason for decision in vouched for reason in decision.decisions[0].reasons)


HARD = {
    "plain": {"title": "Free bet", "body": "Win cash now at the casino", "cta": "Play", "landing_text": "vodka wine"},
    "zero width": {"body": "buy ca\u200bsi\u200dno ch\u00adips and v\u2060odka now, last chance"},
    "bidi": {"body": "\u202ebuy vodka\u202c now at the casino, free bet today"},
    "spaced and leet": {"title": "V O D K A", "body": "w1n c4sh at the c@sino n0w, g u n s too"},
    "full width": {"body": "Ｆｒｅｅ ｂｅｔ ｎｏｗ, 𝓌𝒾𝓃 𝒸𝒶𝓈𝒽 at the casino ﬁne"},
    "homoglyph": {"body": "free vоdkа shор and саsino for you all day"},  # noqa: RUF001 - Cyrillic letters on purpose
    "rtl": {"title": "كازينو مجاني", "body": "اربح نقدا الآن casino فودكا مجانا اليوم", "cta": "שחק עכשיו"},
    "emoji": {"body": "👩‍👩‍👧 win 🎰🎰 cash 💊 now 🇩🇪 free bet 👍🏽 at the casino"},
    "surrogate": {"body": "free \ud800 bet \udfff casino vodka now win cash"},
    "combining": {"body": "fre\u0301e be\u0308t cafe\u0301 casino vodka I\u0307stanbul İzmir ŸẞﬀǄ now"},
    "other fields": {"zz": "free bet casino", "aa": "vodka shop wine", "body": "win cash now today"},
}


@pytest.mark.parametrize("name", HARD)
def test_evidence_points_at_the_original_text(moderator: Moderator, name: str) -> None:
    fields = HARD[name]
    [decision] = moderator.moderate([{"id": "a", "fields": fields}], regions=["US", "AE"])
    assert decision.status == "ok"
    assert any(region.entries for region in decision.decisions)
    assert quoted(decision, fields) > 0
    text = "\n".join(fields[key] for key in ("title", "body", "cta", "landing_text", "aa", "zz") if key in fields)
    assert decision.text_sha256 == hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def test_disguise_is_told_and_undone(moderator: Moderator) -> None:
    plain, disguised = moderator.moderate(
        [{"text": "buy vodka"}, {"text": "buy v\u200bo\u200bdka"}], ["US"], explain=False
    )
    assert plain.obfuscation is not None
    assert plain.obfuscation.score == 0
    assert disguised.obfuscation is not None
    assert "zero_width" in disguised.obfuscation.transforms
    raised = np.array([disguised.probabilities[head] - p for head, p in plain.probabilities.items()])
    assert raised.min() >= -PROBABILITY_NOISE  # no head is lower than for the plain text


def test_a_lexicon_term_is_evidence_of_a_head_that_fired(moderator: Moderator) -> None:
    word = "casino"
    [term] = RuleSignal.load().find(word)
    [decision] = moderator.moderate([{"text": f"{word} " * 9}], ["US"])
    entries = [entry for entry in decision.decisions[0].entries if entry.policy == term.head]
    rules = [piece for entry in entries for piece in entry.evidence if piece.source == "rule"]
    assert all(piece.text.lower() == word and piece.weight == 0 for piece in rules)
    assert len(rules) <= 3
    assert bool(rules) == bool(entries)


def test_without_explain_there_is_no_evidence(moderator: Moderator) -> None:
    [decision] = moderator.moderate([{"text": "free bet casino vodka"}], ["US"], explain=False)
    assert decision.decisions[0].entries
    assert quoted(decision, {}) == 0


def test_a_megabyte_is_decided(moderator: Moderator) -> None:
    [decision] = moderator.moderate([{"id": "a", "text": "responsibly " * 90_000}], ["DE"], explain=False)
    assert decision.status == "ok"
    assert not decision.truncated


def test_scoring_failure_escalates_and_is_marked(moderator: Moderator, monkeypatch: pytest.MonkeyPatch) -> None:
    break_on(monkeypatch, moderator, "")
    for decision in moderator.moderate([{"id": "a", "text": "tea"}, {"id": "b", "text": "gun"}], ["DE", "US"]):
        assert decision.status == "ok"
        assert decision.degraded
        assert decision.probabilities == {}
        assert decision.text_sha256
        for region in decision.decisions:
            assert region.action is Action.ESCALATE
            assert region.degraded
            assert "not finite" in region.reasons[0]
            assert (region.probabilities, region.adapter, region.is_fallback) == ({}, "", False)


def test_a_text_the_encoder_fails_on_takes_no_neighbour_with_it(
    moderator: Moderator, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_on(monkeypatch, moderator, "poison")
    found = moderator.moderate(
        [{"id": str(i), "text": text} for i, text in enumerate(["tea", "poison", "gun"])], ["DE"]
    )
    assert [(decision.id, decision.degraded) for decision in found] == [("0", False), ("1", True), ("2", False)]


def test_languages(moderator: Moderator) -> None:
    texts = [
        {"text": "Fresh bread every morning, delivered to your door before the day begins"},
        {"text": "Frisches Brot jeden Morgen, geliefert bis an Ihre Haustür, auch am Sonntag"},
        {"text": "12345"},
        {"text": "Frisches Brot", "language": "en_GB"},
        {"text": "tea", "language": "de"},
    ]
    found = [decision.language for decision in moderator.moderate(texts, ["DE"], explain=False)]
    assert [(language.code, language.supported) for language in found if language is not None] == [
        ("en", True), ("de", False), ("und", False), ("en", True), ("de", False),
    ]  # fmt: skip


def test_an_ad_in_a_language_the_model_does_not_read_is_not_approved(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Cuts that nothing reaches: all would be approved."""
    cuts = HeadThreshold(escalate=1.0, act=1.0, basis="made up", positives=0, negatives=0)
    thresholds = Thresholds.of(prevalence=0.02, heads=dict.fromkeys(tiny_bundle.manifest.heads, cuts))
    moderator = Moderator.load(edited(tiny_bundle, tmp_path / "b", thresholds.to_json()))
    english, german = moderator.moderate(
        [{"text": "Fresh bread every morning"}, {"text": "Brot", "language": "de"}], ["DE"], explain=False
    )
    assert english.decisions[0].action is Action.APPROVE
    assert german.decisions[0].action is Action.ESCALATE
    assert "language de" in german.decisions[0].reasons[-1]


def test_versions_name_everything_a_decision_depends_on(moderator: Moderator, tiny_bundle: Bundle) -> None:
    [decision] = moderator.moderate([{"text": "tea"}], ["DE"], explain=False)
    assert decision.versions == {key: value for key, value in moderator.versions.items() if ":" not in key}
    assert {"encoder", "adapter", "heads", "calibration", "thresholds", "policy_set"} <= set(decision.versions)
    assert decision.versions["thresholds"].startswith("thr_")
    assert decision.versions["policy_set"] == "ads-default@2"
    assert tiny_bundle.manifest.digest[:12] in decision.versions["bundle"]
    assert decision.versions["adapter"] == f"{SLOT}@{moderator.adapters[0].version}"


def test_another_head_is_another_version_of_the_heads_alone(tiny_bundle: Bundle, moderator: Moderator) -> None:
    manifest = tiny_bundle.manifest
    name = next(name for name in manifest.files if name.startswith("heads/drugs/"))
    files = {**manifest.files, name: "f" * 64}
    other = Moderator(replace(tiny_bundle, manifest=replace(manifest, files=files)), policy=moderator.policy)
    changed = {key for key, value in moderator.versions.items() if other.versions[key] != value}
    assert changed == {"bundle", "heads"}


RULES = read_rule_set("""\
id: shop
version: 1
rules:
  - {name: poison, head: drugs, kind: terms, terms: [poison], effect: reject, mode: active, regions: [DE]}
  - {name: tea, head: drugs, kind: terms, terms: [tea], effect: reject, mode: shadow}
""")


def test_rules_and_bank_are_heard_per_region_and_quote_the_fields(moderator: Moderator) -> None:
    bank = StoredBank(Database("sqlite://"))
    entry = bank.add("fresh poison", "weapons", by="ann")
    sources = SignalSources((RULES,), bank)
    fields = {"title": "tea", "body": "p\u03bfison, every day"}  # a Greek omicron
    made = moderator.moderate_and_count(
        [Item("a", fields), Item("b", {"text": "fresh poison"})], ["DE", "US"], sources=sources
    )
    in_germany, elsewhere = made.decisions[0].decisions
    assert [(each.name, each.mode) for each in in_germany.signals] == [
        ("shop@1/tea", "shadow"),
        ("shop@1/poison", "active"),
    ]
    assert in_germany.action is Action.REJECT
    assert "drugs: rule shop@1/poison: rejected" in in_germany.reasons
    [place] = in_germany.signals[1].evidence
    assert (place.field, place.text, place.source) == ("body", "p\u03bfison", "rule")
    assert [each.name for each in elsewhere.signals] == ["shop@1/tea"]
    assert not any("rule shop" in reason for reason in elsewhere.reasons)
    assert [each.name for each in made.decisions[1].decisions[1].signals] == [entry]
    assert made.decisions[0].versions["rules"] == f"shop@1+{RULES.digest[:12]}"


def test_rules_decide_where_the_model_cannot(moderator: Moderator, monkeypatch: pytest.MonkeyPatch) -> None:
    break_on(monkeypatch, moderator, "")
    [decision] = moderator.moderate_and_count(
        [Item("a", {"text": "p0is0n"})], ["DE", "US"], sources=SignalSources((RULES,))
    ).decisions
    assert [region.action for region in decision.decisions] == [Action.REJECT, Action.ESCALATE]
    assert decision.decisions[0].signals[0].evidence[0].text == "p0is0n"
    assert decision.degraded


def test_the_tokens_read_are_counted(moderator: Moderator, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [
        Item(id="a", fields={"title": "tea", "body": "fr\u200bee b\u0435t"}, regions=("DE",)),
        Item(id="b", fields={}),
    ]
    expected = moderator.classifier.score(["tea\nfree bet"]).tokens
    assert moderator.moderate_and_count(items, ["DE"], explain=False).tokens == expected > 0
    break_on(monkeypatch, moderator, "tea")
    assert moderator.moderate_and_count(items, ["DE"], explain=False).tokens == 0


def test_thresholds_of_other_heads_are_refused(tiny_bundle: Bundle, tmp_path: Path) -> None:
    cuts = HeadThreshold(escalate=0.4, act=0.6, basis="made up", positives=0, negatives=0)
    heads = dict.fromkeys(tiny_bundle.manifest.heads[1:], cuts)
    folder = edited(tiny_bundle, tmp_path / "b", Thresholds.of(prevalence=0.02, heads=heads).to_json())
    with pytest.raises(BundleError, match="thresholds thr_.* differs in drugs"):
        Moderator.load(folder)


@pytest.mark.parametrize("content", ["", "[]", json.dumps({"id": "thr_0", "prevalence": 2, "heads": {}})])
def test_thresholds_that_are_none_are_refused(tiny_bundle: Bundle, tmp_path: Path, content: str) -> None:
    with pytest.raises(BundleError, match=r"thresholds\.json"):
        Moderator.load(edited(tiny_bundle, tmp_path / "b", content))


def test_an_unknown_policy_is_refused(tiny_bundle: Bundle) -> None:
    with pytest.raises(ValueError, match="no-such"):
        Moderator.load(tiny_bundle.path, policy="no-such")


def test_the_package_offers_it_and_nothing_else() -> None:
    assert moderation.Moderator is Moderator
    with pytest.raises(AttributeError, match="no attribute 'Moderatorr'"):
        _ = moderation.Moderatorr
