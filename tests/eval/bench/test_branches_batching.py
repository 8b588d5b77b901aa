from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from eval.bench.branches_batching import arrival_reader, batching_group, padding, token_rows, weights_group
from eval.bench.branches_graphs import PLAIN, LoadedGraph, branches, read_sizes
from retrieval_shared.onnx_encoder import OnnxEncoder

if TYPE_CHECKING:
    from retrieval_shared.bundle import Bundle

TEXTS = ["free bet now", "a", "fresh bread every morning your door and tea", "win cash"]


@pytest.fixture(scope="module")
def encoder(tiny_bundle: Bundle) -> OnnxEncoder:
    return OnnxEncoder(tiny_bundle, threads=1)


def test_padding_by_hand() -> None:
    """Of 40 texts with 2 tokens, 23 with 4 and the last with 30: 202 tokens.

    In their order the second 32 are padded to 30: 32 x 2 + 32 x 30. By length, 40 x 2 and 23 x 4 fit into 512 with
    each other padded to 4, and the last would make them 64 x 30, so that it stands alone.
    """
    rows = [[1] * 2] * 40 + [[1] * 4] * 23 + [[1] * 30]
    found = padding(rows)
    assert found["arrival"] == pytest.approx((32 * 2 + 32 * 30) / 202)
    assert found["budget"] == pytest.approx((63 * 4 + 30) / 202)
    assert found["one_by_one"] == 1.0


def test_rows_are_the_tokens_with_the_special_ones(encoder: OnnxEncoder) -> None:
    assert [len(row) for row in token_rows(encoder, TEXTS)] == [5, 3, 10, 4]


def test_padded_batches_give_what_the_encoder_gives(tiny_bundle: Bundle, encoder: OnnxEncoder) -> None:
    vectors, logits = arrival_reader(tiny_bundle, encoder)(TEXTS)
    expected = encoder.encode(TEXTS, slot=encoder.slots[-1])
    assert np.abs(vectors - expected.vectors).max() < 1e-4
    assert np.abs(logits - expected.logits).max() < 1e-3
    assert np.abs(vectors - encoder.encode(TEXTS).vectors).max() > 0.01  # it reads under the slot


def test_each_way_reads_all_texts(tiny_bundle: Bundle, encoder: OnnxEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    encode = OnnxEncoder.encode

    def counted(self: OnnxEncoder, texts: list[str], *, slot: str) -> object:
        read.append(len(texts))
        return encode(self, texts, slot=slot)

    monkeypatch.setattr(OnnxEncoder, "encode", counted)
    group = batching_group(tiny_bundle, encoder, TEXTS * 10)
    assert list(group.tasks) == ["budget", "one_by_one", "arrival"]
    for key, runs in (("budget", [40]), ("one_by_one", [1] * 40), ("arrival", [])):
        read.clear()
        found = group.tasks[key]()
        assert read == runs
    assert isinstance(found, list)
    assert [len(vectors) for vectors, _ in found] == [32, 8]


def test_both_weights_read_the_same_batches(encoder: OnnxEncoder, tiny_graphs: Path) -> None:
    sizes = read_sizes(tiny_graphs)
    assert sizes is not None
    plain, served = (
        {weights: LoadedGraph(tiny_graphs, name, weights, sizes) for weights in ("int8", "float32")}
        for name in (PLAIN, branches(1))
    )
    group = weights_group(
        token_rows(encoder, TEXTS), plain, {weights: graph.holding(slots=2) for weights, graph in served.items()}
    )
    found = {key: task() for key, task in group.tasks.items()}
    assert list(found) == ["plain_int8", "served_int8", "plain_float32", "served_float32"]
    for key in ("plain", "served"):
        for int8, float32 in zip(found[f"{key}_int8"], found[f"{key}_float32"], strict=True):  # type: ignore[call-overload]
            assert (int8[0] * float32[0]).sum(1).min() > 0.98
            assert len(int8) == (1 if key == "plain" else 2)
