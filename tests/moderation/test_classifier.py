from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from moderation.classifier import SLOT, Classifier
from moderation.policy_document import load_policy
from retrieval_shared.adapters import Adapter
from retrieval_shared.bundle import CALIBRATION, Bundle, load_bundle, write_manifest
from retrieval_shared.errors import AdapterError, BundleError
from retrieval_shared.onnx_encoder import Encoded

HEADS = 16
POLICY_HEADS = [head.name for head in load_policy().heads]
SHIFTS = {SLOT: 0.0, "region:ID": 1.0, "region:IN": -0.5}
"""What a slot of the fake adds to every logit."""


class FakeEncoder:
    """Head 0 sees `viagra`, head 1 sees the digit 1; nothing else has a logit but -4; a slot shifts all."""

    heads: int = HEADS
    slots: tuple[str, ...] = ("base", *SHIFTS)
    adapters: tuple[Adapter, ...] = ()

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.branches: list[tuple[int, str]] = []

    def encode(self, texts: Sequence[str], *, slot: str) -> Encoded:
        return self.encode_branches(texts, [(i, slot) for i in range(len(texts))])

    def encode_branches(self, texts: Sequence[str], branches: Sequence[tuple[int, str]]) -> Encoded:
        self.seen, self.branches = list(texts), list(branches)
        n = len(branches)
        logits = np.full((n, HEADS), -4, dtype=np.float32)
        for row, (i, slot) in enumerate(branches):
            logits[row, 0] = 3.0 if "viagra" in texts[i] else -3.0
            logits[row, 1] = 2.0 if "1" in texts[i] else -2.0
            logits[row] += np.float32(SHIFTS[slot])
        chunked = np.array([len(texts[i]) > 50 for i, _ in branches], dtype=np.bool_)
        return Encoded(vectors=np.zeros((n, 2), dtype=np.float32), logits=logits, tokens=7, chunked=chunked)

    def with_adapters(self, adapters: Sequence[Adapter]) -> FakeEncoder:
        other = FakeEncoder()
        other.adapters, other.slots = tuple(adapters), ("base", *(adapter.name for adapter in adapters))
        return other


def fake(bundle: Bundle) -> tuple[Classifier, FakeEncoder]:
    encoder = FakeEncoder()
    return Classifier(bundle, encoder=encoder), encoder  # type: ignore[arg-type]


def sigmoid(z: float) -> float:
    return float(1 / (1 + np.exp(-z)))


def edited(bundle: Bundle, folder: Path, curves: object) -> Bundle:
    shutil.copytree(bundle.path, folder)
    (folder / CALIBRATION).write_text(json.dumps(curves), encoding="utf-8")
    write_manifest(folder, bundle.manifest)
    return load_bundle(folder)


def test_every_text_is_read_in_canonical_form_alone(tiny_bundle: Bundle) -> None:
    classifier, encoder = fake(tiny_bundle)
    scores = classifier.score(["buy v1agra", "viagra", "tea for 1"])
    assert encoder.seen == ["buy viagra", "viagra", "tea for 1"]
    np.testing.assert_array_equal(scores.logits[:, :2], [[3, -2], [3, -2], [-3, 2]])
    np.testing.assert_allclose(scores.probabilities[0, :3], [sigmoid(3), sigmoid(-2), sigmoid(-4)], rtol=1e-5)
    assert [text.canonical for text in scores.normalised] == ["buy viagra", "viagra", "tea for 1"]
    assert (scores.chunked.shape, scores.tokens) == ((3,), 7)
    assert encoder.branches == [(0, SLOT), (1, SLOT), (2, SLOT)]
    assert [scores.row(i, SLOT) for i in range(3)] == [0, 1, 2]


