from __future__ import annotations

import pytest

from retrieval_shared.obfuscation.edit import Edit
from retrieval_shared.obfuscation.invisible import find_decoration, find_invisible


@pytest.mark.parametrize(
    "text",
    ["plain", "Donau 24\n\t", "👩🏽‍⚕️", "🐈‍⬛", "می‌خواهم", "क्‍ष", "ক্‌ষ", "র‍্য", "☺︎ ❤️", "葛\U000e0100", "ᠠ᠋", "ه‍ "],
)
def test_what_shapes_its_neighbours_stays(text: str) -> None:
    assert find_invisible(text) == []


@pytest.mark.parametrize(
    ("text", "edit"),
    [
        ("vi\u200bagra", Edit(2, 3, "", "zero_width", True)),
        ("vi\u200d\u2060agra", Edit(2, 4, "", "zero_width", True)),
        ("vi\ufe0fagra", Edit(2, 3, "", "zero_width", True)),
        ("vi\0agra", Edit(2, 3, "", "zero_width", True)),
        ("vi\u202eagra", Edit(2, 3, "", "bidi", True)),
        ("vi\u200eagra", Edit(2, 3, "", "bidi", True)),
        ("a\xadbc", Edit(1, 2, "", "zero_width", True)),
        ("سل\u200dام", Edit(2, 3, "", "zero_width", True)),
        ("पि\u200dन", Edit(2, 3, "", "zero_width", True)),
        ("❤\ufe0f\ufe0f", Edit(1, 3, "\ufe0f", "zero_width", False)),
    ],
)
def test_what_splits_a_word_is_removed_as_a_disguise(text: str, edit: Edit) -> None:
    assert find_invisible(text) == [edit]


@pytest.mark.parametrize(
    "text",
    ["\ufeffstart", "end\u200b ", "Donau\xaddampf", "ภาษา\u200bไทย", "שלום\u200fabc", "\u2067سلام\u2069", "বল\u200cছি"],
)
def test_what_hides_nothing_is_removed_without_suspicion(text: str) -> None:
    edits = find_invisible(text)
    assert edits
    assert all(edit.replacement == "" and not edit.disguise for edit in edits)


def test_mistaken_encodings_are_mended() -> None:
    assert find_invisible("don\x92t \x81\ud800") == [
        Edit(3, 4, "’"),
        Edit(6, 7, ""),
        Edit(7, 8, "\ufffd"),
    ]


def test_a_pile_of_marks_is_cut_to_five() -> None:
    assert find_invisible("a" + "\u0301\u0323" * 10) == [Edit(6, 21, "", "zero_width", True)]


def test_marks_on_three_latin_letters_in_a_row_are_decoration() -> None:
    assert [edit[:3] for edit in find_decoration("A̾r̾w̾ x̾y")] == [(1, 2, ""), (3, 4, ""), (5, 6, "")]
    assert find_decoration("x̾y̾ résumé") == []
