"""Draws hide what they should, scores are out of fold, and our figures stand beside the published ones."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from eval.metrics.multilabel import roc_auc
from training.pu_benchmark import (
    GATE,
    PUBLISHED,
    Draw,
    benchmark,
    calibrated,
    draw,
    gate,
    judge,
    out_of_fold_logits,
    read_data,
    read_published,
)

Floats = NDArray[np.float64]
SHAPE = [200, 100, 900]
COLUMNS = "dataset,alpha,estimator,abs_prior_error,accuracy,roc"


def rows(n: int = 1500, *, apart: float = 6.0) -> tuple[Floats, NDArray[np.bool_]]:
    """Rows `[n, 2]` of which a third is positive; the second feature is the row's number."""
    positive = np.arange(n) % 3 == 0
    features = np.random.default_rng(0).normal(size=n) + apart * positive
    return np.column_stack([features, np.arange(n)]), positive


def first_feature(drawn: Draw, _: int) -> Floats:
    return drawn.features[:, 0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    features, positive = rows()
    lines = [f"{int(y)},{a:.5f},{b:.0f}" for y, (a, b) in zip(positive, features, strict=True)]
    with lzma.open(tmp_path / "wine.csv.xz", "wt", encoding="utf-8") as file:
        file.write("\n".join(["positive,x0,x1", *lines, ""]))
    (tmp_path / "shapes.json").write_text(json.dumps({"wine": {"0.95": SHAPE}, "bank": {"0.95": SHAPE}}))
    published = [
        COLUMNS,
        "wine,0.95,dedpul,0.001,0.9976,0.9964",
        "wine,0.95,dedpul_poster,0.0123,0.998,0.9964",
        "wine,0.05,dedpul,0.5,0.5,0.5",
        "wine,0.95,KM,0.0132,,",
    ]
    (tmp_path / "published.csv").write_text("\n".join([*published, ""]))
    return tmp_path


def test_a_draw_takes_each_row_once_and_labels_positives_alone() -> None:
    features, positive = rows()
    found = draw(features, positive, SHAPE, seed=0)
    assert np.unique(found.features[:, 1]).size == found.labelled.size == 1200
    assert found.labelled.sum() == 200
    assert found.positive[found.labelled].all()
    assert found.positive[~found.labelled].sum() == 100
    assert found.prior == pytest.approx(0.1)
    assert (found.positive == (found.features[:, 1] % 3 == 0)).all()
    assert 0 < found.labelled[:600].sum() < 200  # shuffled


def test_seeds_decide_a_draw() -> None:
    features, positive = rows()
    first, again, other = (draw(features, positive, SHAPE, seed=seed) for seed in (0, 0, 1))
    assert (first.features == again.features).all()
    assert (first.labelled == again.labelled).all()
    assert not (first.features == other.features).all()


@pytest.mark.parametrize(("shape", "said"), [([400, 200, 1], "600 positives"), ([1, 1, 1001], "1001 negatives")])
def test_a_draw_larger_than_the_data_is_refused(shape: list[int], said: str) -> None:
    with pytest.raises(ValueError, match=f"found {said}, allowed up to"):
        draw(*rows(), shape, seed=0)


def test_logits_are_of_models_that_did_not_see_the_row() -> None:
    # Labels without a pattern: a model that saw them would rank them, one that did not cannot.
    rng = np.random.default_rng(0)
    noise = Draw(rng.normal(size=(600, 3)), rng.random(600) < 0.3, np.ones(600, dtype=np.bool_))
    assert 0.4 < roc_auc(noise.labelled.astype(float), out_of_fold_logits(noise, 0)) < 0.6
    known = draw(*rows(), SHAPE, seed=0)
    logits = out_of_fold_logits(Draw(known.features[:, :1], known.labelled, known.positive), 0)
    assert roc_auc(known.positive.astype(float), logits) > 0.98


def test_calibrated_chances_are_of_being_labelled() -> None:
    drawn = draw(*rows(), SHAPE, seed=0)
    chance = calibrated(drawn, drawn.features[:, 0])
    assert chance.mean() == pytest.approx(200 / 1200, abs=1e-3)
    # Of the positives two thirds are labelled; the curve ends at 1 where the truth ends there.
    assert chance[drawn.positive].mean() == pytest.approx(200 / 300, abs=0.06)
    far = np.where(np.arange(1200) == np.argmax(drawn.labelled), 200.0, drawn.features[:, 0])
    assert 0.999 < calibrated(drawn, far).max() < 1.0  # its odds stay finite


def test_every_estimator_is_judged_on_the_hidden_labels() -> None:
    drawn = draw(*rows(), SHAPE, seed=0)
    found = {row["estimator"]: row for row in judge(drawn, drawn.features[:, 0])}
    assert list(found) == list(PUBLISHED)
    for row in found.values():
        assert row["abs_prior_error"] == abs(row["prior"] - 0.1)
        assert row["abs_prior_error"] < 0.05
        assert row["accuracy"] > 0.95
        assert row["roc_auc"] > 0.99
    assert found["dedpul, prior known"]["prior"] == drawn.prior
    assert found["dedpul"]["agree"]
    for name in ("dedpul", "bbe"):
        assert found[name]["low"] <= found[name]["prior"] <= found[name]["high"]
    unlabelled = np.flatnonzero(~drawn.labelled)
    truth = drawn.positive.copy()
    truth[unlabelled] = np.random.default_rng(0).permutation(truth[unlabelled])
    for row in judge(Draw(drawn.features, drawn.labelled, truth), drawn.features[:, 0]):
        assert 0.4 < row["roc_auc"] < 0.6


def test_the_report_sets_our_means_beside_the_published_ones(folder: Path) -> None:
    found = benchmark(folder, folder / "out" / "report.json", seeds=(0, 1), scorer=first_feature)
    assert list(found["table"]) == ["wine"]
    own = found["table"]["wine"]["dedpul"]
    errors = [row["abs_prior_error"] for row in found["draws"] if row["estimator"] == "dedpul"]
    assert len(errors) == 2
    assert own["abs_prior_error"] == pytest.approx(np.mean(errors))
    theirs = {"abs_prior_error": 0.001, "accuracy": 0.9976, "roc_auc": 0.9964}
    assert own["published"] == {"dedpul": theirs, "cat": None}
    assert found["table"]["wine"]["bbe"]["published"] == {}
    known = found["table"]["wine"]["dedpul, prior known"]
    assert found["gate"]["wine"]["accuracy"] == known["accuracy"] - GATE["wine"][0]
    assert {row["true_prior"] for row in found["draws"]} == {0.1}
    written = json.loads((folder / "out" / "report.json").read_text())
    assert written["n"] == {"wine": SHAPE}
    assert written["table"]["wine"]["dedpul"]["published"]["cat"] is None


@pytest.mark.parametrize(
    ("accuracy", "auc", "passed"), [(0.004, 0.004, True), (0.006, 0.002, False), (-0.1, 0.0, True), (0.0, 0.006, False)]
)
def test_the_gate_is_half_a_percent_below_the_published_figures(accuracy: float, auc: float, passed: bool) -> None:
    own = {"accuracy": GATE["wine"][0] - accuracy, "roc_auc": GATE["wine"][1] - auc}
    found = gate({"wine": {"dedpul, prior known": own}, "landsat": {}})
    assert list(found) == ["wine"]
    assert found["wine"]["accuracy"] == pytest.approx(-accuracy)
    assert found["wine"]["roc_auc"] == pytest.approx(-auc)
    assert found["wine"]["passed"] is passed


def test_published_figures_are_of_one_alpha_and_may_lack_some(folder: Path) -> None:
    found = read_published(folder / "published.csv", "0.95")
    assert list(found["wine"]) == ["dedpul", "dedpul_poster", "KM"]
    assert found["wine"]["KM"] == {"abs_prior_error": 0.0132, "accuracy": None, "roc_auc": None}
    assert read_published(folder / "published.csv", "0.05")["wine"]["dedpul"]["roc_auc"] == 0.5


def test_data_come_back_as_they_were_packed(folder: Path) -> None:
    features, positive = read_data(folder / "wine.csv.xz")
    expected, labels = rows()
    assert features == pytest.approx(expected, abs=1e-5)
    assert (positive == labels).all()


def test_what_is_not_there_is_named(folder: Path) -> None:
    for options, said in (
        ({"names": ["beer"]}, "names: found 'beer', allowed bank, wine"),
        ({"alpha": "0.7"}, "alpha: found '0.7', allowed 0.95"),
        ({"names": ["bank"]}, "found no file bank.csv.xz"),
    ):
        with pytest.raises(ValueError, match=said):
            benchmark(folder, folder / "report.json", **options)  # type: ignore[arg-type]
    with lzma.open(folder / "bank.csv.xz", "wt") as file:
        file.write("x0,positive\n1,1\n")
    with pytest.raises(ValueError, match="found first column 'x0', expected 'positive'"):
        benchmark(folder, folder / "report.json", names=["bank"])
