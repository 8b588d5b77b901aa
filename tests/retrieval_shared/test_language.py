from __future__ import annotations

import pytest

from retrieval_shared.language import CANDIDATES, UNDETERMINED, Language, LanguageIdentifier, _model

IDENTIFIER = LanguageIdentifier(frozenset({"en", "de"}))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Fresh bread at your door every morning. Order now, first week free.", "en"),
        ("Frisches Brot jeden Morgen an Ihrer Tür. Jetzt bestellen, erste Woche gratis.", "de"),
        ("Du pain frais chaque matin devant votre porte. Commandez maintenant.", "fr"),
        ("Pan fresco cada mañana en tu puerta. Pide ahora, la primera semana gratis.", "es"),
        ("Свежий хлеб каждое утро у вашей двери. Закажите сейчас.", "ru"),
        ("خبز طازج كل صباح عند بابك. اطلب الآن.", "ar"),
        ("हर सुबह आपके दरवाज़े पर ताज़ी रोटी। अभी ऑर्डर करें।", "hi"),
        ("毎朝焼きたてのパンをお届け。", "ja"),
        ("每天早上新鲜面包送到家。立即订购。", "zh"),
        ("매일 아침 신선한 빵을 문앞까지.", "ko"),
        ("ขนมปังสดทุกเช้า", "th"),
    ],
)
def test_the_language_of_an_ad(text: str, code: str) -> None:
    found = IDENTIFIER.identify(text)
    assert found.code == code
    assert 0 < found.confidence <= 1
    assert found.supported is (code in {"en", "de"})


@pytest.mark.parametrize("text", ["", " ", "1234 !?", "🔥🔥", "a", "\ud800", "\0"])
def test_without_letters_the_language_is_undetermined(text: str) -> None:
    assert IDENTIFIER.identify(text) == Language(UNDETERMINED, 0.0, supported=False)


def test_links_and_handles_do_not_count() -> None:
    assert IDENTIFIER.identify("https://www.example.com/the/best/shop 毎朝焼きたて @somebody #hashtag").code == "ja"
    assert IDENTIFIER.identify("https://example.com/shop").code in CANDIDATES


@pytest.mark.parametrize("text", ["buy now \ud83d", "x" * 100_000, "\u202eabc def", "ab"])
def test_any_text_gets_a_confidence_in_range(text: str) -> None:
    assert 0 <= IDENTIFIER.identify(text).confidence <= 1


def test_a_language_that_cannot_be_told_is_refused() -> None:
    with pytest.raises(ValueError, match=r"found \['xx'\]"):
        LanguageIdentifier(frozenset({"en", "xx"}))


def test_the_table_of_other_languages_is_not_kept() -> None:
    model = _model()
    assert set(model.labels) == CANDIDATES
    whole, *_ = model._full_model
    assert whole is model.nb_ptc
