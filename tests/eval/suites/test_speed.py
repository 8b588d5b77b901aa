"""Encoders take turns under a clock of the test's own, so that every figure is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from eval.document import plain
from eval.sentences import Pool
from eval.suites import speed as module
from eval.suites.speed import THREADS, Timed, lines, speed_report

POOLS = tuple(Pool(x, tuple(f"en {i}" for i in range(4)), tuple(f"{x} {i} !" for i in range(4))) for x in ("de", "th"))


class Watch:
    """Time passes only while an encoder of this watch works."""

    def __init__(self) -> None:
        self.now = 100.0
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    def __call__(self) -> float:
        return self.now

    def timed(self, name: str, seconds: Iterable[float]) -> Timed:
        return Timed(Slow(self, name, seconds), tokenizer())


class Slow:
    """Takes the next of its times for every call."""

    def __init__(self, watch: Watch, name: str, seconds: Iterable[float]) -> None:
        self._watch, self._name, self._seconds = watch, name, iter(seconds)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self._watch.asked.append((self._name, tuple(texts)))
        self._watch.now += next(self._seconds)
        return np.eye(len(texts), dtype=np.float32)


def tokenizer() -> Tokenizer:
    found = Tokenizer(WordLevel({"[UNK]": 0, "[CLS]": 1}, unk_token="[UNK]"))
    found.pre_tokenizer = Whitespace()
    found.post_processor = TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 1)])
    return found


def test_languages_take_turns_and_the_english_line_has_what_they_translate() -> None:
    translations, english = lines(POOLS, n=4)
    assert (translations.name, english.name) == ("2 varieties", "English")
    assert translations.texts == ("de 0 !", "th 1 !", "de 2 !", "th 3 !")
    assert english.texts == ("en 0", "en 1", "en 2", "en 3")


def test_the_sample_stands_evenly_over_the_file_and_is_fixed() -> None:
    translations, english = lines(POOLS, n=2)
    assert (translations.texts, english.texts) == (("de 0 !", "th 2 !"), ("en 0", "en 2"))
    assert lines(POOLS, n=7) == lines(POOLS, n=7)
    assert len(lines(POOLS, n=7)[1].texts) == 7


def test_the_figures_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "lines", lambda pools: lines(pools, n=4))
    watch = Watch()
    # Per round the translations, then English; the first round warms up.
    first = watch.timed("a", [90, 90, 2, 1, 4, 1, 1, 1])
    other = watch.timed("b", [90, 90, 1, 1, 1, 1, 1, 0.5])
    found = plain(speed_report(POOLS, {"a": first, "b": other}, clock=watch, rounds=3))
    assert (found["threads"], found["rounds"]) == (THREADS, 3)
    translations, english = found["lines"]
    assert (translations["n"], english["n"]) == (4, 4)
    a, b = translations["encoders"]
    assert (a["name"], a["tokens"], b["tokens"]) == ("a", 4 * 4, 4 * 4), "three words and the special token"
    assert a["texts_per_s"] == {"median": 2.0, "min": 1.0, "max": 4.0, "rounds": [2.0, 1.0, 4.0]}
    assert a["tokens_per_s"]["rounds"] == [8.0, 4.0, 16.0]
    assert a["ratio"] == {"median": 1.0, "min": 1.0, "max": 1.0, "rounds": [1.0, 1.0, 1.0]}
    assert b["ratio"] == {"median": 2.0, "min": 1.0, "max": 4.0, "rounds": [2.0, 4.0, 1.0]}, "of rounds, not of medians"
    assert [each["ratio"]["rounds"] for each in english["encoders"]] == [[1, 1, 1], [1, 1, 2]]


def test_encoders_take_turns_in_both_orders_and_the_same_texts() -> None:
    watch = Watch()
    timed = {name: watch.timed(name, [1.0] * 99) for name in "abc"}
    done: list[tuple[int, int]] = []
    speed_report(POOLS, timed, clock=watch, rounds=2, progress=lambda _, n, total: done.append((n, total)))
    assert "".join(name for name, _ in watch.asked) == "cbacba" + "abcabc" + "cbacba"
    for start in range(0, len(watch.asked), 3):
        assert len({texts for _, texts in watch.asked[start : start + 3]}) == 1
    assert done == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(("pools", "names", "rounds"), [((), "a", 1), (POOLS, "", 1), (POOLS, "a", 0)])
def test_nothing_to_time_is_refused(pools: tuple[Pool, ...], names: str, rounds: int) -> None:
    watch = Watch()
    timed = {name: watch.timed(name, []) for name in names}
    with pytest.raises(ValueError, match=f"speed: found {len(names)} encoders, {len(pools)} pools, {rounds} rounds"):
        speed_report(pools, timed, clock=watch, rounds=rounds)