def test_a_text_is_read_once_and_judged_once_per_slot(tiny_bundle: Bundle) -> None:
    classifier, encoder = fake(tiny_bundle)
    slots = [["region:ID", SLOT, "region:ID"], [SLOT], [], ["region:IN", "region:ID"]]
    scores = classifier.score(["v1agra", "viagra 1", "unasked", "tea"], slots)
    assert encoder.seen == ["viagra", "viagra 1", "unasked", "tea"]
    branches = [(0, "region:ID"), (0, SLOT), (1, SLOT), (3, "region:IN"), (3, "region:ID")]
    assert encoder.branches == list(scores.rows) == branches
    assert [scores.row(*branch) for branch in branches] == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(scores.logits[:, 0], [3 + 1, 3, 3, -3 - 0.5, -3 + 1])
    np.testing.assert_allclose(scores.probabilities[:, 1], [sigmoid(z) for z in (-1, -2, 2, -2.5, -1)], rtol=1e-5)
    assert (scores.chunked.shape, len(scores.normalised)) == ((5,), 4)


def test_a_row_that_was_not_asked_for_is_named(tiny_bundle: Bundle) -> None:
    scores = fake(tiny_bundle)[0].score(["tea", "gun"], [[SLOT, "region:ID"], []])
    with pytest.raises(ValueError, match="slot of text 0: found 'base', judged under task:moderation, region:ID"):
        scores.row(0, "base")
    with pytest.raises(ValueError, match="slot of text 1: found 'task:moderation', judged under none"):
        scores.row(1, SLOT)


def test_every_text_needs_its_slots(tiny_bundle: Bundle) -> None:
    with pytest.raises(ValueError, match="slots: found 1 lists, expected one per text of 2"):
        fake(tiny_bundle)[0].score(["tea", "gun"], [[SLOT]])


@pytest.mark.parametrize(
    ("region", "slot"), [("ID", "region:ID"), ("IN", "region:IN"), ("IN-GJ", "region:IN"), ("DE", SLOT), ("I", SLOT)]
)
def test_a_region_is_judged_under_its_own_slot_its_countrys_or_that_of_none(
    tiny_bundle: Bundle, region: str, slot: str
) -> None:
    assert fake(tiny_bundle)[0].slot_of(region) == slot


def test_other_adapters_make_another_classifier(tiny_bundle: Bundle) -> None:
    classifier, encoder = fake(tiny_bundle)
    adapters = [Adapter(name, "0" * 12, None, "e", {}) for name in (SLOT, "region:DE")]
    other = classifier.with_adapters(adapters)
    assert other.adapters == tuple(adapters)
    assert (other.slot_of("DE"), other.slot_of("ID")) == ("region:DE", SLOT)
    assert (classifier.slot_of("DE"), classifier.slot_of("ID")) == (SLOT, "region:ID")
    assert (classifier.encoder, classifier.adapters) == (encoder, ())
    assert other.score(["viagra"]).probabilities[0, 0] == pytest.approx(sigmoid(3), rel=1e-5)
    with pytest.raises(AdapterError, match="adapters: found region:DE; 'task:moderation' must be there"):
        classifier.with_adapters(adapters[1:])


def test_probabilities_reads_texts_as_they_are(tiny_bundle: Bundle) -> None:
    classifier, encoder = fake(tiny_bundle)
    found = classifier.probabilities(["buy v1agra"])
    assert encoder.seen == ["buy v1agra"]
    assert found[0, 0] == pytest.approx(sigmoid(-3), rel=1e-5)
    assert classifier.probabilities(["x"], slot="region:ID")[0, 0] == pytest.approx(sigmoid(-3 + 1), rel=1e-5)


def test_the_curve_of_each_head_is_applied(tiny_bundle: Bundle, tmp_path: Path) -> None:
    curves = {"heads": {head: {"scale": 1 + i, "offset": -i} for i, head in enumerate(tiny_bundle.manifest.heads)}}
    classifier = Classifier(edited(tiny_bundle, tmp_path / "b", curves), encoder=FakeEncoder())  # type: ignore[arg-type]
    found = classifier.probabilities(["viagra 1"])
    np.testing.assert_allclose(found[0, :3], [sigmoid(3), sigmoid(2 * 2 - 1), sigmoid(3 * -4 - 2)], rtol=1e-4)


