from __future__ import annotations

import re

import pytest

from retrieval_shared.obfuscation.edit import WORD, character_class, is_wordy


def test_a_class_matches_its_code_points_only() -> None:
    found = re.compile(f"[{character_class([0x61, 0x62, 0x63, 0x5D, 0x1F600])}]").findall("abcd]e\U0001f600")
    assert found == ["a", "b", "c", "]", "\U0001f600"]


def test_a_word_includes_its_marks() -> None:
    assert re.findall(WORD, "हिन्दी में re\u0301sume, x_y 24") == ["हिन्दी", "में", "re\u0301sume", "x", "y", "24"]


@pytest.mark.parametrize(("char", "wordy"), [("a", True), ("5", True), ("\u093f", True), ("", False), ("-", False)])
def test_wordy_characters(char: str, wordy: bool) -> None:
    assert is_wordy(char) is wordy
