"""The baseline learns what it can, masks what is unknown, stands rows in where only positives exist, and repeats."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from eval.baselines import NgramBaseline, Opponent
from eval.datasets import Row
from eval.metrics.multilabel import average_precision
from eval.subject import LearntFrom

HEADS = ("drugs", "scam", "weapons")


def rows(n: int = 120, seed: int = 0) -> list[Row]:
    """Scam rows with a telling word, rows of a shop that only knows drugs, and half the labels unknown."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(n):
        scam = int(rng.random() < 0.5)
        shop = i % 4 == 0
        text = f"{'herbal powder' if shop else 'win money fast' if scam else 'garden chairs'} {rng.integers(99)}"
        labels = {"drugs": 1.0} if shop else {"scam": float(scam)} if i % 2 else {}
        made.append(Row(id=str(i), text=text, labels=labels, source="shop" if shop else "mail"))
    return made


def small() -> NgramBaseline:
    return NgramBaseline(HEADS, log2_features=14)


def test_it_learns_a_telling_word_from_the_known_rows_alone() -> None:
    baseline = small().fit(rows())
    held_out = [row for row in rows(seed=1) if "scam" in row.labels]
    scores = baseline.probabilities([row.text for row in held_out])
    assert scores.shape == (len(held_out), 3)
    assert scores.dtype == np.float32
    assert average_precision([row.labels["scam"] for row in held_out], scores[:, 1]) == 1.0


def test_a_head_with_positives_only_learns_against_unlabelled_rows_of_other_sources() -> None:
    baseline = small().fit(rows())
    assert baseline.stand_ins == ("drugs",)
    powder, chairs = baseline.probabilities(["herbal powder 5", "garden chairs 5"])[:, 0]
    assert powder > 0.5 > chairs


def test_a_rare_head_is_fitted_too() -> None:
    made = [Row(str(i), f"chair number {i}", {"weapons": 0.0}) for i in range(400)]
    made += [Row(f"w{i}", f"rifle number {i}", {"weapons": 1.0}) for i in range(4)]
    scores = small().fit(made).probabilities(["rifle number 9", "chair number 9"])[:, 2]
    assert scores[0] > 3 * scores[1]


def test_a_head_without_positives_stays_at_0() -> None:
    assert (small().fit(rows()).probabilities(["rifle"])[:, 2] == 0).all()


def test_two_fits_are_equal() -> None:
    texts = ["win money", "garden", "", "зброя 武器 🔫"]
    assert np.array_equal(small().fit(rows()).probabilities(texts), small().fit(rows()).probabilities(texts))


def test_no_rows_unfitted_and_no_texts() -> None:
    with pytest.raises(ValueError, match="rows: found none"):
        small().fit([])
    with pytest.raises(ValueError, match="unfitted"):
        small().probabilities(["a"])
    assert small().fit(rows()).probabilities([]).shape == (0, 3)


def test_the_opponent_learns_from_the_rows_the_model_names_and_from_our_ads(
    made_up_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ads = [{"id": str(i), "title": "rifle for sale", "labels": ["weapons"], "lang": "en"} for i in range(3)]
    ads += [{"id": f"n{i}", "title": f"chair {i}", "labels": [], "lang": "en"} for i in range(3)]
    (tmp_path / "ads.jsonl").write_text("".join(json.dumps(ad) + "\n" for ad in ads), encoding="utf-8")
    monkeypatch.setattr("eval.subject.ROOT", tmp_path)
    learnt_from = LearntFrom(also_sources=(), ads="ads.jsonl")
    opponent = Opponent(learnt_from, made_up_data, heads=("weapons", "hate", "toxic"), seed=1)
    scores = opponent.probabilities(["rifle for sale", "hate text"])
    assert scores[0, 0] > 0.5 > scores[1, 0]
    assert scores[1, 1] > 0.5 > scores[0, 1]


def test_the_opponents_name_changes_with_what_it_learns_from(made_up_data: Path) -> None:
    names = {
        Opponent(learnt_from, made_up_data, heads=HEADS, seed=seed, limit=limit).identity
        for learnt_from in (LearntFrom(), LearntFrom(without_sources=("posts",)))
        for seed in (1, 2)
        for limit in (None, 10)
    }
    assert len(names) == 8
