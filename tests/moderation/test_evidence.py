from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from moderation.classifier import SLOT, Classifier
from moderation.evidence import CANDIDATES, MAX_LEXICON_EVIDENCE, WORDS, delete, find_evidence, find_spans
from moderation.rules import RuleMatch
from retrieval_shared.bundle import Bundle
from retrieval_shared.onnx_encoder import Chunk
from retrieval_shared.text import join_fields, normalise


class FakeEncoder:
    """A token per word; each head looks at the words it is told to, evenly at all others."""

    def __init__(self, looks: Mapping[int, str]) -> None:
        self._looks = looks
        self.slots: list[str] = []

    def attention(self, text: str, *, slot: str) -> list[tuple[Chunk, NDArray[np.float32]]]:
        self.slots.append(slot)
        spans = ((0, 0), *(match.span() for match in re.finditer(r"\S+", text)), (0, 0))
        weights = np.full((2, len(spans)), 0.001, dtype=np.float32)
        for head, word in self._looks.items():
            for token, (start, end) in enumerate(spans):
                if text[start:end] == word:
                    weights[head, token] = 1.0
        return [(Chunk(text=0, ids=(0,) * len(spans), spans=spans), weights)]


class FakeClassifier:
    """Probability .9 with the head's trigger in the text, .1 without; a slot may have triggers of its own."""

    heads = ("drugs", "scam")

    def __init__(
        self, triggers: Sequence[str], looks: Mapping[int, str], own: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self._triggers = {SLOT: triggers, **(own or {})}
        self.encoder = FakeEncoder(looks)
        self.readings = 0

    def probabilities(self, readings: Sequence[str], *, slot: str = SLOT) -> NDArray[np.float32]:
        self.readings += len(readings)
        return np.float32([[0.9 if trigger in text else 0.1 for trigger in self._triggers[slot]] for text in readings])


FILLER = " ".join(f"word{i}" for i in range(30))


def test_the_stretch_whose_deletion_lowers_the_probability() -> None:
    text = f"{FILLER} heroin {FILLER} refund {FILLER}"
    classifier = FakeClassifier(["heroin", "refund"], {0: "heroin", 1: "refund"})
    spans = find_spans(classifier, text, ["scam", "drugs"])  # type: ignore[arg-type]
    assert list(spans) == ["scam", "drugs"]
    for head, trigger in (("drugs", "heroin"), ("scam", "refund")):
        span = spans[head]
        assert trigger in text[span.start : span.end]
        assert len(text[span.start : span.end].split()) == WORDS
        assert span.drop == pytest.approx(0.8)


def test_occlusion_overrules_attention() -> None:
    text = f"heroin {FILLER}"
    # It looks at word20; the words before it are as good as any other, and the first stretch is among the candidates.
    classifier = FakeClassifier(["heroin", "x"], {0: "word20"})
    span = find_spans(classifier, text, ["drugs"])["drugs"]  # type: ignore[arg-type]
    assert text[span.start : span.end] == "heroin word0 word1 word2"


def test_no_span_where_no_deletion_lowers_the_probability() -> None:
    text = f"heroin {FILLER} heroin"  # either alone keeps the probability up
    assert find_spans(FakeClassifier(["heroin", "x"], {0: "heroin"}), text, ["drugs", "scam"]) == {}  # type: ignore[arg-type]


def test_a_text_shorter_than_a_stretch_is_one_stretch() -> None:
    span = find_spans(FakeClassifier(["heroin", "x"], {}), "  heroin!  ", ["drugs"])["drugs"]  # type: ignore[arg-type]
    assert (span.start, span.end) == (2, 9)


@pytest.mark.parametrize(("text", "heads"), [("", ["drugs"]), (" \n", ["drugs"]), ("heroin", [])])
def test_nothing_to_explain_costs_nothing(text: str, heads: list[str]) -> None:
    classifier = FakeClassifier(["heroin", "x"], {})
    assert find_spans(classifier, text, heads) == {}  # type: ignore[arg-type]
    assert classifier.readings == 0


def test_the_cost_is_bounded() -> None:
    classifier = FakeClassifier(["heroin", "x"], {0: "word3"})
    find_spans(classifier, " ".join([FILLER] * 20), ["drugs"])  # type: ignore[arg-type]
    assert classifier.readings <= 1 + CANDIDATES


def test_a_slot_is_explained_by_what_it_reads() -> None:
    text = f"{FILLER} heroin {FILLER} ganja {FILLER}"
    classifier = FakeClassifier(["heroin", "x"], {0: "ganja"}, {"region:ID": ["ganja", "x"]})
    span = find_spans(classifier, text, ["drugs"], slot="region:ID")["drugs"]  # type: ignore[arg-type]
    assert "ganja" in text[span.start : span.end]
    assert classifier.encoder.slots == ["region:ID"]
    assert find_spans(classifier, text, ["drugs"]) == {}  # type: ignore[arg-type]  # nowhere near what `SLOT` reads


def explained(fired: Mapping[str, Sequence[str]], terms: Sequence[RuleMatch] = ()) -> dict[str, dict[str, list[str]]]:
    """Slot -> head -> what is quoted, its source before it; checks each quote against its field."""
    fields = {"title": "Gan\u200bja for you", "body": "and all your fri\u200bends, her\u200boin too, today only"}
    text = join_fields(fields)
    classifier = FakeClassifier(["heroin", "today"], {0: "heroin,"}, {"region:ID": ["Ganja", "x"]})
    found = find_evidence(classifier, text, normalise(text.text), fired=fired, terms=terms)  # type: ignore[arg-type]
    pieces = [piece for heads in found.values() for evidence in heads.values() for piece in evidence]
    assert all(fields[piece.field][piece.start : piece.end] == piece.text for piece in pieces)
    assert classifier.encoder.slots == [slot for slot, heads in fired.items() if heads]
    return {
        slot: {head: [f"{piece.source} {piece.text}" for piece in evidence] for head, evidence in heads.items()}
        for slot, heads in found.items()
    }


def test_heads_are_explained_under_the_slot_they_fired_under_quoting_the_fields() -> None:
    found = explained({SLOT: ["drugs", "scam"], "region:ID": ["drugs"]})
    assert list(found) == [SLOT, "region:ID"]
    [drugs], [scam], [ganja] = found[SLOT]["drugs"], found[SLOT]["scam"], found["region:ID"]["drugs"]
    assert ("her\u200boin" in drugs, "today" in scam, "Gan\u200bja" in ganja) == (True, True, True)


def test_terms_of_the_lexicon_follow_under_every_slot_and_are_few() -> None:
    terms = [RuleMatch("drugs", "ganja", 0, 5), *[RuleMatch("drugs", "for", 6, 9)] * MAX_LEXICON_EVIDENCE]
    found = explained({SLOT: ["drugs", "scam"], "region:ID": ["drugs"]}, [*terms, RuleMatch("hate", "you", 10, 13)])
    lexicon = ["rule Gan\u200bja", *["rule for"] * (MAX_LEXICON_EVIDENCE - 1)]
    assert found[SLOT]["drugs"][1:] == found["region:ID"]["drugs"][1:] == lexicon
    assert [each.split()[0] for each in found[SLOT]["scam"]] == ["model"]
    assert not any("hate" in heads for heads in found.values())


def test_nothing_fired_nothing_explained() -> None:
    assert explained({}) == {}


def test_delete() -> None:
    assert delete("one two three", 4, 7) == "one three"
    assert delete("one two", 0, 3) == "two"
    assert delete("one two", 4, 7) == "one"
    assert delete("one", 0, 3) == ""
    assert delete("one\ntwo three", 4, 7) == "one\n three"


def test_real_attention_over_chunks_gives_spans_inside_the_text(tiny_bundle: Bundle) -> None:
    classifier = Classifier(tiny_bundle)
    text = "🎁 فودكا free bet, win cash now! \u200bvodka  " * 12
    spans = find_spans(classifier, text, classifier.heads)
    assert spans
    whole = classifier.probabilities([text])[0]
    for head, span in spans.items():
        assert 0 <= span.start < span.end <= len(text)
        assert not text[span.start].isspace()
        assert not text[span.end - 1].isspace()
        assert 0 < span.drop <= whole[classifier.heads.index(head)] + 0.05
