"""The rule signal: word boundaries, scripts without spaces, offsets, overlaps, and the shipped lexicon."""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.rules import LEXICON, RuleMatch, RuleSignal
from retrieval_shared.text import normalise

TERMS = {
    "wine": "alcohol_tobacco",
    "wine shop": "alcohol_tobacco",
    "slot machine": "gambling",
    "jeux d'argent": "gambling",
    "賭場": "gambling",
    "賭場厅": "gambling",
    "복권": "gambling",
    "카지노": "gambling",
    "มวย": "gambling",
    "शराब": "alcohol_tobacco",
    "İçki dükkanı": "alcohol_tobacco",
}


@pytest.fixture(scope="module")
def signal() -> RuleSignal:
    return RuleSignal.of(TERMS)


@pytest.fixture(scope="module")
def shipped() -> RuleSignal:
    return RuleSignal.load()


def found(signal: RuleSignal, text: str) -> list[str]:
    return [text[match.start : match.end] for match in signal.find(text)]


def test_a_match_has_head_term_and_offsets(signal: RuleSignal) -> None:
    assert signal.find("Fine Wine.") == (RuleMatch("alcohol_tobacco", "wine", 5, 9),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n ", []),
        ("swine flu, winery, wine2, wines", []),
        ("WINE,wine;(wine)", ["WINE", "wine", "wine"]),
        ("a wine shop", ["wine shop"]),
        ("a wine-shop", ["wine-shop"]),
        ("wine, shop and wine  shop", ["wine, shop", "wine  shop"]),
        ("wine -- shop", ["wine"]),
        ("wine\nshop", ["wine"]),
        ("wine wine shop", ["wine", "wine shop"]),
        ("slot", []),
        ("slot car machine", []),
        ("Jeux d’argent, jeux d'argent", ["Jeux d’argent", "jeux d'argent"]),
        ("新竹賭場開幕", ["賭場"]),
        ("賭場厅", ["賭場厅"]),
        ("카지노에서", ["카지노"]),
        ("행복권, 복권", ["복권"]),
        ("새카지노", []),
        ("new카지노", ["카지노"]),
        ("ดูมวยสด", ["มวย"]),
        ("शराब की दुकान", ["शराब"]),
        ("शराबी", []),
        ("içki dükkanı, İÇKI DÜKKANI", ["içki dükkanı"]),
        ("İçki dükkanı", ["İçki dükkanı"]),
        ("🍷wine🍷", ["wine"]),
        ("wine\u0301", []),
        ("wine\u0301 wine", ["wine"]),
        ("人気wine店", ["wine"]),
        ("wineを飲む", ["wine"]),
    ],
)
def test_where_terms_are_found(signal: RuleSignal, text: str, expected: list[str]) -> None:
    assert found(signal, text) == expected


def test_a_lexicon_match_is_evidence_of_the_lexicon_and_nothing_more(signal: RuleSignal) -> None:
    (match,) = signal.find("wine")
    assert (match.rule, match.effect, match.mode) == ("lexicon", "evidence", "active")


def test_a_disguised_term_is_found_in_canonical_text(signal: RuleSignal) -> None:
    sent = "w1ne, w\u0456ne, w\u200bine shop, W I N E"
    assert found(signal, normalise(sent).canonical) == ["wine", "wine", "wine shop", "WINE"]


def test_the_languages_of_a_lexicon_are_for_its_readers_alone(tmp_path: Path) -> None:
    path = tmp_path / "terms.tsv"
    path.write_text("gambling\tkasino\tde,en-AU\ngambling\tlotto\t\n", encoding="utf-8")
    assert [match.term for match in RuleSignal.load(path).find("kasino lotto")] == ["kasino", "lotto"]


def test_a_term_without_a_word_is_refused() -> None:
    with pytest.raises(ValueError, match="term: found '!!', allowed text with a letter or a digit"):
        RuleSignal.of({"wine": "alcohol_tobacco", "!!": "scam"})


def test_the_capital_dotted_i_is_the_only_letter_that_grows_in_lower_case() -> None:
    assert [chr(code) for code in range(sys.maxunicode + 1) if len(chr(code).lower()) != 1] == ["İ"]


@given(st.lists(st.sampled_from([*TERMS, " ", "\n", "x", "İ", "!", "ß", "\u0301"]), max_size=12).map("".join))
def test_matches_are_in_order_inside_the_text_and_do_not_overlap(text: str) -> None:
    matches = RuleSignal.of(TERMS).find(text)
    assert all(0 <= match.start < match.end <= len(text) for match in matches)
    assert all(match.term in TERMS for match in matches)
    for before, after in zip(matches[:-1], matches[1:], strict=True):
        assert before.end <= after.start


def test_an_empty_lexicon_finds_nothing() -> None:
    assert RuleSignal.of({}).find("wine 賭場") == ()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("gambling\tcasino", "line 2: found"),
        ("gambling\t\ten", "line 2: found"),
        ("\tcasino\ten", "line 2: found"),
        ("gambling\t!!\ten", "line 2: found"),
        ("gambling\tcasino\ten\ngambling\tcasino\tde", "line 3: term 'casino' is listed twice"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "terms.tsv"
    path.write_text(f"# a comment\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"terms\.tsv {message}"):
        RuleSignal.load(path)


def test_the_shipped_lexicon_is_small_credited_and_of_six_heads(shipped: RuleSignal) -> None:
    text = LEXICON.read_text(encoding="utf-8")
    assert LEXICON.stat().st_size <= 250_000
    assert "ISC licence" in text
    assert "iD Contributors" in text
    assert shipped.heads == ("alcohol_tobacco", "drugs", "gambling", "political", "sexual", "weapons")


def test_every_shipped_term_finds_itself(shipped: RuleSignal) -> None:
    rows = [line.split("\t") for line in LEXICON.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert len(rows) > 1_000
    for head, term, _ in rows:
        assert unicodedata.is_normalized("NFKC", term), term
        assert [(match.head, match.start, match.end) for match in shipped.find(term)] == [(head, 0, len(term))], term


@pytest.mark.parametrize(
    "text",
    [
        "A big pot on the stove, fresh herbs and a sharp kitchen knife",
        "Book one of the appointment slots in our office",
        "City trip to Paris: hotel, cabaret, coffee shop tour",
        "MAC 맥도날드, 기술 상담, 행복권",
        "お店でスポーツ用品とゲームを",
        "以下注意事項，酒店住宿",
    ],
)
def test_everyday_words_are_not_in_the_shipped_lexicon(shipped: RuleSignal, text: str) -> None:
    assert shipped.find(text) == ()
