from __future__ import annotations

from typing import TYPE_CHECKING

from eval.peers.minilm import folder
from eval.peers.plain_sentence_transformers import load

if TYPE_CHECKING:
    from tests.eval.peers.conftest import FakeSentenceTransformer

TEXTS = ["bb", "a", "dddd"]


def test_sorted_is_one_call_which_the_library_sorts_itself(
    sentence_transformers: list[FakeSentenceTransformer], torch_threads: list[int]
) -> None:
    found = load({"batch_size": 2}).many(TEXTS)
    (model,) = sentence_transformers
    assert (model.path, model.settings) == (str(folder()), {"device": "cpu"})
    [(texts, settings)] = model.calls
    assert texts == TEXTS
    assert (settings["batch_size"], settings["normalize_embeddings"]) == (2, True)
    assert found is not None
    assert torch_threads == [1]


def test_in_arrival_order_no_call_holds_more_than_a_batch(
    sentence_transformers: list[FakeSentenceTransformer], torch_threads: list[int]
) -> None:
    load({"batch_size": 2, "order": "arrival"}).many(TEXTS)
    (model,) = sentence_transformers
    assert [texts for texts, _ in model.calls] == [["bb", "a"], ["dddd"]]
    assert torch_threads == [1]


def test_a_single_text_is_a_call_of_its_own(
    sentence_transformers: list[FakeSentenceTransformer], torch_threads: list[int]
) -> None:
    load({"batch_size": 2}).one("tea")
    assert [texts for texts, _ in sentence_transformers[0].calls] == [["tea"]]
    assert torch_threads == [1]
