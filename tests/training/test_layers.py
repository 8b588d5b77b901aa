from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

import training.adapter
import training.first_stage
from eval.document import plain
from eval.metrics.bootstrap import group_weights
from tests.training.conftest import in_held_out_fold, one_word_tells
from training.config import DataConfig, HeadsConfig, ModerationConfig
from training.examples import DISGUISED, HEADS, OWN_ADS, Examples
from training.first_stage import small_stage
from training.layers import compare_layers
from training.moderation import Run

COUNTS, ROWS = [1, 2, 1], 60
"""The third number of layers is held against the second, not the first."""
GAMBLING = HEADS.index("gambling")


def examples(*, copies: bool = False) -> Examples:
    """150 ads of our own, every third a copy; as many open rows; others that nobody may see. One word tells most."""
    some = one_word_tells(ads=150, posts=150)
    some.targets[::11, GAMBLING] = 1 - some.targets[::11, GAMBLING]  # so that no adapter is without fault
    return some if copies else some.take(np.flatnonzero(some.kind != DISGUISED))


def loaded(_: Path, data: DataConfig) -> Examples:
    return examples(copies=data.disguised_copies > 0)


@dataclass
class Compared:
    """A finished comparison, and what was seen of it."""

    report: dict[str, Any]
    run: Run
    config: ModerationConfig
    stages: list[tuple[Any, ...]] = field(default_factory=list)
    """Per number of layers, what the adapter was trained with: a model, rows, configurations."""
    logits: list[NDArray[np.float32]] = field(default_factory=list)
    """Per number of layers, of the held-out rows."""
    held: list[NDArray[np.intp]] = field(default_factory=list)
    """The held-out rows, once."""


def watch(name: str, into: Callable[[tuple[Any, ...], Any], None], patch: pytest.MonkeyPatch) -> None:
    """Let `into` see arguments and result of a function that `training.first_stage` calls."""
    real = getattr(training.first_stage, name)

    def watched(*given: Any, **options: Any) -> Any:  # noqa: ANN401
        result = real(*given, **options)
        into(given, result)
        return result

    patch.setattr(training.first_stage, name, watched)


@pytest.fixture(scope="module")
def compared(tiny_config: ModerationConfig, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    folder = tmp_path_factory.mktemp("layers")
    adapter = dataclasses.replace(
        tiny_config.adapter, rows=1_000, english_share=1.0, ad_repeats=3, tokens_per_step=128, head_learning_rate=0.02,
        without_sources=("kept",), balance="pcgrad",
    )  # fmt: skip
    config = dataclasses.replace(tiny_config, adapter=adapter, heads=HeadsConfig(hidden=16))
    found = Compared({}, Run(data=folder, out=folder / "report.json", runs=folder / "runs", threads=1), config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.first_stage, "load_examples", loaded)
        watch("train_adapter", lambda given, _: found.stages.append(given), patch)
        watch("logits_of", lambda _, result: found.logits.append(result), patch)
        watch("_held_out", lambda _, result: found.held.append(result), patch)
        found.report = compare_layers(config, found.run, COUNTS, rows=ROWS)
    return found


def test_the_report_says_what_was_compared(compared: Compared) -> None:
    report, some = compared.report, examples()
    assert json.loads(compared.run.out.read_text(encoding="utf-8")) == plain(report)
    assert set(report) == {"title", "created", "command", "seed", "n", "rank", "layers"}
    assert report["command"] == f"python wardline.py train layers --rows {ROWS}"
    assert (report["seed"], report["rank"]) == (compared.config.seed, 2)
    ads = ~in_held_out_fold(some, compared.config) & (some.source == OWN_ADS)
    assert report["n"] == {"sample": ROWS + ads.sum(), "held_out": len(compared.held[0])}
    assert [each["layers"] for each in report["layers"]] == COUNTS
    assert [set(each) - {"gain"} for each in report["layers"]] == [{"layers", "ads", "public"}] * 3
    assert ["gain" in each for each in report["layers"]] == [False, True, True]
    for each in report["layers"]:
        for side in ("ads", "public"):
            assert set(each[side]) == {"rows", "macro_ap", "low", "high", "ap"}
            assert set(each[side]["ap"]) == {"gambling"}
            assert 0 < each[side]["low"] <= each[side]["macro_ap"] <= each[side]["high"] <= 1


def test_stages_differ_in_the_number_of_layers_alone(compared: Compared) -> None:
    small = small_stage(compared.config, ROWS)
    (_, first, *_), (_, second, *_), _ = compared.stages
    assert len(first.branch.lengths) == compared.report["n"]["sample"]
    np.testing.assert_array_equal(first.weighted.targets, second.weighted.targets)
    np.testing.assert_array_equal(first.branch.lengths, second.branch.lengths)
    assert [stage[2:] for stage in compared.stages] == [
        (dataclasses.replace(small.adapter, layers=layers), small.heads) for layers in COUNTS
    ]


def test_the_figures_are_those_of_the_held_out_rows(compared: Compared) -> None:
    some, [rows] = examples(), compared.held
    own, targets = some.source[rows] == OWN_ADS, some.targets[rows, GAMBLING]
    scored = in_held_out_fold(some, compared.config) & np.isin(some.source, [OWN_ADS, "posts"])
    assert sorted(rows.tolist()) == np.flatnonzero(scored).tolist()
    for each, logits in zip(compared.report["layers"], compared.logits, strict=True):
        assert logits.shape == (len(rows), len(HEADS))
        for side, part in (("ads", own), ("public", ~own)):
            expected = average_precision_score(targets[part], logits[part, GAMBLING])
            assert each[side]["macro_ap"] == each[side]["ap"]["gambling"] == pytest.approx(expected)
            assert each[side]["rows"] == part.sum()
            assert expected > 0.7  # one word tells most: rows and logits belong together


def test_a_gain_is_over_the_entry_before_on_the_same_resamples(compared: Compared) -> None:
    some, [rows] = examples(), compared.held
    own = some.source[rows] == OWN_ADS
    for side, part in (("ads", own), ("public", ~own)):
        held, rng = some.take(rows[part]), np.random.default_rng(0)
        every = np.arange(part.sum())
        drawn = [np.repeat(every, group_weights(held.group.tolist(), rng=rng)) for _ in range(200)]
        ap = [
            [average_precision_score(held.targets[each, GAMBLING], logits[part, GAMBLING][each]) for each in drawn]
            for logits in compared.logits
        ]
        for entry in (1, 2):
            after, before = (compared.report["layers"][i] for i in (entry, entry - 1))
            low, high = np.quantile(np.subtract(ap[entry], ap[entry - 1]), [0.025, 0.975])
            mean = after[side]["macro_ap"] - before[side]["macro_ap"]
            assert after["gain"][side] == pytest.approx({"mean": mean, "low": low, "high": high})
            assert low < mean < high  # the two do not rank alike


def test_what_is_trained_is_not_trained_again(compared: Compared, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(training.adapter, "run_steps", never)
    monkeypatch.setattr(training.first_stage, "load_examples", loaded)
    again = compare_layers(compared.config, compared.run, COUNTS[:1], rows=ROWS)
    assert again["layers"] == compared.report["layers"][:1]
