"""Equality with scikit-learn on ties, hand-computed numbers, unknown labels."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from eval.metrics import multilabel

NAN = float("nan")


def tied(seed: int, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Labels and coarse scores, so that ties are the rule."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.2).astype(float)
    return labels, np.round(rng.random(n) * 0.7 + labels * 0.3, 1)


@pytest.mark.parametrize("seed", range(5))
def test_equals_scikit_learn_on_ties(seed: int) -> None:
    labels, scores = tied(seed)
    assert multilabel.average_precision(labels, scores) == pytest.approx(
        reference.average_precision_score(labels, scores)
    )
    assert multilabel.roc_auc(labels, scores) == pytest.approx(reference.roc_auc_score(labels, scores))
    curve = multilabel.precision_recall_curve(labels, scores)
    precision, recall, thresholds = reference.precision_recall_curve(labels, scores)
    assert np.allclose(curve.thresholds, thresholds[::-1])
    assert np.allclose(curve.precision, precision[:-1][::-1])
    assert np.allclose(curve.recall, recall[:-1][::-1])


@pytest.mark.parametrize("seed", range(3))
def test_weights_equal_scikit_learn_and_equal_repeated_rows(seed: int) -> None:
    labels, scores = tied(seed)
    weights = np.random.default_rng(seed).integers(0, 4, size=labels.size)
    value = multilabel.average_precision(labels, scores, weights=weights)
    assert value == pytest.approx(reference.average_precision_score(labels, scores, sample_weight=weights))
    assert value == pytest.approx(multilabel.average_precision(np.repeat(labels, weights), np.repeat(scores, weights)))


def test_average_precision_by_hand() -> None:
    # Ranking 1 0 1: precision 1 at recall 1/2, 2/3 at recall 1.
    assert multilabel.average_precision([1, 0, 1], [0.9, 0.8, 0.7]) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_constant_scores_give_the_prevalence_and_one_half() -> None:
    assert multilabel.average_precision([1, 0, 0, 0], [0.3] * 4) == 0.25
    assert multilabel.roc_auc([1, 0, 0, 0], [0.3] * 4) == 0.5


@pytest.mark.parametrize("labels", [[1.0, 1.0], [0.0, 0.0], [NAN, NAN], []])
def test_a_missing_class_has_no_value(labels: list[float]) -> None:
    scores = [0.5] * len(labels)
    assert np.isnan(multilabel.average_precision(labels, scores))
    assert np.isnan(multilabel.roc_auc(labels, scores))


def test_unknown_labels_do_not_count() -> None:
    labels, scores = [1, NAN, 0, 1, NAN], [0.9, 1.0, 0.8, 0.7, 0.0]
    assert multilabel.average_precision(labels, scores) == multilabel.average_precision([1, 0, 1], [0.9, 0.8, 0.7])
    assert multilabel.roc_auc(labels, scores) == 0.5


def test_stand_ins_count_as_negatives_only_where_the_label_is_unknown() -> None:
    labels, scores = np.array([1, 1, NAN, NAN]), np.array([0.9, 0.2, 0.5, 0.8])
    stand_ins = np.array([True, False, True, False])
    assert np.isnan(multilabel.average_precision(labels, scores))
    value = multilabel.pu_average_precision(labels, scores, stand_ins=stand_ins)
    assert value == multilabel.average_precision([1, 1, 0], [0.9, 0.2, 0.5])
    assert np.isnan(labels[2]), "the caller's labels stay as they were"


def test_recall_at_precision_by_hand() -> None:
    labels, scores = [1, 1, 0, 1, 0, 0, 1], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]
    point = multilabel.recall_at_precision(labels, scores, precision=0.75)
    assert (point.recall, point.precision, point.threshold) == (0.75, 0.75, 0.6)
    assert (point.true_positives, point.positives) == (3, 4)


def test_recall_at_precision_equals_the_reference_curve() -> None:
    labels, scores = tied(9, n=500)
    precision, recall, _ = reference.precision_recall_curve(labels, scores)
    for wanted in (0.2, 0.3, 0.5, 0.9):
        best = max((r for p, r in zip(precision[:-1], recall[:-1], strict=True) if p >= wanted), default=0.0)
        assert multilabel.recall_at_precision(labels, scores, precision=wanted).recall == pytest.approx(best)


def test_an_unreachable_precision_has_recall_0() -> None:
    point = multilabel.recall_at_precision([0, 1], [0.9, 0.1], precision=0.9)
    assert point.recall == 0.0
    assert point.threshold == float("inf")


def test_decisions_by_hand() -> None:
    flagged = np.array([True, True, False, False, True])
    found = multilabel.decisions([1, 0, 1, 0, NAN], flagged)
    assert (found.n, found.positives) == (4, 2)
    assert (found.precision, found.recall, found.f1, found.false_positive_rate, found.accuracy) == (0.5,) * 5


def test_decisions_without_rows_are_nan() -> None:
    assert np.isnan(multilabel.decisions([], np.zeros(0, dtype=bool)).f1)


def test_per_head_and_macro_leave_out_heads_without_a_value() -> None:
    labels = np.array([[1, NAN, 1], [0, NAN, 1], [1, 1, NAN]], dtype=float)
    scores = np.array([[0.9, 0.1, 0.2], [0.8, 0.1, 0.3], [0.7, 0.1, 0.4]])
    values = multilabel.per_head(labels, scores)
    assert values[0] == pytest.approx(5 / 6)
    assert np.isnan(values[1:]).all()
    assert multilabel.macro(values) == pytest.approx(5 / 6)
    assert np.isnan(multilabel.macro([NAN]))
    assert multilabel.per_head(labels, scores, metric="roc_auc")[0] == 0.5


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 0], [0.5], "expected that of labels"),
        ([1, 2], [0.5, 0.5], "labels: found 2.0"),
        ([1, 0], [0.5, NAN], "scores: found nan"),
        ([[1, 0]], [[0.5, 0.5]], "one axis"),
    ],
)
def test_bad_input_is_refused(labels: list[float], scores: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        multilabel.average_precision(labels, scores)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="precision: found 0"):
        multilabel.recall_at_precision([1, 0], [1, 0], precision=0.0)
    with pytest.raises(ValueError, match="metric: found 'f1'"):
        multilabel.per_head(np.zeros((1, 1)), np.zeros((1, 1)), metric="f1")
    with pytest.raises(ValueError, match="flagged"):
        multilabel.decisions([1, 0], np.zeros(3, dtype=bool))
    with pytest.raises(ValueError, match="two axes"):
        multilabel.per_head(np.zeros((2, 1)), np.zeros((1, 1)))
