"""Sentences: the marks of many scripts, what does not end one, and what holds for any text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.compat.sentences import MAX_SENTENCES, split_sentences


def parts(text: str) -> list[str]:
    return [text[start:end] for start, end in split_sentences(text)]


def test_the_example_of_perspectives_documentation() -> None:
    text = "What kind of idiot name is foo? Sorry, I like your name."
    assert split_sentences(text) == ((0, 31), (32, 56))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n ", []),
        (" one ", ["one"]),
        ("One. Two! Three?! Four…", ["One.", "Two!", "Three?!", "Four…"]),
        ("“Go!” he said. (Then left.) Bye", ["“Go!”", "he said.", "(Then left.)", "Bye"]),
        ("one\ntwo\r\n\r\nthree", ["one", "two", "three"]),
        ("Pay 3.50 at www.example.com/a?b=c. Now", ["Pay 3.50 at www.example.com/a?b=c.", "Now"]),
        ("Dr. No met J. Doe. They spoke", ["Dr. No met J. Doe.", "They spoke"]),
        ("about approx. ten of them. Ten", ["about approx. ten of them.", "Ten"]),
        ("你好。我很好！「真的？」他说。", ["你好。", "我很好！", "「真的？」", "他说。"]),
        ("そうです。はい｡", ["そうです。", "はい｡"]),
        ("यह अच्छा है। वह नहीं॥", ["यह अच्छा है।", "वह नहीं॥"]),
        ("هل أنت بخير؟ نعم.", ["هل أنت بخير؟", "نعم."]),
        ("یہ اچھا ہے۔ وہ نہیں", ["یہ اچھا ہے۔", "وہ نہیں"]),
        ("ደህና ነህ። አዎ", ["ደህና ነህ።", "አዎ"]),
        ("Բարեւ։ Այո", ["Բարեւ։", "Այո"]),
        ("ကောင်းတယ်။ ဟုတ်ကဲ့", ["ကောင်းတယ်။", "ဟုတ်ကဲ့"]),
        ("สวัสดี ครับ\nลาก่อน", ["สวัสดี ครับ", "ลาก่อน"]),
        ("What! ... \N{GRINNING FACE} Yes", ["What! ...", "\N{GRINNING FACE} Yes"]),
        ("!!! hello", ["!!! hello"]),
        ("...", ["..."]),
    ],
)
def test_marks_of_many_scripts(text: str, expected: list[str]) -> None:
    assert parts(text) == expected


def test_a_text_of_full_stops_is_not_a_thousand_sentences() -> None:
    spans = split_sentences("Ah. " * 5000)
    assert len(spans) <= MAX_SENTENCES
    assert spans[0][0] == 0
    assert spans[-1][1] == 4 * 5000 - 1
    lengths = {end - start for start, end in spans[:-1]}
    assert len(lengths) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("!" * 400_000 + "x", 1),
        ("." * 200_000 + "…" * 200_000 + "x", 1),
        ('!"' * 200_000 + "x", 1),
        ("." + " " * 400_000 + "Ab", 1),
        ("Ab. " * 100_000, MAX_SENTENCES),
        ("... " * 100_000 + "x", 1),
    ],
)
def test_no_text_takes_longer_than_its_length(text: str, expected: int) -> None:
    """Time that grew with the square of the length would be a minute here."""
    begun = time.process_time()
    spans = split_sentences(text)
    assert time.process_time() - begun < 5
    assert len(spans) <= expected


@given(st.text(alphabet=st.sampled_from(list("ab.!? \n。।é\N{GRINNING FACE}A”(")), max_size=300))
def test_nothing_visible_is_lost(text: str) -> None:
    spans = split_sentences(text)
    assert len(spans) <= MAX_SENTENCES
    ends = [0, *(end for _, end in spans)]
    for (start, end), before in zip(spans, ends, strict=False):
        assert before <= start < end <= len(text)
        assert text[start:end] == text[start:end].strip()
        assert not text[before:start].strip()
    assert not text[ends[-1] :].strip()
