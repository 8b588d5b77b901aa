from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from training.examples import HEADS, OWN_ADS, Examples, target_row
from training.sampling import FAMILIES, balanced_sample, weigh


def examples(rows: Sequence[tuple[str, Mapping[str, int]]], lang: Sequence[str] = ()) -> Examples:
    """Rows of (source, labels)."""
    n = len(rows)
    return Examples(
        texts=tuple(f"text {i}" for i in range(n)),
        targets=np.stack([target_row(labels) for _, labels in rows]),
        source=np.array([source for source, _ in rows]),
        licence=np.full(n, "open"),
        lang=np.array(lang or ["en"] * n),
        kind=np.full(n, "post"),
        group=np.array([str(i) for i in range(n)]),
        region=np.full(n, ""),
    )


def test_weigh_by_hand() -> None:
    weighted = weigh(
        examples(
            [
                ("a", {"gambling": 1}),
                ("a", {"gambling": 0}),
                ("b", {"drugs": 1}),
                ("c", {"scam": 1}),
                (OWN_ADS, {"gambling": 1}),
            ]
        ),
        ad_weight=4.0,
        unlabelled_share=0.3,
    )
    # gambling: known 1 + 1 + 4 = 6. The row of b is nobody's word on gambling: 0.3 x 6; that of c is positive for one
    # of the same family: left out. All by the effective count of positives, 1 + 4, to the power -1/2.
    gambling = HEADS.index("gambling")
    np.testing.assert_allclose(weighted.weights[:, gambling], np.array([1, 1, 1.8, 0, 4]) / np.sqrt(5), rtol=1e-6)
    assert weighted.targets[:, gambling].tolist() == [1, 0, 0, 0, 1]
    # scam: known 1; rows 1 and 2 share 0.3; rows 0 and 4 gamble, which is kin.
    scam = HEADS.index("scam")
    np.testing.assert_allclose(weighted.weights[:, scam], [0, 0.15, 0.15, 1, 0], rtol=1e-6)
    # nobody labels hate: nothing to learn
    assert weighted.weights[:, HEADS.index("hate")].tolist() == [0] * 5
    assert weighted.weights.dtype == weighted.targets.dtype == np.float32


def test_a_source_that_labels_a_head_gives_it_no_unlabelled_rows() -> None:
    weighted = weigh(
        examples([("a", {"hate": 1}), ("a", {"violence": 0}), ("b", {"violence": 0})]),
        ad_weight=1,
        unlabelled_share=0.5,
    )
    np.testing.assert_allclose(weighted.weights[:, HEADS.index("hate")], [1, 0, 0.5])


def test_without_a_share_only_known_labels_count() -> None:
    rows = examples([("a", {"hate": 1}), ("b", {"scam": 0}), (OWN_ADS, {"drugs": 0})])
    weighted = weigh(rows, ad_weight=2, unlabelled_share=0)
    np.testing.assert_array_equal(weighted.weights > 0, ~np.isnan(rows.targets))
    assert not np.isnan(weighted.targets).any()


def test_every_head_is_of_one_family() -> None:
    assert sorted(head for family in FAMILIES for head in family) == sorted(HEADS)


# 400 rows of a, 100 of b, half of each English; 20 of a are positive for a rare head.
CROWD = examples(
    [("a", {"self_harm": 1} if i < 20 else {"hate": i % 2}) for i in range(400)] + [("b", {"hate": 0})] * 100,
    lang=["en-US" if i % 2 else "fi" for i in range(500)],
)


def draw(rows: int, *, english: float = 0.5, seed: int = 0) -> np.ndarray:
    return balanced_sample(CROWD, rows=rows, english_share=english, rng=np.random.default_rng(seed))


def test_rows_are_drawn_once_and_the_seed_decides() -> None:
    sample = draw(60)
    assert len(set(sample.tolist())) == len(sample) == 60
    np.testing.assert_array_equal(sample, draw(60))
    assert set(sample.tolist()) != set(draw(60, seed=1).tolist())


@pytest.mark.parametrize("english", [0.0, 0.25, 1.0])
def test_the_share_of_english_is_kept(english: float) -> None:
    sample = draw(40, english=english)
    assert np.char.startswith(CROWD.lang[sample], "en").sum() == round(40 * english)


def test_a_small_source_gets_the_square_root_of_its_size() -> None:
    share = np.mean([(CROWD.source[draw(30, seed=seed)] == "b").mean() for seed in range(60)])
    assert share == pytest.approx(np.sqrt(100) / (np.sqrt(400) + np.sqrt(100)), abs=0.05)


def test_a_rare_head_is_drawn_more_often() -> None:
    drawn = [draw(100, seed=seed) for seed in range(100)]
    rare = np.mean([(sample < 20).sum() for sample in drawn])
    of_a = np.mean([(CROWD.source[sample] == "a").sum() for sample in drawn])
    # Sixteen heads of which two have positives: the median head counts 1, so its row weighs 1 + 20^-1/2 = 1.22.
    assert rare > 1.1 * of_a * 20 / 400


def test_where_there_are_fewer_rows_all_come() -> None:
    assert sorted(draw(10_000).tolist()) == list(range(500))
