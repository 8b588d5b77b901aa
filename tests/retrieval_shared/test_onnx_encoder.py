"""The served graph over the tiny bundle.

Activations are quantised with a scale per token row, so texts of like length share a run, and a branch's numbers are
the same whatever stands beside it.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from retrieval_shared.bundle import GRAPH, TOKENIZER, Bundle, load_bundle, write_manifest
from retrieval_shared.errors import BundleError, ScoringError
from retrieval_shared.onnx_encoder import CHUNK_OVERLAP, TOKEN_BUDGET, Branch, Chunk, Encoded, OnnxEncoder

SLOT, REGION = "task:moderation", "region:ID"
SLOTS = ("base", SLOT, REGION)
LOGIT_NOISE, COSINE_NOISE = 1e-5, 1e-5
LONG = " ".join(["free bet", "shop shoes tea", "every morning war", "vodka"] * 30)  # 270 tokens, 48 fit
TEXTS = [LONG, "free bet", "", "win cash now at the casino", "Купите 🎁 ١٢٣", LONG[: len(LONG) // 2], "£", "tea"]
MIXED: list[Branch] = [(3, REGION), (0, SLOT), (1, "base"), (0, REGION), (7, SLOT), (3, SLOT), (2, REGION), (5, SLOT),
    (0, "base"), (4, REGION), (3, "base"), (1, SLOT), (6, REGION), (5, REGION), (3, REGION)]  # fmt: skip
"""Every text of `TEXTS`, most under several slots, in no order; the first branch stands there twice."""


@pytest.fixture(scope="module")
def encoder(tiny_bundle: Bundle) -> OnnxEncoder:
    return OnnxEncoder(tiny_bundle)


def assert_close(left: NDArray[np.float32], right: NDArray[np.float32]) -> None:
    assert np.abs(left - right).max() <= LOGIT_NOISE


def assert_same(left: Encoded, right: Encoded) -> None:
    assert_close(left.logits, right.logits)
    assert (left.vectors * right.vectors).sum(1).min() >= 1 - COSINE_NOISE
    np.testing.assert_array_equal(left.chunked, right.chunked)


def joined(each: Sequence[Encoded]) -> Encoded:
    """Return the branches of all, one below the other."""
    vectors, logits, chunked = (
        np.concatenate([getattr(one, name) for one in each]) for name in ("vectors", "logits", "chunked")
    )
    return Encoded(vectors=vectors, logits=logits, tokens=sum(one.tokens for one in each), chunked=chunked)


def run_alone(encoder: OnnxEncoder, bundle: Bundle, chunk: Chunk, slot: int) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(str(bundle.file(GRAPH)), providers=["CPUExecutionProvider"])
    ids = np.array([chunk.ids])
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "branch_row": np.array([0])}
    resident = {**encoder._slots.inputs, **encoder._heads.inputs}
    return list(session.run(None, {**feeds, "slot": np.array([slot]), **resident}))


class BrokenSession:
    """An ONNX session that gives one value for everything, or fails."""

    def __init__(self, real: onnxruntime.InferenceSession, value: float | None) -> None:
        self._real, self._value = real, value

    def get_outputs(self) -> Sequence[object]:
        return self._real.get_outputs()  # type: ignore[no-any-return]

    def run(self, outputs: list[str], feeds: dict[str, NDArray[Any]], _: object) -> list[NDArray[np.float32]]:
        if self._value is None:
            raise RuntimeError("out of memory")
        n, t = len(feeds["slot"]), feeds["input_ids"].shape[1]
        shapes = {"vector": (n, 32), "logits": (n, 16), "attention": (n, 16, t)}
        return [np.full(shapes[name], self._value, dtype=np.float32) for name in outputs]


class WatchedSession:
    """A real session that remembers what it was asked."""

    def __init__(self, real: onnxruntime.InferenceSession) -> None:
        self._real = real
        self.outputs: list[list[str]] = []
        self.feeds: list[dict[str, NDArray[Any]]] = []
        self.only_what_is_asked: list[bool] = []

    def get_outputs(self) -> Sequence[object]:
        return self._real.get_outputs()  # type: ignore[no-any-return]

    def run(
        self, outputs: list[str], feeds: dict[str, NDArray[Any]], options: onnxruntime.RunOptions
    ) -> list[NDArray[np.float32]]:
        self.outputs.append(outputs)
        self.feeds.append(feeds)
        self.only_what_is_asked.append(options.only_execute_path_to_fetches)
        return list(self._real.run(outputs, feeds, options))


def watched(bundle: Bundle) -> tuple[OnnxEncoder, WatchedSession]:
    encoder = OnnxEncoder(bundle)
    encoder._session = session = WatchedSession(encoder._session)
    return encoder, session


def test_sizes(encoder: OnnxEncoder) -> None:
    assert (encoder.dim, encoder.heads, encoder.slots) == (32, 16, SLOTS)
    assert [adapter.name for adapter in encoder.adapters] == [SLOT, REGION]
    assert len(set(encoder.head_versions)) == 16


def test_order_is_kept_and_neighbours_change_nothing(encoder: OnnxEncoder) -> None:
    for slot in SLOTS:
        batch = encoder.encode(TEXTS, slot=slot)
        alone = [encoder.encode([text], slot=slot) for text in TEXTS]
        assert_same(batch, joined(alone))
        assert batch.tokens == sum(one.tokens for one in alone)
        assert np.argmax(batch.vectors @ alone[3].vectors[0]) == 3


def test_texts_of_like_length_share_a_run_and_padding_changes_nothing(tiny_bundle: Bundle) -> None:
    encoder, session = watched(tiny_bundle)
    texts = ["tea", "free bet " * 20, "vodka wine", "war " * 46]
    batch = encoder.encode(texts, slot=SLOT)
    [feeds] = session.feeds
    assert feeds["attention_mask"].sum(1).tolist() == [3, 4, 42, 48]  # shortest first, special tokens counted
    assert feeds["input_ids"].shape == (4, 48)
    assert_same(batch, joined([encoder.encode([text], slot=SLOT) for text in texts]))
    encoder.encode([LONG] * 4)
    assert all(feeds["input_ids"].size <= TOKEN_BUDGET for feeds in session.feeds)


def test_a_mixed_batch_is_each_slot_alone(encoder: OnnxEncoder) -> None:
    alone = [encoder.encode([TEXTS[text]], slot=slot) for text, slot in MIXED]
    mixed = encoder.encode_branches(TEXTS, MIXED)
    assert_same(mixed, joined(alone))
    assert mixed.chunked.tolist() == [text in (0, 5) for text, _ in MIXED]
    assert mixed.tokens == encoder.encode(TEXTS).tokens  # however many branches
    assert_close(mixed.logits[0], mixed.logits[-1])


def test_texts_and_branches_in_another_order_give_the_same_in_that_order(encoder: OnnxEncoder) -> None:
    expected = encoder.encode_branches(TEXTS, MIXED)
    rng = np.random.default_rng(4)
    for _ in range(3):
        texts, order = rng.permutation(len(TEXTS)), rng.permutation(len(MIXED))
        place = np.argsort(texts)
        branches = [(int(place[text]), slot) for text, slot in (MIXED[i] for i in order)]
        found = encoder.encode_branches([TEXTS[i] for i in texts], branches)
        assert_same(found, _taken(expected, order))


def _taken(encoded: Encoded, rows: NDArray[np.intp]) -> Encoded:
    return replace(encoded, vectors=encoded.vectors[rows], logits=encoded.logits[rows], chunked=encoded.chunked[rows])


def test_all_branches_of_a_text_share_its_trunk(tiny_bundle: Bundle) -> None:
    encoder, session = watched(tiny_bundle)
    encoded = encoder.encode_branches(["free bet", "tea"], [(0, REGION), (1, SLOT), (0, "base"), (0, SLOT)])
    [feeds] = session.feeds
    assert feeds["input_ids"].shape == (2, 4)
    read = [encoder.slots[k] for k in feeds["slot"]]
    lengths = feeds["attention_mask"].sum(1)
    assert sorted(zip(lengths[feeds["branch_row"]].tolist(), read, strict=True)) == [
        (3, SLOT), (4, "base"), (4, REGION), (4, SLOT)
    ]  # fmt: skip
    assert encoded.tokens == 3


def test_a_text_without_a_branch_is_not_read(tiny_bundle: Bundle) -> None:
    encoder, session = watched(tiny_bundle)
    encoded = encoder.encode_branches([LONG, "tea"], [(1, SLOT)])
    assert [feeds["input_ids"].shape for feeds in session.feeds] == [(1, 3)]
    assert (encoded.tokens, encoded.logits.shape, encoded.chunked.tolist()) == (1, (1, 16), [False])


def test_slot_0_is_the_encoder_without_adapters(encoder: OnnxEncoder) -> None:
    plain = encoder.with_adapters([])
    assert plain.slots == ("base",)
    assert_same(encoder.encode(TEXTS), plain.encode(TEXTS))


def test_every_slot_is_what_peft_computes(encoder: OnnxEncoder, tiny_bundle: Bundle, tiny_base: Path) -> None:
    """But for int8 activations."""
    import torch

    from training.adapter import load_peft
    from training.base_model import load_base_model, round_to_int8

    [chunk] = encoder.chunks([TEXTS[3]])
    found = [encoder.encode([TEXTS[3]], slot=slot).vectors[0] for slot in SLOTS]
    for k, folder in enumerate((None, "task-moderation", "region-ID")):
        base = load_base_model(str(tiny_base))
        round_to_int8(base)
        model = load_peft(base.model, tiny_bundle.path / "adapters" / folder) if folder else base.model
        ids = torch.tensor([chunk.ids])
        with torch.no_grad():
            states = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        cosines = np.array(found) @ base.vector(ids, torch.ones_like(ids), states)[0].numpy()
        assert cosines[k] > 0.999
        assert np.delete(cosines, k).max() < 0.99


def test_the_same_batch_gives_the_same_numbers_from_many_threads(encoder: OnnxEncoder) -> None:
    expected = encoder.encode_branches(TEXTS, MIXED)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: encoder.encode_branches(TEXTS, MIXED), range(8)):
            np.testing.assert_array_equal(found.logits, expected.logits)
            np.testing.assert_array_equal(found.vectors, expected.vectors)


def test_the_slot_changes_the_numbers(encoder: OnnxEncoder) -> None:
    base, moderation, region = (encoder.encode(["free bet"], slot=slot).logits for slot in SLOTS)
    for left, right in ((base, moderation), (base, region), (moderation, region)):
        assert np.abs(left - right).max() > 0.1


def test_unknown_slot(encoder: OnnxEncoder) -> None:
    with pytest.raises(ValueError, match="slot: found 'region:DE', allowed base, task:moderation, region:ID"):
        encoder.encode(["a"], slot="region:DE")
    with pytest.raises(ValueError, match="slot: found 'region:DE', allowed base"):
        encoder.encode([], slot="region:DE")
    with pytest.raises(ValueError, match="slot: found 'region:DE', allowed base"):
        encoder.encode_branches(["a"], [(0, "base"), (0, "region:DE")])
    with pytest.raises(ValueError, match="slot: found 'region:DE', allowed base"):
        encoder.attention("a", slot="region:DE")


@pytest.mark.parametrize("text", [-1, 2])
def test_a_branch_of_no_text_is_refused(encoder: OnnxEncoder, text: int) -> None:
    with pytest.raises(ValueError, match=f"branches: found text {text}, allowed 0 to 1"):
        encoder.encode_branches(["a", "b"], [(0, "base"), (text, SLOT)])


def test_nothing_is_computed_that_was_not_asked_for(tiny_bundle: Bundle) -> None:
    encoder, session = watched(tiny_bundle)
    encoder.encode(["tea"])
    encoder.attention("tea", slot=SLOT)
    assert session.outputs == [["vector", "logits"], ["attention"]]
    assert session.only_what_is_asked == [True, True]


def test_no_texts(encoder: OnnxEncoder) -> None:
    encoded = encoder.encode([])
    assert encoded.vectors.shape == (0, 32)
    assert encoded.logits.shape == (0, 16)
    assert encoded.chunked.shape == (0,)
    assert encoded.tokens == 0
    assert encoder.encode_branches(["tea"], []).logits.shape == (0, 16)


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
    alone = [run_alone(encoder, tiny_bundle, chunk, slot=1) for chunk in encoder.chunks([LONG])]
    assert len(alone) > 3
    assert encoded.chunked.tolist() == [True]
    assert_close(encoded.logits[0], np.max([logits[0] for _, logits, _ in alone], axis=0))
    mean = np.sum([vector[0] for vector, _, _ in alone], axis=0)
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


def test_attention_sums_to_one_over_real_tokens(encoder: OnnxEncoder, tiny_bundle: Bundle) -> None:
    attention = encoder.attention(LONG, slot=SLOT)
    assert [chunk for chunk, _ in attention] == encoder.chunks([LONG])
    for chunk, weights in attention:
        assert weights.shape == (16, len(chunk.ids))
        np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
        assert_close(weights, run_alone(encoder, tiny_bundle, chunk, slot=1)[2][0])


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


class CountingSession:
    """An ONNX session whose first run lasts until another one has begun, or waits for its turn."""

    def __init__(self, encoder: OnnxEncoder) -> None:
        self._encoder, self._real = encoder, encoder._session
        self._lock = threading.Lock()
        self._inside = self._begun = 0
        self.most = 0
        """The most that ran at the same time."""

    def get_outputs(self) -> Sequence[object]:
        return self._real.get_outputs()  # type: ignore[no-any-return]

    def run(self, *given: Any) -> Any:  # noqa: ANN401
        with self._lock:
            self._begun += 1
            self._inside += 1
            self.most = max(self.most, self._inside)
        while self._begun < 2 and not self._encoder._turns.waiting:
            pass
        result = self._real.run(*given)
        with self._lock:
            self._inside -= 1
        return result


@pytest.mark.parametrize("threads", [1, 2])
def test_no_more_runs_at_once_than_threads(tiny_bundle: Bundle, threads: int) -> None:
    encoder = OnnxEncoder(tiny_bundle, threads=threads)
    expected = [encoder.encode([text]).logits for text in ("tea", LONG)]
    watched = encoder._session = CountingSession(encoder)
    with ThreadPoolExecutor(2) as callers:
        found = list(callers.map(lambda text: encoder.encode([text]).logits, ["tea", LONG]))
    assert watched.most == threads
    for ours, alone in zip(found, expected, strict=True):
        assert_close(ours, alone)


@pytest.mark.parametrize("named", ["two", "0", "-1", "1.5"])
def test_threads_that_are_no_number_are_named(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.setenv("WARDLINE_THREADS", named)
    with pytest.raises(ValueError, match=f"WARDLINE_THREADS: found '{named}', allowed a whole number from 1"):
        OnnxEncoder(tiny_bundle)
