from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_shared.obfuscation.compatibility import find_compatible, find_styled
from retrieval_shared.obfuscation.edit import Edit


def applied(text: str, edits: list[Edit]) -> str:
    for edit in reversed(edits):
        text = text[: edit.start] + edit.replacement + text[edit.end :]
    return text


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("ｃａｓｉｎｏ", "casino"),
        ("𝓬𝓪𝓼𝓲𝓷𝓸", "casino"),
        ("ⓒⓐⓢⓘⓝⓞ", "casino"),
        ("⒞⒜⒮⒤⒩⒪", "casino"),
        ("🅿🅸🅰🅽🅾", "piano"),
        ("ᴄᴀsɪɴᴏ", "casino"),
        ("ᶜᵃˢⁱⁿᵒ", "casino"),
        ("A𝘌𝘙𝘖𝘓", "AEROL"),
    ],
)
def test_styled_words_are_undressed_letter_by_letter(text: str, plain: str) -> None:
    edits = find_styled(text)
    assert applied(text, edits) == plain
    assert all(edit.disguise and edit.end - edit.start == 1 for edit in edits)


@pytest.mark.parametrize("text", ["𝑓(𝑥) ∈ ℝ", "🅰 or 🅱", "ＴＥＬは東京", "/bɪg ʀʊʟᴇ/", "1ˢᵗ", "plain", "Ⓜ️"])
def test_a_few_styled_letters_are_no_disguise(text: str) -> None:
    assert find_styled(text) == []


# Whatever is not kept on purpose must come out as Unicode's own NFKC says, wherever the marks are.
KEPT = "".join(
    chr(point)
    for point in range(0x3000)
    if unicodedata.decomposition(chr(point)).startswith(("<super>", "<sub>", "<fraction>", "<compat> 0020", "00A8"))
)


@given(
    st.text(
        st.one_of(
            st.characters(max_codepoint=0x2FFF, exclude_characters=KEPT),
            st.sampled_from("한\u1100\u1161\u11a8ｶﾞﬁ①がか\u3099"),
        )
    )
)
def test_folding_agrees_with_nfkc(text: str) -> None:
    assert applied(text, find_compatible(text)) == unicodedata.normalize("NFKC", text)


@pytest.mark.parametrize("text", ["10²", "H₂O", "1½", "don´t", "¨", "ㅋㅋㅋ", "ㅠ.ㅠ"])
def test_folding_that_would_change_the_meaning_is_left(text: str) -> None:
    assert find_compatible(text) == []


@pytest.mark.parametrize(
    ("text", "edit"),
    [
        ("a\u0301b", Edit(0, 2, "á")),
        ("xﬁ", Edit(1, 2, "fi", "compatibility")),
        ("\u1112\u1161\u11ab", Edit(0, 3, "한")),
        ("꽁ㅁㅓ", Edit(1, 3, "머", "compatibility")),
        ("™\ufe0f", Edit(0, 2, "TM", "compatibility")),
    ],
)
def test_a_folding_covers_one_character_with_its_marks(text: str, edit: Edit) -> None:
    assert find_compatible(text) == [edit]
