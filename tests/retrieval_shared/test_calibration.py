from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from retrieval_shared.calibration import Calibration, load_calibration, save_calibration


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
