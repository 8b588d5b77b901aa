"""The profanity list: scores by hand, languages kept apart, and the shipped file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from moderation.profanity import EVERY_LANGUAGE, PROFANITY, WEIGHTS, Profanity
from retrieval_shared.text import normalise

ROWS = [
    ("strong", "merde", "fr"),
    ("mild", "con", "fr"),
    ("mild", "coño", "es"),
    ("strong", "fuck", "mul"),
    ("strong", "操你妈", "zh"),
]


@pytest.fixture(scope="module")
def small() -> Profanity:
    return Profanity.of(ROWS)


@pytest.fixture(scope="module")
def shipped() -> Profanity:
    return Profanity.load()


def rows() -> list[list[str]]:
    """The lines of the shipped list: strength, term, languages."""
    return [line.split("\t") for line in PROFANITY.read_text(encoding="utf-8").splitlines() if line[0] != "#"]


@pytest.mark.parametrize(
    ("text", "languages", "score"),
    [
        ("", ["fr"], 0.0),
        ("bonjour", ["fr"], 0.0),
        ("Merde!", ["fr"], 0.8),
        ("quel con", ["fr"], 0.4),
        ("con, con, con", ["fr"], 0.4),
        ("merde, con", ["fr"], 1 - 0.2 * 0.6),
        ("merde, fuck, con", ["fr"], 1 - 0.2 * 0.2 * 0.6),
        ("pan con queso", ["es"], 0.0),
        ("pan con queso", ["es", "fr"], 0.4),
        ("fuck", ["es"], 0.8),
        ("fuck", [], 0.0),
        ("fuck", ["und"], 0.0),
        ("contenu, démerdé", ["fr"], 0.0),
        ("我操你妈的", ["zh"], 0.8),
    ],
)
def test_scores_by_hand(small: Profanity, text: str, languages: list[str], score: float) -> None:
    found = small.score(text, languages)
    assert isinstance(found, float)
    assert found == pytest.approx(score)


def test_languages_are_those_with_terms_of_their_own(small: Profanity) -> None:
    assert small.languages == {"fr", "es", "zh"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("awful\tmerde\tfr", "found strength"),
        ("strong\tmerde", "line 2"),
        ("mild\tcon\tfr", "listed twice"),
    ],
)
def test_a_file_that_is_no_list(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "profanity.tsv"
    path.write_text(f"mild\tcon\tfr\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        Profanity.load(path)


def test_the_shipped_list_knows_perspectives_languages(shipped: Profanity) -> None:
    assert shipped.languages >= {"de", "en", "es", "fr", "it", "pt", "ru"}
    own = Counter(code for _, _, codes in rows() for code in codes.split(",") if code != EVERY_LANGUAGE)
    assert set(own) == shipped.languages
    assert min(own.values()) >= 20


def test_every_shipped_term_is_found_in_a_canonical_text(shipped: Profanity) -> None:
    """`normalise` must not change a term into something that is not looked for."""
    lost = [
        (term, code)
        for strength, term, codes in rows()
        for code in codes.replace(EVERY_LANGUAGE, "en").split(",")
        if shipped.score(normalise(term).canonical, [code]) < WEIGHTS[strength]
    ]
    assert not lost
    assert rows() == sorted(rows())


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What the f\u200buck is this sh1t", "en"),
        ("So eine Scheiße", "de"),
        ("Vete a la mierda, gilipollas", "es"),
        ("Putain, quel connard", "fr"),
        ("Che cazzo vuoi, stronzo", "it"),
        ("Vai se foder, caralho", "pt"),
        ("Пошёл на хуй", "ru"),
        ("तू चूतिया है", "hi"),
        ("开什么玩笑，操你妈", "zh"),
        ("이 개새끼야", "ko"),
    ],
)
def test_swearing_is_found(shipped: Profanity, text: str, language: str) -> None:
    assert shipped.score(normalise(text).canonical, [language]) >= 0.8


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("A classic analysis of the Essex cockpit and its assets", "en"),
        ("The lesbian, gay, Jewish and African students discussed sexual health", "en"),
        ("Die Vögel sehen die Vögeln im dicken Nebel", "de"),
        ("Pan con tomate y un kilómetro más", "es"),
        ("Le contenu du concours, la pédale du vélo", "fr"),
        ("Il finocchio, la sega e lo stronzio", "it"),
        ("A rapariga come um frango com pau de canela", "pt"),
        ("Психуя, он страхует машину", "ru"),
        ("手机八折，今日你好，体操比赛，他妈妈", "zh"),
        ("아직 보지 않았고 자지 않았다", "ko"),
        ("هیچ کس نیامد", "fa"),
        ("Slutet på filmen", "sv"),
    ],
)
def test_innocent_words_are_not(shipped: Profanity, text: str, language: str) -> None:
    assert shipped.score(normalise(text).canonical, [language]) == 0
