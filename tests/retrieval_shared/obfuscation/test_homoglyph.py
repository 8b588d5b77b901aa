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
