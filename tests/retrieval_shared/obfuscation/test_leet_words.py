from __future__ import annotations

import pytest

from retrieval_shared.obfuscation.leet import find_leet
from retrieval_shared.obfuscation.leet_words import is_one_case, known_word, read_strokes

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


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("no+ i+ th|s, @+ home", "not it this, at home"),
        ("th!s i5 m|ne, w3 go", "this is mine, we go"),
        ("jumpin9 beau+y complian+ momen+", "jumping beauty compliant moment"),  # in no vocabulary
        ("s+!nky boo2e gr|nder", "stinky booze grinder"),
    ],
)
def test_signs_at_edges_and_unknown_words_are_read_in_a_disguised_text(text: str, read: str) -> None:
    assert applied(DISGUISED + text) == "cheap viagra casino " + read


@pytest.mark.parametrize(
    "text",
    [
        "A+ B+ 18+ 10+ Disney+ LGBTQ+ Canal+", "iPhone15 Windows11 RTX4090Ti S21 covid19 Xbox360 euro6",
        "a Core i5 or i7 processor", "1$ €50 90 907 15 20k 4x4 90 km", "yes!! c|d nexus6 windows8",
    ],
)  # fmt: skip
def test_names_ratings_and_chips_stay_in_a_disguised_text(text: str) -> None:
    assert applied(DISGUISED + text) == "cheap viagra casino " + text


def test_signs_at_edges_stay_in_a_plain_text() -> None:
    assert applied("no+ i5 jumpin9 beau+y") == "no+ i5 jumpin9 beau+y"


@pytest.mark.parametrize(
    ("token", "word", "read"),
    [
        ("ra1sins", "raisins", "raisins"),
        ("sme!ling", "smeiling", "smelling"),
        ("qua1ité", "quaiité", "qualité"),
        ("1n", "in", "in"),
        ("plain", "plain", "plain"),
    ],
)
def test_a_stroke_is_the_likelier_letter(token: str, word: str, read: str) -> None:
    assert read_strokes(token, word) == read


@pytest.mark.parametrize(
    ("letters", "one_case"), [("abc", True), ("ABC", True), ("Abc", True), ("aBc", False), ("ABc", False), ("X", True)]
)
def test_letters_of_one_case(letters: str, one_case: bool) -> None:
    assert is_one_case(list(letters)) is one_case
