from __future__ import annotations

import pytest

from retrieval_shared.obfuscation.spaced import find_spaced


def applied(text: str) -> str:
    for edit in reversed(find_spaced(text)):
        text = text[: edit.start] + edit.replacement + text[edit.end :]
    return text


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("V A P E S & C I G S", "VAPES & CIGS"),
        ("E l f - s i z e d  d i s p o s a b l e s, 2 0 0", "Elf-sized disposables, 2 0 0"),
        ("b u y  n o w", "buy now"),
        ("r  u  l  e  t", "rulet"),
        ("get a V A P E", "get a VAPE"),
        ("c 4 s 1 n o", "c4s1no"),
        ("К л а д ы", "Клады"),
        ("や さ い 1g", "やさい 1g"),
        ("t.o.b.a.c.c.o.", "tobacco."),
        ("live s.e.x chat", "live sex chat"),
        ("м.е.ф", "меф"),
        ("b-e-t", "bet"),
        ("v_i_a_g_r_a", "viagra"),
        ("c..a..s..i..n..o", "casino"),
        ("R.é.p.l.i.q.u.e.s", "Répliques"),
        ("바⭐카⭐라", "바카라"),
        ("و.ي.س.ك.ي", "ويسكي"),
        ("sin cen.su.ra", "sin censura"),
        ("re\u0301-e-l-s", "re\u0301-e-l-s"),  # not single letters: "re"
    ],
)
def test_letters_pulled_apart_are_joined(text: str, joined: str) -> None:
    assert applied(text) == joined


@pytest.mark.parametrize(
    "text",
    [
        "A B C", "A B C D E", "vitamins A D E K", "J. R. R. Tolkien", "J.R.R. Tolkien", "U.S.A.", "U.S.S.R. N.A.S.A",
        "e.g. i.e. a.k.a. p.m.", "a.s.a.p.", "I a m", "x y", "x x x x", "1 2 3 4", "a/b/c/d", "a,b,c,d", "b+e+t",
        "q=w=e", "oh.my.god", "www.bbc.co.uk", "ha.ha.ha", "Go.To.It", "node.js.org", "衣・食・住", "나 너 안 본 지",
        "में से दो को", "F, U, C a K a", "M T W T F S S", "one-on-one", "3.1.4.1", "a.b", "127.0.0.1", "C-3-P", "بي.بي.سي",
    ],
)  # fmt: skip
def test_lists_initials_and_short_words_stay(text: str) -> None:
    assert applied(text) == text


def test_letters_that_grow_in_lower_case_are_taken() -> None:
    assert applied("L·L·İ") == "LLİ"


def test_a_word_break_between_joined_words_is_no_disguise() -> None:
    edits = find_spaced("b u y  n o w")
    assert [edit.replacement for edit in edits if not edit.disguise] == [" "]
    assert all(edit.kind == "spaced" for edit in edits if edit.disguise)
