from __future__ import annotations

import re

import numpy as np
import pytest

from retrieval_shared.text import normalise
from training.disguise import _WAYS, disguise

TEXT = "Fresh bread every morning, delivered to your door. Call 555 before noon, or visit https://example.org/x."


def many(text: str, copies: int = 200) -> list[str]:
    return [disguise(text, np.random.default_rng(seed)) for seed in range(copies)]


def test_equal_generators_give_equal_texts() -> None:
    assert many(TEXT, 20) == many(TEXT, 20)
    assert len(set(many(TEXT, 20))) > 15


def test_every_way_changes_letters_and_leaves_the_rest() -> None:
    for way in _WAYS:
        words = {way("bottles", np.random.default_rng(seed)) for seed in range(50)}
        assert words != {"bottles"}, way
    for text in many(TEXT):
        assert text.count(",") >= TEXT.count(",")
        assert text.endswith(".")


def test_from_a_tenth_of_the_words_to_nearly_all_are_disguised() -> None:
    plain = TEXT.split()
    kept = [np.mean([word in text.split() for word in plain]) for text in many(TEXT)]
    assert min(kept) < 0.3
    assert max(kept) > 0.8


def test_most_disguises_can_be_read_again() -> None:
    words = [set(re.findall(r"\w+", normalise(text).canonical.lower())) for text in many(TEXT)]
    assert np.mean([len({"bread", "morning", "door"} & found) / 3 for found in words]) > 0.9


@pytest.mark.parametrize("text", ["", " ", "a b c", "🎁", "毎朝焼きたてのパン", "خبز طازج كل صباح", "\ud800 lone"])
def test_any_text_is_taken(text: str) -> None:
    for seed in range(30):
        assert isinstance(disguise(text, np.random.default_rng(seed)), str)


def test_a_text_without_words_stays() -> None:
    assert set(many("a 1 - b!", 30)) == {"a 1 - b!"}
