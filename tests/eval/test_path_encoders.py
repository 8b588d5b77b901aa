"""The three float32 encoders are the two-path encoder that training leaves, whatever is asked together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import BertModel

from eval import path_encoders as module
from eval.path_encoders import BOTH, NAMES, PathReader, load_paths
from retrieval_shared.torch_paths import PATHS
from training.base_model import load_base_model
from training.tokenizer import train_tokenizer
from training.two_paths import TwoPathEncoder, graft, save_encoder

TEXTS = ["free bet and win cash now", "bread", "вільний хліб", "play responsibly casino wine. " * 3, "\ud800 bread"]


@pytest.fixture(scope="module")
def grafted(tiny_base: Path) -> tuple[TwoPathEncoder, Tokenizer]:
    tokenizer = train_tokenizer([text for text in TEXTS[:4]] * 5, vocabulary=450, alphabet=60)
    base = load_base_model(str(tiny_base))
    assert isinstance(base.model, BertModel)
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(tokenizer.get_vocab_size(), base.dim, generator=generator)
    return graft(base.model, base.tokenizer, table, tokenizer), tokenizer


@pytest.fixture(scope="module")
def folder(grafted: tuple[TwoPathEncoder, Tokenizer], tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("two_paths")
    save_encoder(found, *grafted)
    return found


def expected(grafted: tuple[TwoPathEncoder, Tokenizer], text: str, *, tokens: int = 10_000) -> dict[str, np.ndarray]:
    """The vectors of one text read alone, by name."""
    encoder, tokenizer = grafted
    ids = tokenizer.encode(text.encode("utf-8", "replace").decode()).ids
    rows = torch.tensor([ids if len(ids) <= tokens else [*ids[: tokens - 1], ids[-1]]])
    with torch.no_grad():
        vectors = encoder(rows, torch.ones_like(rows))
    return {name: vector[0].numpy() for name, vector in zip(NAMES, vectors, strict=True)}


@pytest.mark.parametrize("budget", [1, 30, 4_096])
def test_it_is_the_trained_encoder_in_any_order_and_batch(
    grafted: tuple[TwoPathEncoder, Tokenizer], folder: Path, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUDGET", budget)
    encoders = load_paths(folder)
    assert list(encoders) == list(NAMES)
    assert NAMES[0] == BOTH
    for order in (TEXTS, TEXTS[::-1], [TEXTS[2], TEXTS[0], TEXTS[2]]):
        for name, encoder in encoders.items():
            found = encoder.encode(order)
            assert (found.shape, found.dtype) == ((len(order), 32), np.float32)
            wanted = np.stack([expected(grafted, text)[name] for text in order])
            np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_text_is_read_once_for_all_three(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    vectors = PathReader._vectors

    def counted(self: PathReader, input_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        read.append(len(input_ids))
        return vectors(self, input_ids, mask)

    monkeypatch.setattr(PathReader, "_vectors", counted)
    first, second, third = load_paths(folder).values()
    both = first.encode(TEXTS + TEXTS)
    assert sum(read) == len(TEXTS)
    second.encode(TEXTS)
    third.encode(TEXTS[::-1])
    assert sum(read) == len(TEXTS)
    np.testing.assert_array_equal(both[: len(TEXTS)], both[len(TEXTS) :])


@pytest.mark.parametrize("empty", ["", "  \n"])
def test_a_text_without_tokens_has_no_static_vector(folder: Path, empty: str) -> None:
    both, transformer, static = (encoder.encode([empty, "bread"]) for encoder in load_paths(folder).values())
    np.testing.assert_allclose(np.linalg.norm([*both, *transformer], axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(static[0], 0)
    assert np.linalg.norm(static[1]) == pytest.approx(1)


def test_a_text_longer_than_the_positions_is_cut(grafted: tuple[TwoPathEncoder, Tokenizer], folder: Path) -> None:
    positions = grafted[0].bert.config.max_position_embeddings
    text = "play responsibly " * positions
    for name, encoder in load_paths(folder).items():
        wanted = expected(grafted, text, tokens=positions)[name]
        np.testing.assert_allclose(encoder.encode([text])[0], wanted, atol=1e-5)


def test_no_texts_give_no_vectors(folder: Path) -> None:
    assert load_paths(folder)[BOTH].encode([]).shape == (0, 32)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", PATHS])
def test_a_missing_file_is_named(folder: Path, tmp_path: Path, name: str) -> None:
    for file in folder.iterdir():
        if file.name != name:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match=rf"paths: found no {name} in '{tmp_path.name}'"):
        PathReader(tmp_path)
