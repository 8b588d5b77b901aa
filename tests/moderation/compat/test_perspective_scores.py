"""Attributes from heads: what stands for what, the formula of severity, and the mapping's shape."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.compat.perspective import ATTRIBUTES
from moderation.compat.perspective_scores import HARSH, HEADS, MAPPING_FILE, ScoreMapping, attribute_scores
from retrieval_shared.bundle import DEFAULT_BUNDLE, MANIFEST, Bundle, read_manifest

HEAD_NAMES = sorted({*(head for heads in HEADS.values() for head in heads), *HARSH})
PROBABILITY = st.floats(0, 1)
ALL_HEADS = st.fixed_dictionaries(dict.fromkeys(HEAD_NAMES, PROBABILITY))


def test_each_attribute_by_hand() -> None:
    probabilities = {"toxic": 0.8, "hate": 0.1, "harassment": 0.5, "violence": 0.25, "sexual": 0.3, "scam": 1.0}
    assert attribute_scores(probabilities, profanity=0.96) == {
        "TOXICITY": 0.8,
        "SEVERE_TOXICITY": pytest.approx(0.8 * 0.5),
        "IDENTITY_ATTACK": pytest.approx(0.08**0.5),
        "INSULT": pytest.approx(0.4**0.5),  # the geometric mean of .5 and .8
        "PROFANITY": 0.96,
        "THREAT": 0.25,
        "SEXUALLY_EXPLICIT": 0.3,
    }
    assert list(attribute_scores(probabilities, profanity=0.0)) == list(ATTRIBUTES)


def test_what_no_head_stands_for_is_not_scored() -> None:
    assert attribute_scores({"toxic": 0.8}) == {"TOXICITY": 0.8}
    assert attribute_scores({"hate": 0.8}) == {}
    assert attribute_scores({"harassment": 0.8, "violence": 0.7}) == {"THREAT": 0.7}
    assert attribute_scores({}, profanity=0.5) == {"PROFANITY": 0.5}


@given(ALL_HEADS)
def test_severe_toxicity_is_stricter_than_toxicity(probabilities: dict[str, float]) -> None:
    scores = attribute_scores(probabilities)
    assert 0 <= scores["SEVERE_TOXICITY"] <= scores["TOXICITY"]


@given(ALL_HEADS, st.sampled_from(HEAD_NAMES), PROBABILITY)
def test_scores_never_fall_when_a_head_rises(probabilities: dict[str, float], head: str, other: float) -> None:
    before = attribute_scores(probabilities)
    after = attribute_scores({**probabilities, head: max(other, probabilities[head])})
    assert all(after[attribute] >= before[attribute] for attribute in before)


@pytest.mark.parametrize(
    ("score", "expected"), [(0.0, 0.1), (0.2, 0.1), (0.3, 0.3), (0.4, 0.5), (0.7, 0.75), (1.0, 1.0)]
)
def test_the_mapping_is_linear_between_points_and_level_outside(score: float, expected: float) -> None:
    mapping = ScoreMapping({"TOXICITY": ((0.2, 0.1), (0.4, 0.5), (1.0, 1.0))})
    assert mapping("TOXICITY", score) == pytest.approx(expected)
    assert mapping("INSULT", score) == score


def test_the_mapping_comes_last() -> None:
    mapping = ScoreMapping({"SEVERE_TOXICITY": ((0.0, 0.0), (0.5, 1.0)), "PROFANITY": ((0.0, 0.5), (1.0, 0.5))})
    scores = attribute_scores({"toxic": 0.5, "hate": 0.5}, profanity=0.9, mapping=mapping)
    assert scores == {"TOXICITY": 0.5, "SEVERE_TOXICITY": 0.5, "IDENTITY_ATTACK": 0.5, "PROFANITY": 0.5}


def test_a_mapping_file(tmp_path: Path) -> None:
    path = tmp_path / "perspective.json"
    assert ScoreMapping.load(path)("TOXICITY", 0.3) == 0.3
    path.write_text(json.dumps({"points": {"TOXICITY": [[0, 0], [0.5, 1]]}}), encoding="utf-8")
    assert ScoreMapping.load(path)("TOXICITY", 0.25) == pytest.approx(0.5)


def test_a_mapping_holds_for_the_bundle_it_was_fitted_to(tiny_bundle: Bundle, tmp_path: Path) -> None:
    digest = tiny_bundle.manifest.digest
    shutil.copy(tiny_bundle.path / MANIFEST, tmp_path)
    path = tmp_path / "perspective.json"
    path.write_text(json.dumps({"bundle": digest, "points": {}, "fit": {"n": 3}}), encoding="utf-8")
    assert ScoreMapping.load(path) == ScoreMapping({}, digest, {"n": 3})
    path.write_text(json.dumps({"bundle": "ab" * 32, "points": {}}), encoding="utf-8")
    with pytest.raises(ValueError, match=f"fitted to the bundle abababababab, found {digest[:12]}: fit it anew"):
        ScoreMapping.load(path)


@pytest.mark.skipif(not (DEFAULT_BUNDLE / MAPPING_FILE).is_file(), reason="no mapping beside the shipped bundle")
def test_the_shipped_mapping_is_of_the_shipped_bundle() -> None:
    mapping = ScoreMapping.load(DEFAULT_BUNDLE / MAPPING_FILE)
    assert mapping.bundle == read_manifest(DEFAULT_BUNDLE).digest
    assert set(mapping.points) == {*ATTRIBUTES} - {"PROFANITY"}


@pytest.mark.skipif(not (DEFAULT_BUNDLE / MAPPING_FILE).is_file(), reason="no mapping beside the shipped bundle")
@given(ALL_HEADS)
def test_severe_toxicity_stays_the_stricter_one_when_mapped(probabilities: dict[str, float]) -> None:
    scores = attribute_scores(probabilities, mapping=ScoreMapping.load(DEFAULT_BUNDLE / MAPPING_FILE))
    assert 0 <= scores["SEVERE_TOXICITY"] <= scores["TOXICITY"] <= 1


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"points": {"SPAM": [[0, 0], [1, 1]]}}, "found attribute 'SPAM'"),
        ({"points": {"TOXICITY": [[0, 0]]}}, "two or more points"),
        ({"points": {"TOXICITY": [[0, 0.5], [1, 0.4]]}}, "never fall"),
        ({"points": {"TOXICITY": [[0.5, 0], [0.5, 1]]}}, "never fall"),
        ({"points": {"TOXICITY": [[0, 0], [1, 1.1]]}}, r"in \[0, 1\]"),
        ({"points": {"TOXICITY": [[0, 0, 0], [1, 1, 1]]}}, "lists of"),
        ({"points": {"TOXICITY": 1}}, "lists of"),
        ({"TOXICITY": [[0, 0], [1, 1]]}, "found 'TOXICITY', allowed points, bundle, fit"),
        ({}, "lists of"),
        ([], "lists of"),
    ],
)
def test_a_file_that_is_no_mapping(tmp_path: Path, document: object, message: str) -> None:
    path = tmp_path / "perspective.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        ScoreMapping.load(path)
