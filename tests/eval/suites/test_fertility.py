"""Tokens per word, per character where no spaces are written, and the share of unknown tokens."""

from __future__ import annotations

import math

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE, Unigram, WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from eval.sentences import Pool
from eval.suites.fertility import TokenCount, count, fertility_report, writes_no_spaces

POOLS = (
    Pool("deu", ("one two", "six"), ("eins zwei", "sechs")),
    Pool("zho-CN", ("one two", "six"), ("一 二", "六")),
)


def word_tokenizer() -> Tokenizer:
    vocabulary = {word: i for i, word in enumerate(("[UNK]", "one", "two", "six", "eins", "zwei"))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.enable_truncation(1)
    tokenizer.enable_padding(length=9)
    return tokenizer


def test_by_hand() -> None:
    english, german, chinese = fertility_report(POOLS, word_tokenizer())["languages"]
    assert english == {
        "language": "eng", "n": 2, "unit": "word", "units": 3, "tokens": 3, "fertility": 1.0, "unknown": 0.0,
    }  # fmt: skip
    assert (german["tokens"], german["unknown"]) == (3, pytest.approx(1 / 3))
    assert (chinese["unit"], chinese["units"], chinese["tokens"], chinese["unknown"]) == ("character", 3, 3, 1.0)


def test_means_keep_words_and_characters_apart() -> None:
    found = fertility_report(POOLS, lambda text: 2 * len(text))
    english, german, chinese = (record["fertility"] for record in found["languages"])
    assert (english, german, chinese) == pytest.approx((20 / 3, 28 / 3, 8 / 3))
    assert found["mean_per_word"] == pytest.approx((english + german) / 2)
    assert found["mean_per_character"] == pytest.approx(chinese)
    assert found["mean_unknown"] is None
    assert all(record["unknown"] is None for record in found["languages"])
    assert math.isnan(fertility_report(POOLS[:1], len)["mean_per_character"])


def test_the_callers_tokenizer_keeps_its_settings() -> None:
    tokenizer = word_tokenizer()
    assert count(["one two six"], tokenizer) == TokenCount(3, 0)
    assert tokenizer.encode("one two six").ids == [1] + [0] * 8


def test_special_tokens_are_counted_when_asked_for() -> None:
    tokenizer = word_tokenizer()
    tokenizer.post_processor = TemplateProcessing(single="six $A", special_tokens=[("six", 3)])
    assert count(["one two", "one"], tokenizer).tokens == 3
    assert count(["one two", "one"], tokenizer, special=True).tokens == 5


def test_unknown_tokens_of_other_models() -> None:
    unigram = Tokenizer(Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0))
    assert count(["aba"], unigram) == TokenCount(3, 1)
    assert count(["a"], Tokenizer(BPE({"a": 0}, []))) == TokenCount(1, None)


def test_bad_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="count_tokens: found -1"):
        count(["a"], lambda _: -1)


@pytest.mark.parametrize(("language", "expected"), [("zho-TW", True), ("ja", True), ("tha", True), ("kor", False)])
def test_languages_without_spaces(language: str, expected: bool) -> None:
    assert writes_no_spaces(language) is expected
