from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.transforms import TRANSFORMS, obfuscate

AD = "Play real casino tables at home, first deposit matched. See https://casino.example or mail a@b.example"


def disguised(text: str, transform: str, *, seed: int = 0, share: float = 1.0) -> str:
    return obfuscate(text, transform=transform, rng=np.random.default_rng(seed), share=share)


def test_the_five_transforms() -> None:
    assert TRANSFORMS == ("leet", "homoglyph", "zero_width", "spaced", "full_width")


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_every_transform_changes_an_ad_and_leaves_links(transform: str) -> None:
    found = disguised(AD, transform)
    assert found != AD
    assert "https://casino.example" in found
    assert "a@b.example" in found
    assert sum(old != new for old, new in zip(AD.split(), found.split(), strict=False)) >= 5


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_equal_generators_give_equal_texts_and_others_do_not(transform: str) -> None:
    assert disguised(AD, transform, seed=1) == disguised(AD, transform, seed=1)
    assert len({disguised(AD, transform, seed=seed, share=0.5) for seed in range(8)}) > 1


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_share_of_words_is_the_share_asked_for(transform: str) -> None:
    text = "tobacco " * 2000
    changed = np.mean([word == "tobacco" for word in disguised(text, transform, share=0.3).split(" ")])
    assert disguised(text, transform, share=0.0) == text
    if transform != "spaced":  # which makes more words of one
        assert 1 - changed == pytest.approx(0.3, abs=0.05)


@given(st.text(st.characters(), max_size=60), st.sampled_from(TRANSFORMS), st.integers(0, 2**32 - 1))
def test_any_text_is_taken(text: str, transform: str, seed: int) -> None:
    found = disguised(text, transform, seed=seed)
    assert found.strip() or not text.strip()
    if transform != "spaced":
        assert len(found.split()) == len(text.split())


def test_full_width_letters_read_back_by_nfkc() -> None:
    assert unicodedata.normalize("NFKC", disguised("Casino 24", "full_width")) == "Casino 24"


def test_zero_width_and_homoglyph_keep_what_is_seen() -> None:
    hidden = disguised("casino", "zero_width")
    assert "".join(char for char in hidden if char in "casino") == "casino"
    assert len(disguised("casino", "homoglyph")) == 6
    assert not disguised("casino", "homoglyph").isascii()


def test_spacing_keeps_marks_on_their_letters() -> None:
    found = disguised("हिन्दी", "spaced")
    assert unicodedata.category(found.strip()[1])[0] == "M"


def test_unknown_transforms_and_shares_are_refused() -> None:
    with pytest.raises(ValueError, match="transform must be one of .* found 'rot13'"):
        obfuscate("x", transform="rot13", rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="share must be in"):
        obfuscate("x", transform="leet", rng=np.random.default_rng(0), share=1.5)
