from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

import training.adapter
import training.first_stage
from tests.training.conftest import in_held_out_fold, one_word_tells
from training.base_model import load_rounded
from training.branch import TokenBranch
from training.config import HeadsConfig, ModerationConfig
from training.examples import DISGUISED, HEADS, OWN_ADS, Examples
from training.first_stage import Compared, gains, learnt_rows, scores, small_stage, stage_key, train_and_score
from training.moderation import Run
from training.sampling import weigh

GAMBLING, HATE = HEADS.index("gambling"), HEADS.index("hate")
examples = partial(one_word_tells, ads=60, posts=100)


@pytest.fixture
def config(tiny_config: ModerationConfig) -> ModerationConfig:
    adapter = dataclasses.replace(
        tiny_config.adapter, rows=30, english_share=1.0, ad_repeats=3, tokens_per_step=256, without_sources=("kept",)
    )
    return dataclasses.replace(tiny_config, adapter=adapter, heads=HeadsConfig(hidden=4))


@pytest.fixture
def compared(config: ModerationConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compared:
    monkeypatch.setattr(training.first_stage, "load_examples", lambda *_: examples())
    return Compared.of(config, Run(data=tmp_path, out=tmp_path, runs=tmp_path))


def drawn(compared: Compared, rows: NDArray[np.intp]) -> list[int]:
    """Return which of `examples` some rows are."""
    return [int(compared.examples.texts[row].rsplit(" ", 1)[1]) for row in rows]


def test_a_comparison_reads_our_own_ads_once_and_without_copies(config: ModerationConfig) -> None:
    given = dataclasses.replace(config, adapter=dataclasses.replace(config.adapter, balance="pcgrad"))
    assert (given.adapter.ad_repeats, given.data.disguised_copies) == (3, 2)
    small = small_stage(given, 7)
    adapter = dataclasses.replace(given.adapter, rows=7, ad_repeats=1, balance="static")
    assert small == dataclasses.replace(
        given, adapter=adapter, data=dataclasses.replace(given.data, disguised_copies=0)
    )


def test_the_sample_is_of_other_folds_and_only_of_what_it_may_see(compared: Compared, config: ModerationConfig) -> None:
    some = examples()
    seen = ~in_held_out_fold(some, config)
    rows, times = np.unique(drawn(compared, compared.sample), return_counts=True)
    often = dict(zip(rows.tolist(), times.tolist(), strict=True))
    own, copies = some.source == OWN_ADS, some.kind == DISGUISED
    assert {row: n for row, n in often.items() if own[row]} == {
        int(row): 1 if copies[row] else 3 for row in np.flatnonzero(seen & own)
    }
    public = [row for row in often if not own[row]]
    assert len(public) == 30
    assert all(seen[row] and some.source[row] == "posts" for row in public)
    assert compared.counts == {"sample": len(compared.sample), "held_out": len(compared.held)}


def test_all_of_the_held_out_fold_is_scored_but_copies(compared: Compared, config: ModerationConfig) -> None:
    some = examples()
    held = in_held_out_fold(some, config)
    ads = np.flatnonzero(held & (some.source == OWN_ADS) & (some.kind != DISGUISED)).tolist()
    found = drawn(compared, compared.held)
    assert found[: len(ads)] == ads
    assert sorted(found[len(ads) :]) == np.flatnonzero(held & (some.source == "posts")).tolist()


def test_the_rows_of_a_seed_are_the_same_in_every_run(compared: Compared, config: ModerationConfig) -> None:
    run = Run(data=None, out=Path(), runs=Path())
    again, other = Compared.of(config, run), Compared.of(dataclasses.replace(config, seed=config.seed + 1), run)
    assert again.examples.texts == compared.examples.texts
    np.testing.assert_array_equal(again.sample, compared.sample)
    np.testing.assert_array_equal(again.held, compared.held)
    assert sorted(drawn(other, other.sample)) != sorted(drawn(compared, compared.sample))


def test_of_many_public_rows_some_are_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.first_stage, "HELD_OUT_ROWS", 15)
    held = training.first_stage._held_out(examples(), np.arange(20, 160), np.random.default_rng(0))
    ads, public = held[:-15], held[-15:]
    assert ads.tolist() == [i for i in range(20, 60) if i % 3]
    assert len(set(public.tolist())) == 15
    assert set(public.tolist()) <= set(range(60, 160))


def test_another_configuration_is_another_run(compared: Compared, config: ModerationConfig) -> None:
    balanced = dataclasses.replace(config, adapter=dataclasses.replace(config.adapter, balance="pcgrad"))
    other = dataclasses.replace(config, seed=config.seed + 1)
    narrow = dataclasses.replace(config, heads=HeadsConfig(hidden=8))
    fewer = dataclasses.replace(compared, sample=compared.sample[1:])
    keys = [("a", config, compared), ("b", config, compared), ("a", balanced, compared), ("a", other, compared),
            ("a", narrow, compared), ("a", config, fewer)]  # fmt: skip
    assert len({stage_key(*each) for each in keys}) == len(keys)
    unscored = dataclasses.replace(compared, held=compared.held[1:])
    assert stage_key("a", config, unscored) == stage_key("a", config, compared)


