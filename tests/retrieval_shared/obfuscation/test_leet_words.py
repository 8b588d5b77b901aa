from __future__ import annotations

import pytest

from retrieval_shared.obfuscation.leet import find_leet
from retrieval_shared.obfuscation.leet_words import known_word

DISGUISED = "ch3ap v1agra c4s1no "


def applied(text: str) -> str:
    letters = list(text)
    for edit in find_leet(text):
        letters[edit.start] = edit.replacement
    return "".join(letters)


@pytest.mark.parametrize(
    ("token", "word"),
    [
        ("4nd", "and"), ("0f", "of"), ("7h3", "the"), ("|n", "in"), ("8y", "by"), ("+h€", "the"), ("wi+h", "with"),
        ("wi11", "will"), ("2ero", "zero"), ("4ND", "AND"), ("xq4", None), ("the", "the"), ("", None),
    ],
)  # fmt: skip
def test_a_token_spells_a_known_word(token: str, word: str | None) -> None:
    assert known_word(token) == word


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("4nd 0f 7h3 |n 8y", "and of the in by"),
        ("4nd! wi+h, d0n'7 it'5 we'11", "and! with, don't it's we'll"),
        ("7h3 too! fee! |n", "the too! fee! in"),
        ("such 4 house and @ garden", "such a house and a garden"),
        ("@nd !n b@ck", "and in back"),
    ],
)
def test_known_words_are_read_in_a_disguised_text(text: str, read: str) -> None:
    assert applied(DISGUISED + text) == "cheap viagra casino " + read


@pytest.mark.parametrize(
    "text",
    [
        "4 rooms $50 2 left 24/7 100% 18+ 50€ €5 7pm 4th 5kg 1st 2nd 3D PS5 MP3 H2O A4 m3 5s",
        "4 people, 4 days, 4 in stock, level 4 class, page 4 the, 4 week course, @ 5pm, 70 47 17",
        "+1 555 0100, 10:30, 12/24, 2026, $1,000.50, 4x4, b0b@m4il.com, www.7h3.com/4nd",
    ],
)
def test_numbers_prices_and_measures_stay_in_a_disguised_text(text: str) -> None:
    assert applied(DISGUISED + text) == "cheap viagra casino " + text


def test_a_plain_text_is_not_read_by_the_vocabulary() -> None:
    assert applied("4nd 0f 4 house |n") == "4nd 0f 4 house |n"
    assert applied("v1agra 4nd 0f 4 house") == "viagra 4nd 0f 4 house"


def test_known_words_alone_show_a_disguise_when_there_are_three() -> None:
    assert applied("7h3 w17h 4ll 0f") == "the with all of"


def test_a_lone_digit_is_a_number_unless_three_words_are_leet() -> None:
    assert applied("v1agra c4s1no 4 house") == "viagra casino 4 house"
