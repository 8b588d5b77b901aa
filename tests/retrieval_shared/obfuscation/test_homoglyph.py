from __future__ import annotations

import pytest

from retrieval_shared.obfuscation.homoglyph import find_homoglyphs


def applied(text: str) -> str:
    letters = list(text)
    for edit in find_homoglyphs(text):
        assert edit.end == edit.start + 1
        assert edit.kind == "homoglyph"
        assert edit.disguise
        letters[edit.start] = edit.replacement
    return "".join(letters)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Dеsіgnеr rерlісаs", "Designer replicas"),  # Cyrillic а с е і о р
        ("РIN", "PIN"),
        ("Ηolland meets flοοd", "Holland meets flood"),  # Greek Η ο
        ("responsibӏe", "responsible"),  # the palochka
        ("gօld", "gold"),  # Armenian
        ("ɡaminɡ", "gaming"),  # the letter of phoneticians
        ("таbак sтorе", "tabak store"),  # к and т look like small capitals
        ("Cоли и Bодка", "Соли и Водка"),  # Latin letters in Russian words
        ("lоgо аnd ѕех", "logo and sex"),  # a word all in Cyrillic, beside mixed ones
    ],
)
def test_a_mixed_word_is_written_in_its_own_script(text: str, written: str) -> None:
    assert applied(text) == written


@pytest.mark.parametrize(
    "text",
    [
        "Москва 24 B2B", "ТВ и СССР", "СССР in English", "PDFа", "сервис в Telegramе", "IT-отдел", "Αθήνα", "Яndex",
        "IFNγ Cα NFκB αMSH kΩ TGFβ", "/ɡʊd/", "Tシャツ", "C罗", "A형", "naïve ßπ", "scharf",
    ],
)  # fmt: skip
def test_honest_words_stay(text: str) -> None:
    assert applied(text) == text


def test_a_pure_word_stays_where_the_text_has_honest_cyrillic() -> None:
    assert applied("сex в Москве: сор") == "cex в Москве: сор"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("cаsіnо апԁ more", "casino and more"),  # Cyrillic а п ԁ
        ("cаsіnо ат home", "casino at home"),
        ("cаsіnо οf gold", "casino of gold"),  # one Greek letter in a short word
        ("cаsіnо ιп town", "casino in town"),  # Greek and Cyrillic
        ("cаsіnо tһе dеsіgnеr α bag", "casino the designer a bag"),
        ("fօr αnd home", "for and home"),  # short mixed words alone, two of them
    ],
)
def test_known_words_are_read_where_letters_are_borrowed(text: str, written: str) -> None:
    assert applied(text) == written


@pytest.mark.parametrize("text", ["апԁ more", "οf gold", "fօr home", "ат home", "the α of it", "пот а сор"])
def test_known_words_are_not_read_in_a_plain_text(text: str) -> None:
    assert applied(text) == text
