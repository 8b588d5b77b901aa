"""The served graph over the tiny bundle.

The int8 graph quantises activations with one scale per run; since every chunk has a run of its own, a text's
numbers are the same whatever stands beside it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from retrieval_shared.bundle import GRAPH, TOKENIZER, Bundle, load_bundle, write_manifest
from retrieval_shared.errors import BundleError, ScoringError
from retrieval_shared.onnx_encoder import CHUNK_OVERLAP, Chunk, OnnxEncoder

SLOT = "task:moderation"
LOGIT_NOISE, COSINE_NOISE = 1e-5, 1e-5
LONG = " ".join(["free bet", "shop shoes tea", "every morning war", "vodka"] * 30)  # 270 tokens, 48 fit
TEXTS = [LONG, "free bet", "", "win cash now at the casino", "Купите 🎁 ١٢٣", LONG[: len(LONG) // 2], "£", "tea"]


@pytest.fixture(scope="module")
def encoder(tiny_bundle: Bundle) -> OnnxEncoder:
    return OnnxEncoder(tiny_bundle)


def assert_close(left: NDArray[np.float32], right: NDArray[np.float32]) -> None:
    assert np.abs(left - right).max() <= LOGIT_NOISE


def run_alone(bundle: Bundle, chunk: Chunk, slot: int) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(str(bundle.file(GRAPH)), providers=["CPUExecutionProvider"])
    ids = np.array([chunk.ids])
    return list(
        session.run(
            ["vector", "logits"],
            {"input_ids": ids, "attention_mask": np.ones_like(ids), "slot": np.array([slot])},
        )
    )


class BrokenSession:
    """An ONNX session that gives one value for everything, or fails."""

    def __init__(self, real: onnxruntime.InferenceSession, value: float | None) -> None:
        self._real, self._value = real, value

    def get_outputs(self) -> Sequence[object]:
        return self._real.get_outputs()

    def run(self, outputs: list[str], feeds: dict[str, NDArray[np.int64]]) -> list[NDArray[np.float32]]:
        if self._value is None:
            raise RuntimeError("out of memory")
        b, t = feeds["input_ids"].shape
        shapes = {"vector": (b, 32), "logits": (b, 16), "attention": (b, 16, t)}
        return [np.full(shapes[name], self._value, dtype=np.float32) for name in outputs]


def test_sizes(encoder: OnnxEncoder) -> None:
    assert (encoder.dim, encoder.heads, encoder.slots) == (32, 16, ("base", SLOT))


def test_order_is_kept_and_neighbours_change_nothing(encoder: OnnxEncoder) -> None:
    for slot in encoder.slots:
        batch = encoder.encode(TEXTS, slot=slot)
        alone = [encoder.encode([text], slot=slot) for text in TEXTS]
        assert_close(batch.logits, np.concatenate([one.logits for one in alone]))
        cosine = (batch.vectors * np.concatenate([one.vectors for one in alone])).sum(1)
        assert cosine.min() >= 1 - COSINE_NOISE
        assert batch.tokens == sum(one.tokens for one in alone)
        assert batch.chunked.tolist() == [one.chunked.item() for one in alone]
        assert np.argmax(batch.vectors @ alone[3].vectors[0]) == 3


def test_the_same_batch_gives_the_same_numbers_from_many_threads(encoder: OnnxEncoder) -> None:
    expected = encoder.encode(TEXTS, slot=SLOT)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: encoder.encode(TEXTS, slot=SLOT), range(8)):
            np.testing.assert_array_equal(found.logits, expected.logits)
            np.testing.assert_array_equal(found.vectors, expected.vectors)


def test_the_slot_changes_the_numbers(encoder: OnnxEncoder) -> None:
    base, moderation = (encoder.encode(["free bet"], slot=slot) for slot in encoder.slots)
    assert np.abs(base.logits - moderation.logits).max() > LOGIT_NOISE


def test_unknown_slot(encoder: OnnxEncoder) -> None:
    with pytest.raises(ValueError, match="slot: found 'region:DE', allowed base, task:moderation"):
        encoder.encode(["a"], slot="region:DE")


def test_no_texts(encoder: OnnxEncoder) -> None:
    encoded = encoder.encode([])
    assert encoded.vectors.shape == (0, 32)
    assert encoded.logits.shape == (0, 16)
    assert encoded.chunked.shape == (0,)
    assert encoded.tokens == 0


def test_an_empty_text_is_its_special_tokens(encoder: OnnxEncoder) -> None:
    [chunk] = encoder.chunks([""])
    assert chunk.ids == (2, 3)  # [CLS] [SEP]
    assert chunk.spans == ((0, 0), (0, 0))
    encoded = encoder.encode([""])
    assert encoded.tokens == 0
    np.testing.assert_allclose(np.linalg.norm(encoded.vectors, axis=1), 1, atol=1e-5)


def test_chunks_cover_the_text_and_point_into_it(encoder: OnnxEncoder) -> None:
    chunks = encoder.chunks(["tea", LONG])
    assert [chunk.text for chunk in chunks] == [0] + [1] * (len(chunks) - 1)
    assert all(len(chunk.ids) <= 48 and chunk.ids[0] == 2 and chunk.ids[-1] == 3 for chunk in chunks)
    spans = [chunk.spans[1:-1] for chunk in chunks[1:]]
    assert sorted({span for chunk in spans for span in chunk}) == [
        (start, start + len(word)) for start, word in _words(LONG)
    ]
    assert all(left[-CHUNK_OVERLAP:] == right[:CHUNK_OVERLAP] for left, right in zip(spans, spans[1:-1], strict=False))


def _words(text: str) -> list[tuple[int, str]]:
    starts = [0] + [i + 1 for i, letter in enumerate(text) if letter == " "]
    return [(start, text[start:].split(" ")[0]) for start in starts]


def test_offsets_count_code_points(encoder: OnnxEncoder) -> None:
    text = "🎁🎁 ١ tea"
    [chunk] = encoder.chunks([text])
    assert text[slice(*chunk.spans[-2])] == "tea"


def test_a_long_text_has_its_chunks_highest_logits_and_their_mean_vector(
    encoder: OnnxEncoder, tiny_bundle: Bundle
) -> None:
    encoded = encoder.encode([LONG], slot=SLOT)
    alone = [run_alone(tiny_bundle, chunk, slot=1) for chunk in encoder.chunks([LONG])]
    assert len(alone) > 3
    assert encoded.chunked.tolist() == [True]
    assert_close(encoded.logits[0], np.max([logits[0] for _, logits in alone], axis=0))
    mean = np.sum([vector[0] for vector, _ in alone], axis=0)
    assert encoded.vectors[0] @ mean / np.linalg.norm(mean) >= 1 - COSINE_NOISE


def test_a_megabyte_is_read_to_its_end(encoder: OnnxEncoder) -> None:
    text = "responsibly " * 87_000 + "kill " * 80
    assert len(text) > 1_000_000
    encoded = encoder.encode([text], slot=SLOT)
    assert encoded.tokens >= 87_080
    tail = encoder.encode(["kill " * 46], slot=SLOT).logits
    assert (encoded.logits >= tail - LOGIT_NOISE).all()


def test_a_lone_surrogate_reads_as_a_question_mark(encoder: OnnxEncoder) -> None:
    [broken], [mark] = encoder.chunks(["free \ud800 bet"]), encoder.chunks(["free ? bet"])
    assert broken == mark


def test_attention_sums_to_one_over_real_tokens(encoder: OnnxEncoder) -> None:
    attention = encoder.attention(LONG, slot=SLOT)
    assert [chunk for chunk, _ in attention] == encoder.chunks([LONG])
    for chunk, weights in attention:
        assert weights.shape == (16, len(chunk.ids))
        np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_a_scoring_error(tiny_bundle: Bundle, value: float) -> None:
    encoder = OnnxEncoder(tiny_bundle)
    encoder._session = BrokenSession(encoder._session, value)
    for call in (lambda: encoder.encode(["a"]), lambda: encoder.attention("a", slot="base")):
        with pytest.raises(ScoringError, match="not finite on \\d+ tokens"):
            call()


def test_a_failing_runtime_is_a_scoring_error(tiny_bundle: Bundle) -> None:
    encoder = OnnxEncoder(tiny_bundle)
    encoder._session = BrokenSession(encoder._session, None)
    with pytest.raises(ScoringError, match="failed on \\d+ tokens: out of memory"):
        encoder.encode(["a", "b"])


@pytest.mark.parametrize("name", [GRAPH, TOKENIZER])
def test_a_file_that_is_no_model_is_a_bundle_error(tiny_bundle: Bundle, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle.path, folder)
    (folder / name).write_bytes(b"not a model")
    write_manifest(folder, tiny_bundle.manifest)  # so that the hashes fit
    with pytest.raises(BundleError, match=f"bundle {folder}"):
        OnnxEncoder(load_bundle(folder))


@pytest.mark.parametrize("named", ["two", "0", "-1", "1.5"])
def test_threads_that_are_no_number_are_named(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.setenv("WARDLINE_THREADS", named)
    with pytest.raises(ValueError, match=f"WARDLINE_THREADS: found '{named}', allowed a whole number from 1"):
        OnnxEncoder(tiny_bundle)
