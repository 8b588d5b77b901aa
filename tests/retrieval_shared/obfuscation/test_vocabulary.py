from __future__ import annotations

import pytest

from retrieval_shared.obfuscation.vocabulary import is_word, likeliest, plausibility, vocabulary


def test_words_are_lower_case_ascii_letters_only() -> None:
    assert all(word.isascii() and word.isalpha() and word.islower() for word in vocabulary())


def test_only_function_words_are_shorter_than_three_letters() -> None:
    assert {word for word in vocabulary() if len(word) == 1} == {"a", "i"}
    assert {"of", "in", "by", "at"} < vocabulary()
    assert not {"mg", "pm", "dj", "rx"} & vocabulary()


@pytest.mark.parametrize(
    ("text", "known"), [("the", True), ("The", True), ("thex", False), ("", False), ("7h3", False)]
)
def test_a_word_is_known_in_any_case(text: str, known: bool) -> None:
    assert is_word(text) is known


def test_a_known_word_is_likelier_than_any_other() -> None:
    assert likeliest(["iamp", "lamp"]) == "lamp"
    assert likeliest(["seiections", "selections"]) == "selections"
    assert likeliest(["xq", "xq"]) == "xq"
    with pytest.raises(ValueError, match="empty"):
        likeliest([])


def test_only_letters_make_a_text_plausible() -> None:
    assert plausibility("jumping") > plausibility("jumpqng")
    assert plausibility("Jump-1ng") == plausibility("jumpng")
    assert plausibility("") < 0
