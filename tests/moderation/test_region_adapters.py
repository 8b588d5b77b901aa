"""Adapters of regions through the whole pipeline: the tiny bundle's own for Indonesia, and random ones beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from moderation import evidence, pipeline
from moderation.classifier import SLOT, Classifier
from moderation.decision import Decision, RegionDecision, versions_in
from moderation.item import Item
from moderation.pipeline import Moderator
from moderation.policy_store import PolicyStore
from moderation.replay import backtest, replay
from moderation.review.queue import ReviewQueue
from moderation.review.store import Store
from retrieval_shared.adapters import Adapter
from retrieval_shared.bundle import Bundle
from retrieval_shared.errors import AdapterError

NOISE = 1e-5
"""What neighbours in a batch may move a probability by."""
SLOTS = {
    "DE": SLOT, "ID": "region:ID", "FR": SLOT, "IN": "region:IN", "IN-GJ": "region:IN", "IN-GA": "region:IN-GA",
}  # fmt: skip
"""Region -> the slot it is judged under."""
TEXTS = (
    "free bet win cash now", "tea and bread every morning", "tea " * 120, "v\u200bo\u200bdka sh\u043ep", "adult escort",
    "\u0643\u0627\u0632\u064a\u0646\u0648 casino \U0001f3b0", "replica rolex watch", "kill hate war", "12345",
)  # fmt: skip
"""A plain one, a long one in chunks, disguised ones, right to left, hardly any."""


def adapter(own: Adapter, name: str, seed: int) -> Adapter:
    """A random adapter of the linear layers that the bundle's own adapts."""
    rng = np.random.default_rng(seed)
    matrices = {
        module: (rng.normal(0, 0.3, a.shape).astype(np.float32), rng.normal(0, 0.3, b.shape).astype(np.float32))
        for module, (a, b) in own.matrices.items()
    }
    return replace(own, name=name, version=f"{seed:012x}", parent=SLOT, matrices=matrices)


def named(moderator: Moderator, name: str) -> Adapter:
    """The adapter of a slot."""
    [found] = [each for each in moderator.adapters if each.name == name]
    return found


@pytest.fixture(scope="module")
def plain(tiny_bundle: Bundle) -> Moderator:
    """A moderator with the bundle's adapters alone."""
    return Moderator.load(tiny_bundle.path)


@pytest.fixture(scope="module")
def own(plain: Moderator) -> Adapter:
    """The adapter of the moderation slot."""
    return named(plain, SLOT)


@pytest.fixture(scope="module")
def moderator(plain: Moderator, own: Adapter) -> Moderator:
    """One with adapters for India and Goa too."""
    return plain.with_adapters([adapter(own, "region:IN", 2), adapter(own, "region:IN-GA", 3)])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(f"sqlite:///{tmp_path / 'log.db'}")) as opened:
        yield opened


def items(regions: Sequence[str] = tuple(SLOTS)) -> list[Item]:
    """One item per text; each has the regions in another order."""
    turned = [(*regions[i % len(regions) :], *regions[: i % len(regions)]) for i in range(len(TEXTS))]
    return [Item(id=f"a{i}", fields={"body": text}, regions=turned[i]) for i, text in enumerate(TEXTS)]


def of(decision: Decision, code: str) -> RegionDecision:
    """The decision about one region."""
    [found] = [region for region in decision.decisions if region.region == code]
    return found


def same(found: RegionDecision, expected: RegionDecision) -> None:
    """Check that two decisions about a region are one but for the noise of a batch."""
    assert (found.region, found.adapter, found.action) == (expected.region, expected.adapter, expected.action)
    assert [entry.policy for entry in found.entries] == [entry.policy for entry in expected.entries]
    assert list(found.probabilities) == list(expected.probabilities)
    assert_allclose(list(found.probabilities.values()), list(expected.probabilities.values()), atol=NOISE)


def test_every_region_is_judged_under_its_own_slot_its_countrys_or_that_of_none(
    moderator: Moderator, plain: Moderator
) -> None:
    for decision in moderator.moderate(items(), explain=False):
        assert {region.region: region.adapter for region in decision.decisions} == SLOTS
        assert [r.region for r in decision.decisions if not r.is_fallback] == [
            r.region for r in decision.decisions if r.region in ("ID", "IN", "IN-GA")
        ]
        assert decision.probabilities == decision.decisions[0].probabilities
        assert of(decision, "DE").probabilities == of(decision, "FR").probabilities
        assert of(decision, "IN").probabilities == of(decision, "IN-GJ").probabilities
        for one, other in (("DE", "ID"), ("IN", "IN-GA"), ("ID", "IN")):
            pair = [list(of(decision, code).probabilities.values()) for code in (one, other)]
            assert np.abs(np.subtract(*pair)).max() > 0.01
    for region in ("DE", "ID"):  # adapters of other regions change nothing for them
        before, after = (each.moderate(items([region]), explain=False) for each in (plain, moderator))
        for first, second in zip(before, after, strict=True):
            same(second.decisions[0], first.decisions[0])


