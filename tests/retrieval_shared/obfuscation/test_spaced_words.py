from __future__ import annotations

import pytest

from retrieval_shared.obfuscation.spaced import find_spaced
from retrieval_shared.obfuscation.spaced_words import split_run


def applied(text: str) -> str:
    for edit in reversed(find_spaced(text)):
        text = text[: edit.start] + edit.replacement + text[edit.end :]
    return text


@pytest.mark.parametrize(
    ("letters", "gaps", "begins"),
    [
        ("forhave", [1, 1, 2, 2, 2, 2], [0, 3]),
        ("havefor", [2, 2, 2, 2, 1, 1], [0, 4]),
        ("haveahouse", [2, 2, 2, 1, 1, 2, 2, 2, 2], [0, 4, 5]),
        ("", [], []),
        ("x", [], [0]),
    ],
)
def test_a_run_is_split_where_words_are(letters: str, gaps: list[int], begins: list[int]) -> None:
    assert split_run(letters, gaps) == begins


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("t-h-e y_o_u t*h*e a~n~d t.h.e o-f", "the you the and the of"),
        ("moved o  u  t now", "moved out now"),
        ("this a n d that", "this and that"),
        ("we h  a  v  e a  n  d", "we have and"),
        ("it is  h o u s e .", "it is  house."),
    ],
)
def test_short_words_are_joined_beside_an_undoubted_one(text: str, joined: str) -> None:
    assert applied("v_i_a_g_r_a " + text) == "viagra " + joined


@pytest.mark.parametrize(
    "text", ["A B C", "U.S.", "a.m", "V.I.P.", "J. R. R. Tolkien", "I a m", "x-y", "1-2-3", "T-H-Q"]
)
def test_what_is_no_word_stays_beside_an_undoubted_one(text: str) -> None:
    assert applied("v_i_a_g_r_a " + text) == "viagra " + text


@pytest.mark.parametrize("text", ["t-h-e", "o  u  t", "a n d", "o-f", "t*h*e"])
def test_short_words_stay_in_a_plain_text(text: str) -> None:
    assert applied(text) == text
