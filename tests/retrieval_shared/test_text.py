from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_shared.text import TRANSFORMS, FieldSpan, join_fields, normalise

PLAIN = [
    "",
    " ",
    "Cheap flights to Rome, 24/7, from $50. Call J. R. R. Tolkien in the U.S.A. at 9 a.m.!",
    "4K, 5G, B2B, MP3, iPhone15, COVID19, H2O, 100mg, 24/7, $50, C++, x2=4, PS5, Q3, 3D, 1st, 90s",
    "Write to b0b@m4il.com or see https://sh0p.example/v1agra?x=1 and c0ol.com",
    "commit 9fceb02d0ae598e95dc970b74767f19372d61af8, colour #c0ff33, flight LH4711, WH-1000XM4",
    "A B C D and a b c are lists",
    "The Σ of α and β, λ → ∞, IFNγ and Cα, kΩ, 10 μm, Δx",
    "Москва 24 B2B, PDFа и SMSка, IT-отдел, сервис в Telegramе",
    "Αθήνα, Ελλάδα",
    "東京でTシャツ、カラオケ。衣・食・住",
    "السعر 50 ريال فقط، اتصل الآن 0501234567",
    "👨‍👩‍👧‍👦 🏳️‍🌈 ❤️‍🔥 👍🏽 🏴󠁧󠁢󠁥󠁮󠁧󠁿 1️⃣ 🇩🇪",
    "क्‍ष और र्‍य, न्‌",
    "می‌خواهم کتاب‌ها",
    "വന്‍",
    "½ price, 1½ hours, x² + y² = z², H₂O, don´t",
    "ㅋㅋㅋ 안녕하세요 ㅠㅠ",
    "Straße, Łódź, Ærø, İstanbul, naïve",
    "me@home, wow!this, just4fun, US$50, 50€off, C-3-P",
]

HOSTILE = st.sampled_from(
    [
        *"abAZ013457@$€!|+._-~* \n",
        "v1agra",
        "c@sino",
        "\u200b",
        "\u200c",
        "\u200d",
        "\u202e",
        "а",
        "Б",
        "ο",
        "ς",
        "ｖ",
        "𝐚",
    ]
    + [
        "ᴠ",
        "\u0301",
        "\u0323",
        "é",
        "ﬁ",
        "½",
        "²",
        "´",
        "™",
        "\ufe0f",
        "👨",
        "한",
        "\u1161",
        "ㅏ",
        "ㅁ",
        "क",
        "्",
        "می",
        "ß",
    ]
    + [
        "\ud800",
        "\0",
        "\x92",
        "Ⓥ",
        "🅰",
        "ﾞ",
        "ｶ",
        "K",
        "ﷺ",
        "\U000e0061",
        "🏴",
        "İ",
        "ı",
        "ǆ",
        "ŀ",
        "Ŀ",
        "\xad",
        "\u2800",
    ]
)
ANY_TEXT = st.one_of(st.text(st.characters(), max_size=50), st.lists(HOSTILE, max_size=25).map("".join))


@pytest.mark.parametrize("text", PLAIN)
def test_honest_text_is_left_as_it_is(text: str) -> None:
    found = normalise(text)
    assert found.canonical == text
    assert found.obfuscation.score == 0
    assert found.obfuscation.transforms == ()


@given(
    st.text(st.sampled_from("abcdefgh ,.?'\n"), max_size=200).map(
        # Full stops end words: within one they pull it apart (cen.su.ra), and closing it up is right.
        lambda text: " ".join(word.replace(".", "") + "st" + "." * ("." in word) for word in text.split())
    )
)
def test_ascii_prose_is_left_as_it_is(text: str) -> None:
    assert normalise(text).canonical == text


@pytest.mark.parametrize(
    ("text", "canonical", "transforms"),
    [
        ("ＳＡＬＥ", "SALE", ("compatibility",)),
        ("10 ㎏, ﬁne… №", "10 kg, fine... No", ("compatibility",)),
        ("全角，句読点", "全角,句読点", ("compatibility",)),
        ("e\u0301te\u0301", "été", ()),
    ],
)
def test_compatibility_forms_are_folded(text: str, canonical: str, transforms: tuple[str, ...]) -> None:
    found = normalise(text)
    assert (found.canonical, found.obfuscation.transforms) == (canonical, transforms)


@pytest.mark.parametrize(
    ("before", "disguised", "word", "after", "transform"),
    [
        ("buy ", "v1agra", "viagra", " now", "leet"),
        ("the ", "c@sino", "casino", ".", "leet"),
        ("", "via\u200bg\u2060ra", "viagra", "", "zero_width"),
        ("x ", "ca\u202esino", "casino", " y", "bidi"),
        ("a ", "cаsіnо", "casino", " b", "homoglyph"),
        ("sell ", "V A P E S", "VAPES", "!", "spaced"),
        ("rolling ", "t.o.b.a.c.c.o", "tobacco", " here", "spaced"),
        ("place a ", "b-e-t", "bet", " today", "spaced"),
        ("go ", "ｃａｓｉｎｏ", "casino", " go", "compatibility"),
        ("go ", "𝐌𝐈𝐘𝐀", "MIYA", " go", "compatibility"),
    ],
)
def test_a_disguise_is_undone_and_evidence_points_at_it(
    before: str, disguised: str, word: str, after: str, transform: str
) -> None:
    found = normalise(before + disguised + after)
    assert found.canonical == before + word + after
    at = len(before)
    assert found.original_span(at, at + len(word)) == (at, at + len(disguised))
    assert found.obfuscation.transforms == (transform,)
    assert found.obfuscation.score > 0