def test_regions_in_one_batch_are_decided_as_each_alone(moderator: Moderator) -> None:
    batch = moderator.moderate(items(), explain=False)
    for decision, item in zip(batch, items(), strict=True):
        for region in item.regions:
            [alone] = moderator.moderate([replace(item, regions=(region,))], explain=False)
            same(of(decision, region), alone.decisions[0])


def test_another_order_of_items_and_regions_is_another_order_of_the_results(moderator: Moderator) -> None:
    rng = np.random.default_rng(3)
    first = items()
    order = rng.permutation(len(first)).tolist()
    turned = [replace(first[i], regions=tuple(rng.permutation(first[i].regions).tolist())) for i in order]
    before, after = (moderator.moderate(each, explain=False) for each in (first, turned))
    for place, i in enumerate(order):
        assert after[place].id == before[i].id
        assert tuple(region.region for region in after[place].decisions) == turned[place].regions
        for region in after[place].decisions:
            same(region, of(before[i], region.region))


def test_a_text_is_judged_once_per_distinct_slot_and_read_once(
    moderator: Moderator, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = moderator.classifier.encoder
    asked: list[tuple[int, list[tuple[int, str]]]] = []
    encode = encoder.encode_branches

    def spied(texts: Sequence[str], branches: Sequence[tuple[int, str]]) -> object:
        asked.append((len(texts), list(branches)))
        return encode(texts, branches)

    monkeypatch.setattr(encoder, "encode_branches", spied)
    two = [Item("a", {"body": "tea"}, ("FR", "IN-GJ", "DE", "IN")), Item("b", {"body": "gun"}, ("ID",))]
    made = moderator.moderate_and_count(two, explain=False)
    assert asked == [(2, [(0, SLOT), (0, "region:IN"), (1, "region:ID")])]
    assert made.tokens == sum(moderator.moderate_and_count([each], ["US"], explain=False).tokens for each in two)


def test_probabilities_are_those_of_the_region(moderator: Moderator, plain: Moderator) -> None:
    [decision] = moderator.moderate([Item("a", {"body": TEXTS[0]}, tuple(SLOTS))], explain=False)
    for region in SLOTS:
        [row] = moderator.probabilities([TEXTS[0]], region=region)
        assert_allclose(row, list(of(decision, region).probabilities.values()), atol=NOISE)
    assert_array_equal(moderator.probabilities(TEXTS), plain.probabilities(TEXTS))
    assert_array_equal(moderator.probabilities(TEXTS, "US"), plain.probabilities(TEXTS, "IN-GA"))
    assert moderator.probabilities([], "ID").shape == (0, len(moderator.heads))


def test_a_head_is_explained_under_the_slot_it_fired_under(
    moderator: Moderator, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, set[str]]] = []
    find = evidence.find_spans

    def spied(
        classifier: Classifier, reading: str, heads: Sequence[str], *, slot: str = SLOT
    ) -> dict[str, evidence.Span]:
        asked.append((slot, set(heads)))
        assert len(set(heads)) == len(heads)
        return find(classifier, reading, heads, slot=slot)

    monkeypatch.setattr(evidence, "find_spans", spied)
    fields = {
        "title": "Fr\u200bee bet",
        "body": "win c\u0430sh at the casino and vodka sh\u043ep \U0001f3b0 last chance",
    }
    [decision] = moderator.moderate([Item("a", fields, tuple(SLOTS))])
    fired: dict[str, set[str]] = {}
    for region in decision.decisions:
        fired.setdefault(region.adapter, set()).update(entry.policy for entry in region.entries)
    assert asked == list(fired.items())
    assert len({frozenset(heads) for heads in fired.values()}) > 1
    reading = pipeline.normalise("\n".join(fields.values())).canonical
    for region in decision.decisions:
        alone = find(moderator.classifier, reading, [entry.policy for entry in region.entries], slot=region.adapter)
        for entry in region.entries:
            pieces = [piece for piece in entry.evidence if piece.source == "model"]
            assert [piece.weight for piece in pieces] == pytest.approx(
                [alone[entry.policy].drop] if entry.policy in alone else [], abs=1e-4
            )
            assert all(fields[piece.field][piece.start : piece.end] == piece.text for piece in entry.evidence)
    assert sum(len(entry.evidence) for region in decision.decisions for entry in region.entries) > 0


