from __future__ import annotations

import json
import random
import re
import statistics
from collections.abc import Sequence
from pathlib import Path

import pytest

from eval.bench.texts import (
    ADS,
    LONGEST,
    SHORTEST,
    SINGLE_ADS,
    SINGLE_TOKENS,
    log_normal_lengths,
    make_texts,
    read_ads,
)

SOME = ("Fresh bread every morning", "Bet ten and get thirty now", "Oak tables, made to measure, delivered free")


def word_ends(text: str) -> Sequence[int]:
    return [match.end() for match in re.finditer(r"\S+", text)]


def test_the_same_seed_gives_the_same_texts() -> None:
    first, second = (make_texts(SOME, n=40, seed=5, ends=word_ends) for _ in range(2))
    assert first == second
    assert first.digest == second.digest


def test_another_seed_gives_other_texts() -> None:
    assert (
        make_texts(SOME, n=40, seed=5, ends=word_ends).digest != make_texts(SOME, n=40, seed=6, ends=word_ends).digest
    )


def test_single_ads_have_exactly_their_tokens_and_the_batch_stays_within_one_pass() -> None:
    texts = make_texts(SOME, n=300, seed=1, ends=word_ends)
    assert [len(word_ends(ad)) for ad in texts.ads] == [SINGLE_TOKENS] * SINGLE_ADS
    sizes = [len(word_ends(text)) for text in texts.batch]
    assert len(sizes) == 300
    assert min(sizes) >= SHORTEST
    assert max(sizes) <= LONGEST


def test_lengths_are_log_normal_with_the_stated_median_and_mean() -> None:
    sizes = log_normal_lengths(20_000, random.Random(3))
    assert statistics.median(sizes) == pytest.approx(45, abs=1.5)
    assert statistics.mean(sizes) == pytest.approx(61, rel=0.05)  # the cut at the longest takes a little


def test_it_refuses_no_texts_and_ads_without_a_token() -> None:
    with pytest.raises(ValueError, match="n: found 0"):
        make_texts(SOME, n=0, seed=1, ends=word_ends)
    with pytest.raises(ValueError, match="ads: found no token"):
        make_texts(("", "  "), n=1, seed=1, ends=word_ends)


def test_only_english_ads_are_read_their_fields_joined(tmp_path: Path) -> None:
    file = tmp_path / "ads.jsonl"
    rows = [
        {"lang": "de", "title": "Brot", "body": "Jeden Morgen"},
        {"lang": "en", "title": "Bread", "body": "Every morning", "cta": None, "landing_text": "Open from six"},
    ]
    file.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    assert read_ads(file) == ("Bread\nEvery morning\nOpen from six",)


def test_a_missing_file_and_one_without_english_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found no file 'none.jsonl'"):
        read_ads(tmp_path / "none.jsonl")
    file = tmp_path / "ads.jsonl"
    file.write_text(json.dumps({"lang": "de", "title": "Brot"}))
    with pytest.raises(ValueError, match="no English ad among 1 rows"):
        read_ads(file)


def test_the_repository_holds_enough_ads() -> None:
    assert len(read_ads(ADS)) > SINGLE_ADS