def test_stacked_disguises_are_undone_together() -> None:
    found = normalise("ｖ １ \u200ba g r @")  # full-width, zero-width, spaced and leet
    assert found.canonical == "viagra"
    assert found.original_span(0, 6) == (0, len(found.original))
    assert found.obfuscation.score == 1
    assert set(found.obfuscation.transforms) == {"zero_width", "leet", "spaced", "compatibility"}


@pytest.mark.parametrize(
    ("text", "canonical", "word", "written"),
    [
        ("ch34p v1agra 4nd c4s1no", "cheap viagra and casino", "and", "4nd"),
        ("Dеsіgnеr bags апԁ more", "Designer bags and more", "and", "апԁ"),
        ("v_i_a_g_r_a a-n-d more", "viagra and more", "and", "a-n-d"),
        ("we h  a  v  e a  n  d more", "we have and more", "and", "a  n  d"),
    ],
)
def test_a_known_word_points_at_where_it_was_written(text: str, canonical: str, word: str, written: str) -> None:
    found = normalise(text)
    assert found.canonical == canonical
    at = canonical.index(word)
    start, end = found.original_span(at, at + len(word))
    assert (text[start:end], normalise(canonical).canonical) == (written, canonical)


def test_score_is_twice_the_share_of_disguised_letters() -> None:
    assert normalise("v1agra " + "plain " * 4 + "word").obfuscation.score == pytest.approx(2 * 6 / 30)
    assert normalise("v1agra plain").obfuscation.score == 1


def test_removed_characters_at_the_edge_belong_to_no_word() -> None:
    found = normalise("\u200bcasino\u200b bar")
    assert found.canonical == "casino bar"
    assert found.original_span(0, 6) == (1, 7)
    assert found.obfuscation == normalise("\ufeffcasino bar").obfuscation
    assert found.obfuscation.score == 0


@settings(deadline=None)
@given(ANY_TEXT)
def test_alignment_is_monotone_in_range_and_total(text: str) -> None:
    found = normalise(text)
    assert len(found.starts) == len(found.ends) == len(found.canonical)
    assert list(found.starts) == sorted(found.starts)
    assert list(found.ends) == sorted(found.ends)
    assert all(0 <= start < end <= len(text) for start, end in zip(found.starts, found.ends, strict=True))
    assert 0 <= found.obfuscation.score <= 1
    assert set(found.obfuscation.transforms) <= set(TRANSFORMS)
    found.canonical.encode()


@settings(deadline=None)
@given(ANY_TEXT)
def test_canonical_of_canonical_is_canonical(text: str) -> None:
    canonical = normalise(text).canonical
    assert normalise(canonical).canonical == canonical


@settings(deadline=None)
@given(ANY_TEXT, st.data())
def test_a_span_covers_the_source_of_each_of_its_characters(text: str, data: st.DataObject) -> None:
    found = normalise(text)
    end = data.draw(st.integers(0, len(found.canonical)))
    start = data.draw(st.integers(0, end))
    low, high = found.original_span(start, end)
    assert 0 <= low <= high <= len(text)
    assert all(low <= found.starts[at] and found.ends[at] <= high for at in range(start, end))


@pytest.mark.parametrize("span", [(-1, 0), (2, 1), (0, 4)])
def test_a_span_outside_the_text_is_refused(span: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="0 <= start <= end <= 3, found"):
        normalise("abc").original_span(*span)


@pytest.mark.parametrize(
    "unit",
    ["a", "1", " ", "a ", "a.", "a\u200b", "\u0301\u0323", "a\u0301", "\ufe0f", "👨\u200d", "v1agra ", "b!a", "a@", "$"]
    + ["аb", "\u1161", "𝐀", "\ud800", "\0a", "\u202ea", "ab.", "\U000e0061", "ﷺ"],
)
def test_floods_are_survived(unit: str) -> None:
    text = "x" + unit * (20_000 // len(unit))
    found = normalise(text)
    assert len(found.starts) == len(found.canonical)


def test_a_megabyte_is_taken() -> None:
    prose = "Fresh bread at your door, " * (2**20 // 26)
    assert normalise(prose + "v1agra").canonical == prose + "viagra"


def test_lone_surrogates_become_replacement_characters() -> None:
    assert normalise("a\ud83d b").canonical == "a\ufffd b"


def test_fields_are_joined_in_reading_order() -> None:
    joined = join_fields({"zeta": "z", "text": "t", "body": "bb", "alpha": "", "title": "T"})
    assert joined.text == "T\nbb\nt\n\nz"
    assert joined.fields == (
        FieldSpan("title", 0, 1),
        FieldSpan("body", 2, 4),
        FieldSpan("text", 5, 6),
        FieldSpan("alpha", 7, 7),
        FieldSpan("zeta", 8, 9),
    )
    assert all(joined.text[field.start : field.end] in {"z", "t", "bb", "", "T"} for field in joined.fields)


@pytest.mark.parametrize(
    ("span", "located"),
    [
        ((0, 5), ("title", 0, 5)),
        ((6, 8), ("body", 0, 2)),
        ((3, 12), ("body", 0, 6)),
        ((0, 7), ("title", 0, 5)),
        ((5, 6), ("title", 5, 5)),
        ((12, 12), ("body", 6, 6)),
    ],
)
def test_a_span_is_located_in_its_field(span: tuple[int, int], located: tuple[str, int, int]) -> None:
    assert join_fields({"body": "second", "title": "first"}).locate(*span) == located


def test_locating_outside_the_text_is_refused() -> None:
    with pytest.raises(ValueError, match="found start=0, end=9"):
        join_fields({"title": "short"}).locate(0, 9)
    with pytest.raises(ValueError, match=r"fields=\[\]"):
        join_fields({}).locate(0, 0)