def test_versions_name_the_adapters_that_judged(moderator: Moderator, own: Adapter) -> None:
    general, of_id = f"{SLOT}@{own.version}", f"region:ID@{named(moderator, 'region:ID').version}"
    abroad, both = moderator.moderate(
        [Item("a", {"body": "tea"}, ("DE", "FR")), Item("b", {"body": "tea"}, ("ID", "IN-GJ"))], explain=False
    )
    shared = {name: value for name, value in moderator.versions.items() if not name.startswith("adapter:")}
    assert abroad.versions == shared
    assert abroad.versions["adapter"] == general
    assert both.versions == {
        **shared, "adapter:region:ID": of_id, "adapter:region:IN": "region:IN@000000000002",
    }  # fmt: skip
    assert moderator.versions == {**both.versions, "adapter:region:IN-GA": "region:IN-GA@000000000003"}
    assert [versions_in(both, region)["adapter"] for region in both.decisions] == [
        of_id, "region:IN@000000000002",
    ]  # fmt: skip


def test_adapters_are_laid_over_the_bundles_own_and_the_first_moderator_stays(
    plain: Moderator, moderator: Moderator, own: Adapter
) -> None:
    before = {region: plain.probabilities(TEXTS, region) for region in ("ID", "IN", "US")}
    replaced, added = adapter(own, "region:ID", 7), adapter(own, "region:DE", 8)
    other = moderator.with_adapters([replaced, added])
    assert [each.name for each in other.adapters] == [*(each.name for each in plain.adapters), "region:DE"]
    assert other.versions["adapter:region:ID"] == "region:ID@000000000007"
    for region in ("ID", "DE"):
        assert np.abs(other.probabilities(TEXTS, region) - plain.probabilities(TEXTS, region)).max() > 0.01
    assert_array_equal(other.probabilities(TEXTS, "US"), before["US"])
    assert_array_equal(other.probabilities(TEXTS, "IN"), before["IN"])  # those laid over before are gone
    assert named(moderator, "region:IN").version == "000000000002"
    for region, expected in before.items():
        assert_array_equal(plain.probabilities(TEXTS, region), expected)
        assert_array_equal(other.with_adapters([]).probabilities(TEXTS, region), expected)


def test_the_moderation_slot_itself_can_be_replaced(plain: Moderator, own: Adapter) -> None:
    other = plain.with_adapters([adapter(own, SLOT, 9)])
    assert other.versions["adapter"] == f"{SLOT}@000000000009"
    assert np.abs(other.probabilities(TEXTS) - plain.probabilities(TEXTS)).max() > 0.01
    assert_array_equal(other.probabilities(TEXTS, "ID"), plain.probabilities(TEXTS, "ID"))


def test_an_adapter_of_another_encoder_is_refused_and_changes_nothing(moderator: Moderator, own: Adapter) -> None:
    before = moderator.probabilities(TEXTS, "ID")
    with pytest.raises(AdapterError, match="adapter 'region:ID': it was trained over base weights"):
        moderator.with_adapters([replace(adapter(own, "region:ID", 9), encoder="0" * 64)])
    assert_array_equal(moderator.probabilities(TEXTS, "ID"), before)


def test_what_a_regions_adapter_decided_is_stored_and_made_again(
    moderator: Moderator, plain: Moderator, store: Store
) -> None:
    policies = PolicyStore(store.database, [moderator.policy])
    policies.remember(moderator.thresholds)
    decisions = moderator.moderate(items())
    ReviewQueue(store).record(decisions, items(), keep_text=False)
    rows = list(store.decision_rows())
    assert len(rows) == len(TEXTS) * len(SLOTS)
    judged = [region for decision in decisions for region in decision.decisions]
    for row, region in zip(rows, judged, strict=True):
        assert (row.region, row.probabilities) == (region.region, region.probabilities)
        assert row.versions["adapter"].partition("@")[0] == region.adapter
        assert not any(name.startswith("adapter:") for name in row.versions)
    assert list(replay(rows, policies)) == []
    report = backtest(rows, policy=moderator.policy, thresholds=moderator.thresholds)
    assert (report.decisions, report.flips) == (len(rows), 0)
    # There was something to keep apart: the adapters change actions.
    without = [region for decision in plain.moderate(items(), explain=False) for region in decision.decisions]
    changed = {after.region for after, before in zip(judged, without, strict=True) if after.action is not before.action}
    assert changed
    assert changed <= {"IN", "IN-GJ", "IN-GA"}