def test_a_stage_is_trained_on_the_sample_once_and_scored_on_the_held_out_rows(
    compared: Compared,
    config: ModerationConfig,
    torch_texts: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = dataclasses.replace(config, adapter=dataclasses.replace(config.adapter, head_learning_rate=0.02))
    texts = torch_texts(load_rounded(config), compared.examples)
    trained, logits = train_and_score(compared, texts, config, folder=tmp_path / "stage", threads=1)
    targets = compared.examples.targets[compared.held, GAMBLING]
    assert logits.shape == (len(compared.held), len(HEADS))
    assert average_precision_score(targets, logits[:, GAMBLING]) > 0.9  # one word tells: rows belong together
    assert trained.folder.parent == tmp_path / "stage"

    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(training.adapter, "run_steps", never)
    again, same = train_and_score(compared, texts, config, folder=tmp_path / "stage", threads=1)
    assert again == trained
    np.testing.assert_array_equal(same, logits)


def test_the_sample_is_learnt_with_the_weights_of_the_stage(
    compared: Compared, config: ModerationConfig, torch_texts: Callable[..., Any]
) -> None:
    texts = torch_texts(load_rounded(config), compared.examples)
    rows = learnt_rows(compared, texts, config)
    expected = weigh(
        compared.examples.take(compared.sample), ad_weight=1.0, unlabelled_share=config.heads.unlabelled_share
    )
    np.testing.assert_array_equal(rows.weighted.weights, expected.weights)
    np.testing.assert_array_equal(rows.weighted.targets, expected.targets)
    assert isinstance(rows.branch, TokenBranch)
    assert list(rows.branch.token_ids) == [texts.token_ids[row] for row in compared.sample]


def scored() -> tuple[Examples, NDArray[np.float32]]:
    """Rows and logits of some skill at gambling, and at hate on public rows alone, where it has labels."""
    some, rng = examples(), np.random.default_rng(4)
    some.targets[60:160, HATE] = (np.arange(100) // 2) % 2
    logits = rng.normal(size=some.targets.shape).astype(np.float32)
    logits[:, [GAMBLING, HATE]] += np.nan_to_num(some.targets[:, [GAMBLING, HATE]])
    return some, logits


def test_scores_are_means_over_the_heads_with_enough_labels_of_both_kinds() -> None:
    some, logits = scored()
    found, own = scores(logits, some), some.source == OWN_ADS
    for side, rows, heads in (("ads", own, [GAMBLING]), ("public", ~own, [GAMBLING, HATE])):
        ap = {}
        for h in heads:
            known = rows & ~np.isnan(some.targets[:, h])
            ap[HEADS[h]] = average_precision_score(some.targets[known, h], logits[known, h])
        assert found[side]["ap"] == pytest.approx(ap)
        assert found[side]["macro_ap"] == pytest.approx(np.mean(list(ap.values())))
        assert found[side]["low"] < found[side]["macro_ap"] < found[side]["high"]
        assert found[side]["rows"] == rows.sum()


def test_without_rows_or_labels_there_is_no_score() -> None:
    some, logits = scored()
    ads = np.arange(60)
    found = scores(logits[ads], some.take(ads))["public"]
    assert (found["rows"], found["ap"]) == (0, {})
    assert np.isnan([found["macro_ap"], found["low"], found["high"]]).all()
    unlabelled = some.take(np.arange(4))
    found = scores(logits[:4], unlabelled)["ads"]
    assert np.isnan([found["macro_ap"], found["low"], found["high"]]).all()
    assert np.isnan(gains(logits[:4], logits[:4], unlabelled)["ads"]["mean"])


def test_a_gain_is_the_difference_of_the_scores_paired() -> None:
    some, logits = scored()
    better = logits.copy()
    better[:, [GAMBLING, HATE]] += np.nan_to_num(some.targets[:, [GAMBLING, HATE]])
    found, first, second = gains(better, logits, some), scores(better, some), scores(logits, some)
    for side in ("ads", "public"):
        assert found[side]["mean"] == pytest.approx(first[side]["macro_ap"] - second[side]["macro_ap"])
        assert 0 < found[side]["low"] < found[side]["mean"] < found[side]["high"]
        apart = first[side]["high"] - second[side]["low"]
        assert found[side]["high"] < apart  # both are drawn together
    nothing = gains(logits, logits, some)
    assert all(value == 0 for side in nothing.values() for value in side.values())


def test_average_precision_by_hand() -> None:
    targets = np.full((4, len(HEADS)), np.nan, dtype=np.float32)
    targets[:, GAMBLING] = [1, 0, 1, np.nan]
    targets[:, HATE] = [0, 0, np.nan, np.nan]
    logits = np.zeros_like(targets)
    logits[:, GAMBLING] = logits[:, HATE] = [3, 2, 1, 9]

    def found(*weights: int) -> float:
        [value] = training.first_stage._average_precision(targets, logits, [GAMBLING], np.array(weights))
        return value

    assert found(1, 1, 1, 1) == pytest.approx((1 + 2 / 3) / 2)  # the row above all is of no known label
    assert found(1, 2, 1, 5) == pytest.approx((1 + 2 / 4) / 2)  # a negative that was drawn twice
    assert found(0, 1, 2, 1) == pytest.approx(2 / 3)  # a positive that was not drawn, and one that was twice
    once = np.ones(4, dtype=np.int64)
    both = training.first_stage._average_precision(targets, logits, [GAMBLING, HATE], once)
    assert np.isnan(both[1])
    assert np.isnan(training.first_stage._macro(targets, logits, [GAMBLING, HATE], once))
