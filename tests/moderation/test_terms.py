"""Finding terms: word boundaries by script, gaps, offsets, disguised terms, and equality with a search term by term."""

from __future__ import annotations

import doctest
import re
import unicodedata
from itertools import groupby, pairwise, starmap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation import terms as module
from moderation.terms import Occurrence, TermFinder, check_term, longest
from retrieval_shared.text import normalise

SCRIPTS = {
    "word": "abcéßİΣςσ1_\u0301श\u093e",
    "unspaced": "มวย\u0e31賭場カジ々ー",
    "hangul": "복권카",
    "other": " -!.\n\t’・฿\x01\x02",
}
KIND = {char: kind for kind, chars in SCRIPTS.items() for char in chars}
ALPHABET = "".join(SCRIPTS.values())
GAP = r"[^\S\n]*[-!.’・฿\x01\x02]?[^\S\n]*"
"""Between two words of a term; where both are of one kind it cannot be empty."""


def found(terms: list[str], text: str) -> list[tuple[str, str]]:
    return [(terms[term], text[start:end]) for start, end, term in TermFinder(terms).find(text)]


def naive(terms: list[str], text: str) -> list[Occurrence]:
    """Search term by term, place by place, with boundaries asked of the two characters at each."""
    fold = {"İ": "i", "Σ": "σ", "ς": "σ"}
    folded = "".join(fold.get(char, char.lower()) for char in text)
    places = set()
    for number, term in enumerate(terms):
        for form in (unicodedata.normalize("NFKC", term), normalise(term).canonical):
            letters = "".join(fold.get(char, char.lower()) for char in form)
            words = [(of, "".join(run)) for of, run in groupby(letters, kind) if of != "other"]
            pattern = re.compile(re.escape(words[0][1]) + "".join(starmap(after, pairwise(words))))
            for start in range(len(text)):
                match = pattern.match(folded, start)
                if match and begins(folded, start) and ends(folded, match.end()):
                    places.add(Occurrence(start, match.end(), number))
    return sorted(places)


def after(before: tuple[str, str], word: tuple[str, str]) -> str:
    """Return the pattern of a word that follows another, with what may stand between them."""
    return (rf"(?!\w){GAP}" if before[0] == word[0] else GAP) + re.escape(word[1])


def kind(char: str) -> str:
    return KIND.get(char) or ("word" if char.isalnum() else "other")


def begins(text: str, at: int) -> bool:
    before = kind(text[at - 1]) if at else "other"
    return kind(text[at]) == "unspaced" or kind(text[at]) != before


def ends(text: str, at: int) -> bool:
    return kind(text[at - 1]) != "word" or at == len(text) or kind(text[at]) != "word"


term_lists = st.lists(
    st.text(ALPHABET, min_size=1, max_size=5).filter(lambda term: any(kind(char) != "other" for char in term)),
    max_size=6,
)


@settings(deadline=None)  # the first example waits for tables that are made once
@given(term_lists, st.data())
def test_one_pass_finds_what_a_search_term_by_term_finds(terms: list[str], data: st.DataObject) -> None:
    pieces = st.sampled_from([*terms, *(term.upper() for term in terms), *ALPHABET, " "])
    text = data.draw(st.lists(pieces, max_size=12).map("".join))
    assert TermFinder(terms).find(text) == naive(terms, text)


