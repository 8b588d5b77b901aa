from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retrieval_shared.calibration import Calibration, Curve, load_calibration, save_calibration


def calibration(scale: list[float], offset: list[float]) -> Calibration:
    heads = tuple(f"head{i}" for i in range(len(scale)))
    return Calibration(heads=heads, scale=np.float32(scale), offset=np.float32(offset))


def test_hand_numbers() -> None:
    p = calibration([2.0, 1.0], [-1.0, 0.0]).probabilities(np.float32([[0.5, math.log(3)], [1.0, -math.log(3)]]))
    # sigmoid(0), sigmoid(ln 3); sigmoid(1), sigmoid(-ln 3)
    np.testing.assert_allclose(p, [[0.5, 0.75], [0.7310586, 0.25]], rtol=1e-6)
    assert p.dtype == np.float32


def test_order_is_kept_and_extremes_stay_in_range() -> None:
    logits = np.float32([[-1e30], [-50], [0], [50], [1e30]])
    p = calibration([3.0], [1.0]).probabilities(logits)[:, 0]
    assert (np.diff(p) >= 0).all()
    assert p.min() > 0
    assert p.max() < 1  # so that a threshold of 1 is never reached


def test_no_rows() -> None:
    assert calibration([1.0], [0.0]).probabilities(np.zeros((0, 1), dtype=np.float32)).shape == (0, 1)


def test_saved_and_loaded_in_the_order_asked_for(tmp_path: Path) -> None:
    save_calibration(tmp_path / "c.json", calibration([0.1234567, 2.0], [-1.5, 0.25]))
    loaded = load_calibration(tmp_path / "c.json", ["head1", "head0"])
    assert loaded.heads == ("head1", "head0")
    np.testing.assert_array_equal(loaded.scale, np.float32([2.0, 0.123457]))
    np.testing.assert_array_equal(loaded.offset, np.float32([0.25, -1.5]))


def test_a_head_without_curve_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"heads": {"drugs": {"scale": 1, "offset": 0}}}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"c\.json: no curve for scam, hate"):
        load_calibration(tmp_path / "c.json", ["scam", "drugs", "hate"])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_curve_must_be_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="calibration offset"):
        calibration([1.0], [bad])


@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_a_curve_must_rise(bad: float) -> None:
    with pytest.raises(ValueError, match=r"calibration scale: found .*, allowed above 0"):
        calibration([1.0, bad], [0.0, 0.0])


def test_every_head_needs_a_curve() -> None:
    with pytest.raises(ValueError, match="expected 2 finite numbers"):
        Calibration(heads=("a", "b"), scale=np.ones(1, dtype=np.float32), offset=np.zeros(2, dtype=np.float32))


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


OWN = replace(
    calibration([2.0, 1.0], [-1.0, 0.0]),
    slots={"region:ID": {"head1": Curve(0.5, 1.0)}, "region:DE": {"head0": Curve(1.0, 0.0), "head1": Curve(3.0, -1.0)}},
)
"""Two heads; under `region:ID` the second has a curve of its own, under `region:DE` both have."""


def test_a_slot_without_a_curve_of_its_own_has_the_heads() -> None:
    logits = np.tile(np.float32([1.0, 2.0]), (4, 1))
    p = OWN.probabilities(logits, ["region:ID", "task:moderation", "region:DE", "region:ID"])
    in_id, elsewhere = [sigmoid(2 - 1), sigmoid(0.5 * 2 + 1)], [sigmoid(2 - 1), sigmoid(2)]
    np.testing.assert_allclose(p, [in_id, elsewhere, [sigmoid(1), sigmoid(3 * 2 - 1)], in_id], rtol=1e-6)
    assert p.dtype == np.float32


def test_without_slots_the_curves_of_the_heads_hold() -> None:
    logits = np.float32([[1.0, 2.0], [-3.0, 0.5]])
    for slots in (None, ["task:moderation"] * 2, ["base", "region:US"]):
        np.testing.assert_array_equal(OWN.probabilities(logits, slots), replace(OWN, slots={}).probabilities(logits))
    assert OWN.probabilities(logits[:0], []).shape == (0, 2)


def test_probabilities_of_a_row_are_those_of_its_slot_whatever_stands_beside_it() -> None:
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(30, 2)).astype(np.float32)
    slots = [("base", "region:ID", "region:DE")[k] for k in rng.integers(0, 3, 30)]
    alone = [OWN.probabilities(logits[i : i + 1], [slot])[0] for i, slot in enumerate(slots)]
    np.testing.assert_array_equal(OWN.probabilities(logits, slots), alone)


@pytest.mark.parametrize("slots", [[], ["base"], ["base"] * 3])
def test_every_row_needs_its_slot(slots: list[str]) -> None:
    with pytest.raises(ValueError, match=f"slots: found {len(slots)}, expected one per row of 2 logits"):
        OWN.probabilities(np.zeros((2, 2), dtype=np.float32), slots)


@pytest.mark.parametrize("curve", [Curve(0.0, 0.0), Curve(-1.0, 0.0), Curve(math.nan, 0.0), Curve(1.0, math.inf)])
def test_a_curve_of_a_slot_must_rise_and_be_finite(curve: Curve) -> None:
    with pytest.raises(ValueError, match=r"calibration region:ID, head0: found Curve\(.*\), allowed a scale above 0"):
        replace(OWN, slots={"region:ID": {"head0": curve}})


def test_a_curve_of_no_head_is_refused() -> None:
    with pytest.raises(ValueError, match="calibration region:ID: found head 'haed0', allowed head0, head1"):
        replace(OWN, slots={"region:ID": {"haed0": Curve(1.0, 0.0)}})


def test_curves_of_slots_are_saved_and_loaded(tmp_path: Path) -> None:
    save_calibration(tmp_path / "c.json", OWN)
    written = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
    assert written["slots"]["region:ID"] == {"head1": {"scale": 0.5, "offset": 1.0}}
    loaded = load_calibration(tmp_path / "c.json", ["head1", "head0"])
    assert loaded.slots == OWN.slots
    assert load_calibration(tmp_path / "c.json", ["head0"]).slots["region:ID"] == {}  # the other head is not asked for


def test_a_file_without_slots_is_written_and_read_as_ever(tmp_path: Path) -> None:
    save_calibration(tmp_path / "c.json", calibration([1.0], [0.0]))
    assert json.loads((tmp_path / "c.json").read_text(encoding="utf-8")) == {
        "heads": {"head0": {"scale": 1.0, "offset": 0.0}}
    }
    assert load_calibration(tmp_path / "c.json", ["head0"]).slots == {}


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        (3, "found 3, expected an object"),
        ({"region:ID": [1]}, r"found \[1\], expected an object"),
        ({"region:ID": {"drugs": 1}}, "found 1, expected an object"),
        ({"region:ID": {"durgs": {"scale": 1, "offset": 0}}}, r"c\.json: region:ID has a curve for durgs"),
        ({"region:ID": {"drugs": {"scale": 0, "offset": 0}}}, "region:ID, drugs: found .*, allowed a scale above 0"),
    ],
)
def test_slots_that_are_malformed_are_refused(tmp_path: Path, slots: object, message: str) -> None:
    document = {"heads": {"drugs": {"scale": 1, "offset": 0}}, "slots": slots}
    (tmp_path / "c.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_calibration(tmp_path / "c.json", ["drugs"])
