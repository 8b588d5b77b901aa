from __future__ import annotations

import pytest

from retrieval_shared.obfuscation.leet import find_leet


def applied(text: str) -> str:
    letters = list(text)
    for edit in find_leet(text):
        assert edit.end == edit.start + 1
        letters[edit.start] = edit.replacement
    return "".join(letters)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("v1agra", "viagra"),
        ("b3t", "bet"),
        ("c@sino", "casino"),
        ("tr4m4d0l", "tramadol"),
        ("0xyc0d0n3", "oxycodone"),
        ("0rder", "order"),
        ("Ha$ch", "Hasch"),
        ("pu$$y", "pussy"),
        ("gez€ik", "gezeik"),
        ("b00bs", "boobs"),
        ("v!agra", "viagra"),
        ("V3RIFY", "VERIFY"),
        ("G4C0R", "GACOR"),
        ("c0ca1ne", "cocaine"),
        ("c1ass", "class"),
        ("he1p", "help"),
        ("tab1e", "table"),
        ("qual1té", "qualité"),
        ("б0ту", "боту"),
        ("ш1шк1", "шишки"),
        ("जु₹माना", "जुरमाना"),
        ("h0t2024", "hot2024"),
    ],
)
def test_leet_is_read(text: str, read: str) -> None:
    assert applied(text) == read


@pytest.mark.parametrize(
    "text",
    [
        "4K 5G B2B MP3 iPhone15 COVID19 H2O 100mg 24/7 $50 C++ x2=4 PS5 GPT4 R2D2 C3PO A4 Q3 W3C H1N1 html5 mp3player",
        "1st 2nd 3rd 4th 90s 7pm 10x 3D 18yo 50€ US$ A$50 5kg 3bhk 7days the4th skips1min WC1N3XX TOTO4D",
        "9fceb02d0ae598e95dc970b74767f19372d61af8 #c0ff33 0xdeadbeef LH4711 RTX4090Ti 7cfca1a \\ud83d",
        "b0b@m4il.com https://v1agra.c0m www.c0ol.net/p4ge voda.it/vg1kz1 ?u=h0t1e",
        "@us3r d@user me@home lunch@noon wow!this great!thanks just4fun kids4life 4ever m4w",
        "money$$$ $TSLA 10x20mg 4x4 50/50 100% n0 T0",
        "東京5Gプラン", "ف0دكا",
    ],
)  # fmt: skip
def test_codes_measures_and_addresses_stay(text: str) -> None:
    assert applied(text) == text


def test_doubtful_words_are_read_among_undoubted_ones_only() -> None:
    assert applied("n0 pag0 $kin") == "n0 pag0 $kin"
    assert applied("sh33p kn0w n0 pag0 $kin, 50mg 4K 3rd 7days") == "sheep know no pago skin, 50mg 4K 3rd 7days"


def test_a_token_too_long_for_a_word_stays() -> None:
    assert applied("v1agra" * 20) == "v1agra" * 20


def test_a_capital_that_has_two_small_letters_keeps_the_length() -> None:
    assert applied("k\u01301s c1ass") == "k\u01301s class"
