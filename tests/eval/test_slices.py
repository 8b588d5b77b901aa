"""Parts of a suite and their means."""

from __future__ import annotations

import numpy as np
import pytest

from eval.datasets import Row, Suite
from eval.slices import parts, slice_table


def suite() -> Suite:
    """Three English rows, two German ones, one without a region."""
    langs = ("en", "de", "en", "de", "en")
    return Suite(
        "made up", tuple(Row(str(i), "t", {}, lang=lang, region="US" if i else "") for i, lang in enumerate(langs))
    )


def test_parts_are_the_largest_first_and_leave_out_the_unknown() -> None:
    assert list(parts(suite(), "lang")) == ["en", "de"]
    assert parts(suite(), "region")["US"].tolist() == [False, True, True, True, True]


def test_a_head_counts_only_with_enough_of_both_classes() -> None:
    labels = np.array([[1, 1], [1, 0], [0, 1], [0, 1], [1, 1]], dtype=float)
    scores = np.array([[0.9, 0.1]] * 5, dtype=np.float32)
    english, german = slice_table(suite(), labels, scores, key="lang", minimum=1)
    assert (english["value"], english["n"], english["heads"]) == ("en", 3, 1)
    assert english["ap"] == pytest.approx(2 / 3)
    assert english["auc"] == 0.5
    assert german["heads"] == 2
    [first, _] = slice_table(suite(), labels, scores, key="lang")
    assert first["heads"] == 0
    assert np.isnan(first["ap"])


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(ValueError, match="key: found 'text'"):
        parts(suite(), "text")