def test_a_slot_has_the_curves_that_are_its_own(tiny_bundle: Bundle, tmp_path: Path) -> None:
    first, *_ = heads = tiny_bundle.manifest.heads
    curves = {
        "heads": {head: {"scale": 1, "offset": 0} for head in heads},
        "slots": {"region:ID": {first: {"scale": 0.5, "offset": -1}}},
    }
    classifier, _ = fake(edited(tiny_bundle, tmp_path / "b", curves))
    scores = classifier.score(["viagra"], [[SLOT, "region:ID"]])
    np.testing.assert_allclose(scores.probabilities[:, 0], [sigmoid(3), sigmoid(0.5 * 4 - 1)], rtol=1e-5)
    np.testing.assert_allclose(scores.probabilities[:, 1], [sigmoid(-2), sigmoid(-1)], rtol=1e-5)
    np.testing.assert_array_equal(
        classifier.probabilities(["viagra"], slot="region:ID"), scores.probabilities[scores.row(0, "region:ID")][None]
    )


def test_the_slots_with_curves_of_their_own_are_named_whichever_adapters_are_loaded(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    first, *_ = heads = tiny_bundle.manifest.heads
    curve = {"scale": 1, "offset": 0}
    slots = {"region:ID": {first: curve}, "region:IN": {}}
    curves = {"heads": dict.fromkeys(heads, curve), "slots": slots}
    classifier, _ = fake(edited(tiny_bundle, tmp_path / "b", curves))
    assert classifier.calibrated_slots == {"region:ID"}
    assert classifier.with_adapters([Adapter(SLOT, "0" * 12, None, "e", {})]).calibrated_slots == {"region:ID"}
    assert fake(tiny_bundle)[0].calibrated_slots == frozenset()


def test_no_texts(tiny_bundle: Bundle) -> None:
    scores = Classifier(tiny_bundle).score([])
    assert scores.probabilities.shape == (0, HEADS)
    assert scores.normalised == ()


def test_the_probe_comes_out_as_recorded(tiny_bundle: Bundle) -> None:
    probe = tiny_bundle.manifest.probe
    found = Classifier(tiny_bundle).score([probe.text]).probabilities[0]
    np.testing.assert_allclose(found, [probe.probabilities[head] for head in tiny_bundle.manifest.heads], atol=1e-4)


@pytest.mark.parametrize(("heads", "slots"), [(3, ("base", SLOT)), (HEADS, ("base", "region:DE"))])
def test_a_graph_that_does_not_fit_is_refused(tiny_bundle: Bundle, heads: int, slots: tuple[str, ...]) -> None:
    encoder = FakeEncoder()
    encoder.heads, encoder.slots = heads, slots
    with pytest.raises(BundleError, match=f"the graph has {heads} heads .* expected 16 heads and 'task:moderation'"):
        Classifier(tiny_bundle, encoder=encoder)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "curves",
    [
        *(
            {"heads": {"drugs": {"scale": 1, "offset": 0}}},
            {"heads": {}},
            {},
            [],
            {"heads": 3},
            {"heads": {"drugs": 1}},
        ),
        {"heads": {head: {"scale": 1, "offset": 0} for head in POLICY_HEADS}, "slots": {"region:ID": {"drugs": {}}}},
    ],
)
def test_a_calibration_that_does_not_fit_is_refused(tiny_bundle: Bundle, tmp_path: Path, curves: object) -> None:
    bundle = edited(tiny_bundle, tmp_path / "b", curves)
    with pytest.raises(BundleError, match="bundle "):
        Classifier(bundle, encoder=FakeEncoder())  # type: ignore[arg-type]