@pytest.mark.parametrize(
    ("term", "text", "expected"),
    [
        ("wine", "swine wine2 wines wine_ _wine", []),
        ("wine", "Wine! (WINE)", ["Wine", "WINE"]),
        ("wine", "wine\u0301", []),
        ("wine", "ขายwineราคาถูก", ["wine"]),
        ("wine", "人気wine店", ["wine"]),
        ("wine", "wine을 판다", ["wine"]),
        ("av女優", "人気AV女優", ["AV女優"]),
        ("av女優", "xav女優", []),
        ("av女優", "AV 女優", ["AV 女優"]),
        ("av 女優", "AV女優", ["AV女優"]),
        ("カジノbar", "カジノbarista", []),
        ("カジノbar", "新カジノbar", ["カジノbar"]),
        ("wine shop", "wine-shop, wine  -\tshop", ["wine-shop", "wine  -\tshop"]),
        ("wine shop", "wine -- shop, wine\nshop, wine \r\n shop", []),
        ("wine shop", "winé shop, wineshop", []),
        ("온라인 카지노", "온라인-카지노에서", ["온라인-카지노"]),
        ("카지노", "새카지노 人카지노 new카지노", ["카지노", "카지노"]),
        ("スロット・マシン", "スロット マシン、スロットマシン", ["スロット マシン"]),
        ("शराब", "शराबी शराब।", ["शराब"]),
        ("καζίνος", "ΚΑΖΊΝΟΣ.GR, ΚΑΖΊΝΟΣ", ["ΚΑΖΊΝΟΣ", "ΚΑΖΊΝΟΣ"]),
        ("İçki", "içki İÇKI", ["içki", "İÇKI"]),
        (" !wine!! ", "wine", ["wine"]),
        ("ｗｉｎｅ", "wine", ["wine"]),
        ("wine", "🍷wine🍷", ["wine"]),
    ],
)
def test_where_a_word_begins_and_ends(term: str, text: str, expected: list[str]) -> None:
    assert [place for _, place in found([term], text)] == expected


@pytest.mark.parametrize("term", ["v1agra", "vi@gra", "VIAGRA", "viagra"])
def test_a_term_is_found_however_its_list_disguises_it(term: str) -> None:
    canonical = normalise("cheap v\u200bi@gra here").canonical
    assert found([term], canonical) == [(term, "viagra")]


def test_terms_that_overlap_are_all_found() -> None:
    assert TermFinder(["red wine", "wine", "wine bar", "wine"]).find("red wine bar") == [
        Occurrence(0, 8, 0), Occurrence(4, 8, 1), Occurrence(4, 8, 3), Occurrence(4, 12, 2),
    ]  # fmt: skip


def test_the_longest_of_those_that_begin_first_is_kept() -> None:
    places = [Occurrence(4, 12, 2), Occurrence(4, 8, 1), Occurrence(0, 8, 0), Occurrence(8, 12, 3)]
    assert longest(places) == [Occurrence(0, 8, 0), Occurrence(8, 12, 3)]
    assert longest([Occurrence(4, 8, 1), Occurrence(4, 12, 2)]) == [Occurrence(4, 12, 2)]
    assert longest([]) == []


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(1, 5)), max_size=9))
def test_what_is_kept_does_not_overlap_and_hides_all_that_is_left_out(drawn: list[tuple[int, int, int]]) -> None:
    places = [Occurrence(start, start + length, term) for term, start, length in drawn]
    kept = longest(places)
    assert all(before.end <= after.start for before, after in pairwise(kept))
    assert all(any(each.start < other.end and other.start < each.end for other in kept) for each in places)


def test_no_terms_find_nothing() -> None:
    assert TermFinder([]).find("wine") == []
    assert TermFinder(["wine"]).find("") == []


@pytest.mark.parametrize("term", ["", " ", "!!", "-\n", "฿", "🍷"])
def test_a_term_without_a_word_is_refused(term: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"term: found {term!r}, allowed text with a letter or a digit")):
        TermFinder(["wine", term])
    with pytest.raises(ValueError, match="allowed text with a letter or a digit"):
        check_term(term)


def test_a_gap_may_be_of_any_length() -> None:
    gap = " " * 200_000
    assert found(["wine shop"], f"wine{gap}-{gap}shop") == [("wine shop", f"wine{gap}-{gap}shop")]
    assert found(["wine shop"], f"wine{gap}--{gap}shop") == []


def test_the_examples_are_true() -> None:
    found = doctest.testmod(module)
    assert (found.failed, found.attempted) == (0, 2)
