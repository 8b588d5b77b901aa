"""Thresholds: ranges, content ids, the round trip through the file, and files that are wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.thresholds import HeadThreshold, Thresholds, load_thresholds

GAMBLING = HeadThreshold(escalate=0.25, act=0.75, basis="fold 0", positives=40, negatives=900)
SCAM = HeadThreshold(escalate=0.5, act=0.5, basis="fold 0", positives=12, negatives=1000)


def test_the_id_is_the_hash_of_the_content() -> None:
    one = Thresholds.of(prevalence=0.02, heads={"gambling": GAMBLING, "scam": SCAM})
    assert one.id == "thr_163b767ca2"
    assert one.id == Thresholds.of(prevalence=0.02, heads={"scam": SCAM, "gambling": GAMBLING}).id
    assert one.id != Thresholds.of(prevalence=0.03, heads={"gambling": GAMBLING, "scam": SCAM}).id
    assert one.id != Thresholds.of(prevalence=0.02, heads={"gambling": SCAM, "scam": SCAM}).id


def test_thresholds_keep_no_hold_on_the_callers_mapping() -> None:
    heads = {"gambling": GAMBLING}
    thresholds = Thresholds.of(prevalence=0.02, heads=heads)
    heads["scam"] = SCAM
    assert list(thresholds.heads) == ["gambling"]


unit = st.floats(0, 1)


@given(
    prevalence=st.floats(0.001, 0.999),
    cuts=st.dictionaries(st.text(min_size=1, max_size=5), st.tuples(unit, unit), max_size=4),
)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, prevalence: float, cuts: dict[str, Any]
) -> None:
    heads = {name: HeadThreshold(min(cut), max(cut), "b", 1, 2) for name, cut in cuts.items()}
    thresholds = Thresholds.of(prevalence=prevalence, heads=heads)
    path = tmp_path_factory.mktemp("thresholds") / "thresholds.json"
    path.write_text(thresholds.to_json(), encoding="utf-8")
    assert load_thresholds(path) == thresholds


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("escalate", math.nan, "escalate: found nan"),
        ("act", math.inf, "act: found inf"),
        ("act", "0.5", "act: found '0.5'"),
        ("act", True, "act: found True"),
        ("act", 1.5, "allowed 0 <= escalate <= act <= 1"),
        ("act", 0.1, "escalate, act: found 0.25, 0.1"),
        ("escalate", -0.1, "found -0.1, 0.75"),
        ("basis", None, "basis: found None"),
        ("positives", -1, "positives: found -1"),
        ("negatives", 1.5, "negatives: found 1.5"),
    ],
)
def test_a_head_out_of_range_is_refused(field: str, value: object, message: str) -> None:
    values: dict[str, Any] = {"escalate": 0.25, "act": 0.75, "basis": "", "positives": 0, "negatives": 0, field: value}
    with pytest.raises(ValueError, match=message):
        HeadThreshold(**values)


@pytest.mark.parametrize("prevalence", [0, 1, -0.1, math.nan, True, "0.02"])
def test_a_prevalence_outside_zero_and_one_is_refused(prevalence: Any) -> None:  # noqa: ANN401 - wrong on purpose
    with pytest.raises(ValueError, match="prevalence: found .*, allowed a number above 0 and below 1"):
        Thresholds.of(prevalence=prevalence, heads={})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prevalence": 0.05}, "id: found 'thr_.*', allowed 'thr_.*', the id of the content"),
        ({"id": "thr_0"}, "id: found 'thr_0'"),
        ({"note": ""}, r"document: found \[.*'note'.*\], allowed"),
        ({"heads": []}, "heads: allowed a mapping"),
        ({"heads": {"scam": {"act": 0.5}}}, r"heads.scam: found \['act'\]"),
        ({"heads": {"scam": 0.5}}, r"heads.scam: found no mapping"),
        (
            {"heads": {"scam": {"escalate": 0.9, "act": 0.5, "basis": "", "positives": 0, "negatives": 0}}},
            r"heads.scam.escalate, act: found 0.9, 0.5",
        ),
    ],
)
def test_a_wrong_file_is_refused_by_the_name_of_its_key(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    document = json.loads(Thresholds.of(prevalence=0.02, heads={"gambling": GAMBLING}).to_json())
    path = tmp_path / "thresholds.json"
    path.write_text(json.dumps(document | change), encoding="utf-8")
    with pytest.raises(ValueError, match=r"thresholds thresholds\.json: " + message):
        load_thresholds(path)


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_a_file_that_is_no_such_document_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "thresholds.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"thresholds thresholds\.json: "):
        load_thresholds(path)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_thresholds(tmp_path / "absent.json")
