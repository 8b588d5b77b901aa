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


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("\u0184est \u0185ank", "best bank"),  # tone six
        ("гefeгeпԁυm of Gοlԁеп", "referendum of Golden"),  # names are in no vocabulary
        ("tents and sheds at kеꜱтгαпҽ αnԁ Rαпԁьսгg", "tents and sheds at kestrane and Randburg"),
        ("muпiсipal ԁеαl fгοm 8рм, 200к", "municipal deal from 8pm, 200k"),  # after digits
        ("they won'τ gο тο Gοlԁеп or Pагiѕ", "they won't go to Golden or Paris"),
        ("Ӏamp аnԁ \u04c0eicester ԁеαl", "Lamp and Leicester deal"),  # a capital palochka
        ("Νiewer and Νashville, ԁеαl fгοm υs", "Viewer and Nashville, deal from us"),
    ],
)
def test_rough_likeness_is_read_where_letters_are_borrowed(text: str, written: str) -> None:
    assert applied(text) == written


@pytest.mark.parametrize(
    "text",
    [
        "muпiсipal and no other", "Привет, muпiсipal and welcome home", "от 200к до 90 км, iPhone", "π and η, 8рм",
        "IFNγ ATPβ TGFβ, kΩ and 5 μm of αMSH", "PDFы и Telegramе, Instagramе", "/θɪŋk/ and /ʃɪp/ in English",
        "cosα + sinβ = tanω",
    ],
)  # fmt: skip
def test_rough_likeness_alone_is_no_disguise(text: str) -> None:
    assert applied(text) == text


def test_many_honest_words_keep_a_mixed_one_from_being_read_roughly() -> None:
    text = "This text has some Latin words. гefeгeпdum пumbeг "
    assert applied(text + "Жизнь") == "This text has some Latin words. referendum number Жизнь"
    assert applied(text + "Жизнь Люди Цена") == text + "Жизнь Люди Цена"


def test_a_word_of_many_open_letters_is_read_once() -> None:
    assert applied("cаsіnо " + "Ӏа" * 5000).startswith("casino ")
