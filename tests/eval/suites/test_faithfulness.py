"""Which span is taken, how it is deleted, and what counts as a win."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from eval.datasets import Row, Suite
from eval.scores import Scorer
from eval.suites.faithfulness import Span, faithfulness_report, heaviest_spans, random_span, without

BODY = "buy a rifle here today, shipped with care in plain boxes"


class Rifle:
    """A model that knows one word."""

    heads = ("drugs", "weapons")

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[0.1, 0.9 if "rifle" in text else 0.2] for text in texts], dtype=np.float32)


def decision(*spans: tuple[int, int, float]) -> Any:
    pieces = [
        SimpleNamespace(field="body", start=start, end=end, weight=weight, source="model")
        for start, end, weight in spans
    ]
    entry = SimpleNamespace(policy="weapons", evidence=tuple(pieces))
    return SimpleNamespace(status="ok", decisions=(SimpleNamespace(entries=(entry,)),))


def suite(*bodies: str) -> Suite:
    return Suite(
        "ads", tuple(Row(str(i), body, {}, fields={"title": "T", "body": body}) for i, body in enumerate(bodies))
    )


def test_the_heaviest_span_is_taken_and_empty_ones_are_not() -> None:
    assert heaviest_spans(decision((0, 3, 0.2), (6, 11, 0.8), (5, 5, 1.0))) == [Span("weapons", "body", 6, 11)]
    assert heaviest_spans(decision()) == []
    rule = decision((0, 3, 0.2))
    rule.decisions[0].entries[0].evidence[0].source = "rule"
    assert heaviest_spans(rule) == []
    assert heaviest_spans(SimpleNamespace(status="error", decisions=())) == []


def test_deletion_keeps_the_rest() -> None:
    fields = {"title": "T", "body": BODY}
    assert without(fields, Span("weapons", "body", 6, 12)) == "T\nbuy a here today, shipped with care in plain boxes"
    assert without({"body": "all"}, Span("weapons", "body", 0, 3)) == " "


def test_random_spans_have_the_same_length_and_stay_inside() -> None:
    rng = np.random.default_rng(0)
    spans = [random_span({"body": BODY}, Span("weapons", "body", 6, 11), rng=rng) for _ in range(2000)]
    assert {span.end - span.start for span in spans} == {5}
    assert {span.start for span in spans} == set(range(len(BODY) - 4))


def test_the_right_word_wins_and_a_wrong_one_does_not() -> None:
    made = suite(BODY)
    scorer = Scorer(Rifle(), identity="r")
    [right] = faithfulness_report([decision((6, 11, 1.0))], made, scorer, seed=1)["heads"]
    assert (right["head"], right["n"], right["wins"]) == ("weapons", 1, 1.0)
    assert right["wins_best"] == 0.0  # one of the six random spans cuts into the word, too
    long = suite(BODY + " and tea" * 60)
    [clear] = faithfulness_report([decision((6, 11, 1.0))], long, scorer, seed=1)["heads"]
    assert clear["wins_best"] == 1.0
    assert abs(right["drop_evidence"] - 0.7) < 1e-6
    [wrong] = faithfulness_report([decision((50, 55, 1.0))], made, scorer, seed=1)["heads"]
    assert wrong["wins"] == wrong["wins_best"] == 0.0


def test_evidence_that_is_the_whole_field_and_no_evidence_are_left_out() -> None:
    made = suite("rifle", BODY)
    report = faithfulness_report([decision((0, 5, 1.0)), decision()], made, Scorer(Rifle(), identity="r"), seed=1)
    assert report["n"] == 0
    assert report["heads"] == []
