from __future__ import annotations

import pytest

from eval.language import language_accuracy


def test_accuracy_by_hand() -> None:
    result = language_accuracy(
        [
            {"text": "毎朝焼きたてのパン", "lang": "ja"},
            {"text": "每天早上新鲜面包", "lang": "zh-TW"},
            {"text": "안녕하세요", "lang": "ja"},
            {"text": "no language stated", "lang": None},
        ]
    )
    assert result["n"] == 3
    assert result["accuracy"] == pytest.approx(2 / 3)
    assert result["macro_accuracy"] == pytest.approx(0.75)
    assert result["languages"]["ja"] == {"n": 2, "accuracy": 0.5, "mean_characters": 7.0}
    assert result["confusions"] == [{"stated": "ja", "found": "ko", "n": 1}]


def test_no_rows_have_no_accuracy() -> None:
    assert language_accuracy([]) == {
        "n": 0,
        "accuracy": None,
        "macro_accuracy": None,
        "languages": {},
        "confusions": [],
    }
