from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from moderation.classifier import SLOT, Classifier
from retrieval_shared.bundle import CALIBRATION, Bundle, load_bundle, write_manifest
from retrieval_shared.errors import BundleError
from retrieval_shared.onnx_encoder import Encoded

HEADS = 16


class FakeEncoder:
    """Head 0 sees `viagra`, head 1 sees the digit 1; nothing else has a logit but -4."""

    heads, slots = HEADS, ("base", SLOT)

    def __init__(self) -> None:
        self.seen: list[str] = []

    def encode(self, texts: Sequence[str], *, slot: str) -> Encoded:
        assert slot == SLOT
        self.seen = list(texts)
        logits = np.full((len(texts), HEADS), -4, dtype=np.float32)
        for i, text in enumerate(texts):
            logits[i, 0] = 3.0 if "viagra" in text else -3.0
            logits[i, 1] = 2.0 if "1" in text else -2.0
        chunked = np.array([len(text) > 50 for text in texts], dtype=np.bool_)
        return Encoded(vectors=np.zeros((len(texts), 2), dtype=np.float32), logits=logits, tokens=7, chunked=chunked)


def sigmoid(z: float) -> float:
    return float(1 / (1 + np.exp(-z)))


def edited(bundle: Bundle, folder: Path, curves: object) -> Bundle:
    shutil.copytree(bundle.path, folder)
    (folder / CALIBRATION).write_text(json.dumps(curves), encoding="utf-8")
    write_manifest(folder, bundle.manifest)
    return load_bundle(folder)


def test_every_text_is_read_in_canonical_form_alone(tiny_bundle: Bundle) -> None:
    encoder = FakeEncoder()
    scores = Classifier(tiny_bundle, encoder=encoder).score(["buy v1agra", "viagra", "tea for 1"])  # type: ignore[arg-type]
    assert encoder.seen == ["buy viagra", "viagra", "tea for 1"]
    np.testing.assert_array_equal(scores.logits[:, :2], [[3, -2], [3, -2], [-3, 2]])
    np.testing.assert_allclose(scores.probabilities[0, :3], [sigmoid(3), sigmoid(-2), sigmoid(-4)], rtol=1e-5)
    assert [text.canonical for text in scores.normalised] == ["buy viagra", "viagra", "tea for 1"]
    assert (scores.chunked.shape, scores.tokens) == ((3,), 7)


def test_probabilities_reads_texts_as_they_are(tiny_bundle: Bundle) -> None:
    encoder = FakeEncoder()
    found = Classifier(tiny_bundle, encoder=encoder).probabilities(["buy v1agra"])  # type: ignore[arg-type]
    assert encoder.seen == ["buy v1agra"]
    assert found[0, 0] == pytest.approx(sigmoid(-3), rel=1e-5)


def test_the_curve_of_each_head_is_applied(tiny_bundle: Bundle, tmp_path: Path) -> None:
    curves = {"heads": {head: {"scale": 1 + i, "offset": -i} for i, head in enumerate(tiny_bundle.manifest.heads)}}
    classifier = Classifier(edited(tiny_bundle, tmp_path / "b", curves), encoder=FakeEncoder())  # type: ignore[arg-type]
    found = classifier.probabilities(["viagra 1"])
    np.testing.assert_allclose(found[0, :3], [sigmoid(3), sigmoid(2 * 2 - 1), sigmoid(3 * -4 - 2)], rtol=1e-4)


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
    [{"heads": {"drugs": {"scale": 1, "offset": 0}}}, {"heads": {}}, {}, [], {"heads": 3}, {"heads": {"drugs": 1}}],
)
def test_a_calibration_that_does_not_fit_is_refused(tiny_bundle: Bundle, tmp_path: Path, curves: object) -> None:
    bundle = edited(tiny_bundle, tmp_path / "b", curves)
    with pytest.raises(BundleError, match="bundle "):
        Classifier(bundle, encoder=FakeEncoder())  # type: ignore[arg-type]
