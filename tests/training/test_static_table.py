from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from training.parallel import PackedTokens
from training.static_table import StaticConfig, StaticTable, draws, train_static_table

WORDS = 12
CONFIG = StaticConfig(dim=8, pairs=6_400, batch_pairs=32, learning_rate=0.05, checkpoint_steps=50)


def corpus() -> tuple[PackedTokens, np.ndarray, np.ndarray]:
    """Sentences of two of twelve words; word w of English is word 12 + w of the other language."""
    rng = np.random.default_rng(0)
    english = [rng.choice(WORDS, size=2, replace=False) for _ in range(60)]
    rows = [*english, *(words + WORDS for words in english)]
    ids = np.concatenate(rows).astype(np.uint16)
    offsets = np.arange(0, len(ids) + 1, 2)
    numbers = np.tile(np.arange(60), 2)
    chances = np.repeat([0.0, 1 / 60], 60)
    return PackedTokens(ids, offsets), numbers, chances


def trained(folder: Path) -> StaticTable:
    tokens, english, chances = corpus()
    return train_static_table(tokens, english, chances, CONFIG, vocabulary=2 * WORDS, folder=folder, seed=0)


def test_a_sentence_is_the_unit_mean_of_its_rows() -> None:
    table = StaticTable(5, 4)
    found = table(torch.tensor([1, 2, 3]), torch.tensor([0, 2]))
    rows = table.rows.weight.detach()
    for vector, mean in zip(found.detach(), (rows[1:3].mean(0), rows[3]), strict=True):
        torch.testing.assert_close(vector, mean / mean.norm())


def test_an_empty_bag_is_the_zero_vector() -> None:
    assert StaticTable(5, 4)(torch.tensor([1]), torch.tensor([0, 1])).detach()[1].tolist() == [0.0] * 4


def test_words_find_their_translations(tmp_path: Path) -> None:
    rows = trained(tmp_path).rows.weight.detach()
    rows = rows / rows.norm(dim=1, keepdim=True)
    nearest = (rows[:WORDS] @ rows[WORDS:].T).argmax(1)
    assert (nearest == torch.arange(WORDS)).float().mean() > 0.9


def test_a_finished_table_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = trained(tmp_path)
    monkeypatch.setattr("training.static_table.run_steps", lambda *_, **__: pytest.fail("trained again"))
    torch.testing.assert_close(trained(tmp_path).rows.weight, first.rows.weight)


def test_draws_follow_the_chances_and_the_seed() -> None:
    chances = np.array([0.0, 0.25, 0.75, 0.0])
    batches = draws(chances, steps=50, size=200, seed=1)
    counts = np.bincount(np.concatenate(batches), minlength=4) / 10_000
    np.testing.assert_allclose(counts, chances, atol=0.02)
    assert counts[0] == counts[3] == 0
    np.testing.assert_array_equal(np.array(batches), np.array(draws(chances, steps=50, size=200, seed=1)))
    assert (np.array(batches) != np.array(draws(chances, steps=50, size=200, seed=2))).any()


def test_equal_english_sentences_are_no_negatives(tmp_path: Path) -> None:
    """One sentence with two translations, alone in every batch: nothing to learn, so no step moves a row."""
    tokens = PackedTokens(np.array([0, 1, 2], dtype=np.uint16), np.array([0, 1, 2, 3]))
    config = dataclasses.replace(CONFIG, pairs=64)
    one = train_static_table(
        tokens, np.array([0, 0, 0]), np.array([0, 0.5, 0.5]), config, vocabulary=3, folder=tmp_path, seed=3
    )
    torch.manual_seed(3)
    torch.testing.assert_close(one.rows.weight, StaticTable(3, CONFIG.dim).rows.weight)
