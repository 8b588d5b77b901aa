from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from training.examples import HEADS, OWN_ADS, Examples, target_row
from training.sampling import FAMILIES, balanced_sample, draw_pass, row_chances, weigh


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


def test_chances_by_hand() -> None:
    rows = examples(
        [("a", {"hate": 1})] * 3 + [("a", {"drugs": 1, "hate": 0}), ("a", {})] + [("b", {"hate": 1})] + [("b", {})] * 3
    )
    # The median head has at most one positive: a positive adds the root of 1 / positives, 1/2 of hate and 1 of drugs.
    a, b = np.array([1.5, 1.5, 1.5, 2.0, 1.0]), np.array([1.5, 1.0, 1.0, 1.0])
    # Temperature 2: all rows of a source together weigh the square root of how many there are.
    expected = np.concatenate([a * np.sqrt(5) / 7.5, b * 2 / 4.5])
    np.testing.assert_allclose(row_chances(rows), expected, rtol=1e-6)


def test_four_times_the_rows_are_drawn_twice_as_often() -> None:
    chances = row_chances(CROWD)
    assert chances[CROWD.source == "a"].sum() == pytest.approx(2 * chances[CROWD.source == "b"].sum())


# 30 ads of our own, which are the first and the last rows, around the crowd.
BOTH = examples(
    [(OWN_ADS, {"scam": i % 2}) for i in range(10)]
    + [(str(source), {"hate": i % 2}) for i, source in enumerate(CROWD.source)]
    + [(OWN_ADS, {"scam": 0})] * 20
)
OWN = {*range(10), *range(510, 530)}


@pytest.mark.parametrize(("rows", "public"), [(0, 0), (40, 40), (500, 500), (9_999, 500)])
def test_a_pass_holds_every_ad_of_our_own_and_some_public_rows(rows: int, public: int) -> None:
    drawn = draw_pass(BOTH, rows=rows, rng=np.random.default_rng(0)).tolist()
    assert len(set(drawn)) == len(drawn) == 30 + public
    assert set(drawn) >= OWN


def test_public_rows_of_a_pass_are_drawn_by_their_chances() -> None:
    rng = np.random.default_rng(0)
    passes = [draw_pass(BOTH, rows=30, rng=rng) for _ in range(60)]
    assert len({tuple(sorted(drawn.tolist())) for drawn in passes}) == 60  # each pass draws anew
    share = np.mean([(BOTH.source[drawn] == "b").sum() / 30 for drawn in passes])
    assert share == pytest.approx(np.sqrt(100) / (np.sqrt(400) + np.sqrt(100)), abs=0.05)


def test_without_public_rows_a_pass_is_our_own_ads() -> None:
    rows = examples([(OWN_ADS, {"scam": 1})] * 3)
    assert draw_pass(rows, rows=9, rng=np.random.default_rng(0)).tolist() == [0, 1, 2]
