"""The tokenizer on a small corpus of several scripts."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer

from training.tokenizer import BYTES, SPECIAL, UNKNOWN, train_tokenizer

CORPUS = (
    ["the free bread of the old town", "fresh bread every morning!", "free delivery (in town)"] * 9
    + ["Tiếng Việt có dấu", "bánh mì mới mỗi sáng", "Ωραίο ψωμί κάθε πρωί", "свежий хлеб каждое утро"] * 9
    + [
        "毎朝焼きたてのパン",
        "每天早上的新鲜面包",
        "ขนมปังสดทุกเช้า",
        "خبز طازج كل صباح",
        "लोकप्रिय ताज़ी रोटी",
        "갓 구운 빵",
        "לחם טרי כל בוקר",
    ]
    * 9
)
SIZE = 900


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(CORPUS, vocabulary=SIZE, alphabet=300)


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    return tokenizer.encode(text, add_special_tokens=False).tokens


def test_the_front_of_the_vocabulary_is_fixed(tokenizer: Tokenizer) -> None:
    assert [tokenizer.id_to_token(i) for i in range(4 + 256)] == [*SPECIAL, *BYTES]
    assert tokenizer.get_vocab_size() <= SIZE
    assert sorted(tokenizer.get_vocab().values()) == list(range(tokenizer.get_vocab_size()))
    assert tokenizer.encode("bread").tokens == ["[CLS]", "▁bread", "[SEP]"]


def test_words_are_kept_whole_where_they_stand_alone() -> None:
    wanted = ["bread", "national", "horse", "season"]
    found = train_tokenizer(CORPUS, vocabulary=SIZE, alphabet=300, words=wanted, whole_words=2)
    size = found.get_vocab_size()
    assert [found.id_to_token(i) for i in (size - 2, size - 1)] == ["▁national", "▁horse"]  # bread was a piece already
    assert size <= SIZE
    assert pieces(found, "National (horse)") == ["▁national", "▁(", "▁horse", "▁)"]
    for word in ("horses", "season"):
        assert not set(pieces(found, word)) & {"▁horse", "▁season"}


def test_width_and_case_do_not_matter_and_accents_do(tokenizer: Tokenizer) -> None:
    assert pieces(tokenizer, "ＦＲＥＥ") == pieces(tokenizer, "Free") == pieces(tokenizer, "free") == ["▁free"]
    assert pieces(tokenizer, "ΨΩΜΊ") == pieces(tokenizer, "ψωμί")
    assert pieces(tokenizer, "ﬁne") == pieces(tokenizer, "fine")
    assert pieces(tokenizer, "mới") != pieces(tokenizer, "mơi") != pieces(tokenizer, "moi")
    assert pieces(tokenizer, "mới") == pieces(tokenizer, "mơ\u0301i")  # one spelling of composed letters


def test_a_word_is_the_same_after_a_space_and_after_a_sign(tokenizer: Tokenizer) -> None:
    assert pieces(tokenizer, "(free)") == ["▁(", "▁free", "▁)"]
    assert pieces(tokenizer, "free\n\t bread") == ["▁free", "▁bread"]


@pytest.mark.parametrize("text", CORPUS[27:])
def test_the_scripts_of_the_corpus_need_no_bytes(tokenizer: Tokenizer, text: str) -> None:
    assert not set(pieces(tokenizer, text)) & {*BYTES, UNKNOWN}


@pytest.mark.parametrize("text", ["𐍈 ᚠ", "🎁🧿", "\u0000\ufffd", "ᠮᠣᠩᠭᠣᠯ", "<0x41>x"])
def test_no_script_is_unknown(tokenizer: Tokenizer, text: str) -> None:
    encoding = tokenizer.encode(text, add_special_tokens=False)
    assert UNKNOWN not in encoding.tokens
    assert "<0x41>" not in encoding.tokens  # nobody can write a byte token by its name
    assert all(0 <= start < end <= len(text) for start, end in encoding.offsets)


@pytest.mark.parametrize("text", ["[CLS]", "[PAD] free", "[SEP]"])
def test_nobody_can_write_a_special_token(tokenizer: Tokenizer, text: str) -> None:
    assert not set(pieces(tokenizer, text)) & set(SPECIAL)


def test_offsets_point_into_the_text_as_it_was(tokenizer: Tokenizer) -> None:
    text = "ＦＲＥＥ  ﬁ bread"
    found = {token: text[slice(*span)] for token, span in zip(*_tokens(tokenizer, text), strict=True)}
    assert (found["▁free"], found["▁bread"]) == ("ＦＲＥＥ", "bread")


def test_the_empty_text_has_no_tokens(tokenizer: Tokenizer) -> None:
    assert pieces(tokenizer, "") == pieces(tokenizer, " \n ") == []


def test_too_small_a_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="vocabulary: found 300, allowed more than 560"):
        train_tokenizer(CORPUS, vocabulary=300, alphabet=300)


def _tokens(tokenizer: Tokenizer, text: str) -> tuple[list[str], list[tuple[int, int]]]:
    encoding = tokenizer.encode(text, add_special_tokens=False)
    return encoding.tokens, encoding.offsets
