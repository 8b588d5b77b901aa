"""Every language beside the English sentences it translates."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import pytest

from eval.sentences import Pool
from eval.suites.geometry import geometry_report


def pools(n: int) -> tuple[Pool, ...]:
    english = tuple(f"sentence {i}" for i in range(n))
    return tuple(Pool(name, english, tuple(f"{name} {text}" for text in english)) for name in ("deu", "tha"))


def by_sentence(texts: Sequence[str], *, what: str = "") -> np.ndarray:  # noqa: ARG001
    """One vector per sentence, the same in English and German; Thai has one vector for all."""
    seeds = [0 if text.startswith("tha") else zlib.crc32(text.removeprefix("deu ").encode()) for text in texts]
    found = np.stack([np.random.default_rng(seed).standard_normal(48) for seed in seeds])
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def test_a_language_that_has_collapsed_is_named() -> None:
    found = geometry_report(pools(40), by_sentence)
    english, german, thai = (record["figures"] for record in found["languages"])
    assert [record["language"] for record in found["languages"]] == ["eng", "deu", "tha"]
    assert (english.drift, german.drift, german.alignment) == pytest.approx((0.0, 0.0, 0.0))
    assert thai.effective_rank == pytest.approx(1.0, abs=1e-3)
    assert {reason.split(":")[0] for reason in found["collapsed"]} == {"tha"}
    assert (found["n"], found["dim"]) == (120, 48)
    assert found["mean"]["drift"] == pytest.approx(thai.drift / 2)
    assert 1 < found["all"]["effective_rank"] < 48


def test_small_pools_are_not_judged() -> None:
    assert geometry_report(pools(5), by_sentence)["collapsed"] is None
