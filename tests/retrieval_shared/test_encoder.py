from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import retrieval_shared
from retrieval_shared.bundle import Bundle
from retrieval_shared.encoder import Encoder
from retrieval_shared.errors import BundleError
from retrieval_shared.onnx_encoder import OnnxEncoder

HARD = [
    "", " ", "\x00", "free bet", "free bet", "مرحبا بالعالم", "👩‍👩‍👧 🎁", "\ud800", "ᚠᚢᚦᚨᚱᚲ", "𒀀𒁀", "\ue000",
    "a" * 100_000, "tea " * 300,
]  # fmt: skip


@pytest.fixture(scope="module", params=["tiny_bundle", "two_path_bundle"])
def bundle(request: pytest.FixtureRequest) -> Bundle:
    """An encoder with one path and three slots, and one with two paths."""
    found: Bundle = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def encoder(bundle: Bundle) -> Encoder:
    return Encoder.load(bundle.path)


def test_unit_vectors_in_order(encoder: Encoder) -> None:
    vectors = encoder.encode(HARD)
    assert vectors.shape == (len(HARD), encoder.dim) == (len(HARD), 32)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(vectors[3], vectors[4])


def test_no_slot_is_the_base(encoder: Encoder, bundle: Bundle) -> None:
    inner = OnnxEncoder(bundle)
    for slot in (None, *encoder.slots):
        np.testing.assert_array_equal(
            encoder.encode(["free bet"], slot=slot), inner.encode(["free bet"], slot=slot or "base").vectors
        )


def test_a_text_has_its_vector_whatever_stands_beside_it(encoder: Encoder) -> None:
    texts = [text for text in HARD if len(text) < 10_000]
    together = encoder.encode(texts, slot="task:moderation")
    alone = [encoder.encode([text], slot="task:moderation")[0] for text in texts]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_text_under_all_slots_at_once_has_the_vectors_of_each(encoder: Encoder, bundle: Bundle) -> None:
    texts = ["tea", "free bet " * 40, ""]
    branches = [(i, slot) for slot in encoder.slots for i in (1, 0, 2)]
    found = OnnxEncoder(bundle).encode_branches(texts, branches).vectors
    expected = [encoder.encode([texts[i]], slot=slot)[0] for i, slot in branches]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found[0] - found[3]).max() > 0.01


def test_queries_and_documents_are_read_alike(encoder: Encoder) -> None:
    np.testing.assert_array_equal(encoder.encode(["tea"], kind="query"), encoder.encode(["tea"], kind="document"))


def test_one_string_is_refused(encoder: Encoder) -> None:
    with pytest.raises(ValueError, match="texts: found one string"):
        encoder.encode("free bet")


def test_unknown_kind_and_slot_are_refused(encoder: Encoder) -> None:
    with pytest.raises(ValueError, match="kind: found 'passage'"):
        encoder.encode(["tea"], kind="passage")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="slot: found 'x', allowed base, task:moderation"):
        encoder.encode(["tea"], slot="x")


def test_no_texts(encoder: Encoder) -> None:
    assert encoder.encode([]).shape == (0, 32)


def test_a_missing_bundle_is_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no model bundle"):
        Encoder.load(tmp_path)


def test_the_package_offers_it_and_nothing_else() -> None:
    assert retrieval_shared.Encoder is Encoder
    with pytest.raises(AttributeError, match="no attribute 'Decoder'"):
        _ = retrieval_shared.Decoder
