from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

import training.adapter
import training.first_stage
from eval.document import plain
from training.adapter import Rows
from training.config import HeadsConfig, ModerationConfig
from training.examples import DISGUISED, HEADS, OWN_ADS, Examples, fold_of
from training.layers import compare_layers
from training.moderation import Run

COUNTS = [1, 2]
GAMBLING, HATE = HEADS.index("gambling"), HEADS.index("hate")


def examples() -> Examples:
    """150 ads of our own, every third disguised; as many open rows; others that nobody may see. One word tells."""
    n = 340
    i = np.arange(n)
    source = np.where(i < 150, OWN_ADS, np.where(i < 300, "posts", np.where(i < 320, "kept", "closed")))
    targets = np.full((n, len(HEADS)), np.nan, dtype=np.float32)
    targets[:, GAMBLING] = i % 2
    targets[:3, HATE] = 1  # too few to be counted
    return Examples(
        texts=tuple(f"{('fresh bread and tea', 'win casino bet')[k % 2]} {k}" for k in range(n)),
        targets=targets,
        source=source,
        licence=np.where(source == "closed", "sa", "open"),
        lang=np.full(n, "en"),
        kind=np.where(i < 150, np.where(i % 3 == 0, DISGUISED, "clean"), "post"),
        group=(i // 2).astype(str),
        region=np.full(n, ""),
    )


@dataclass
class Compared:
    """A finished comparison, and what was seen of it."""

    report: dict[str, Any]
    run: Run
    config: ModerationConfig
    learnt: list[Rows] = field(default_factory=list)
    """Per number of layers, what the adapter learnt from."""
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
        without_sources=("kept",),
    )  # fmt: skip
    config = dataclasses.replace(tiny_config, adapter=adapter, heads=HeadsConfig(hidden=16))
    found = Compared({}, Run(data=folder, out=folder / "report.json", runs=folder / "runs", threads=1), config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.first_stage, "load_examples", lambda *_: examples())
        watch("train_adapter", lambda given, _: found.learnt.append(given[1]), patch)
        watch("logits_of", lambda _, result: found.logits.append(result), patch)
        watch("_held_out", lambda _, result: found.held.append(result), patch)
        found.report = compare_layers(config, found.run, COUNTS)
    return found


def held_out(config: ModerationConfig) -> NDArray[np.intp]:
    """Return the rows that are scored: our own ads but for their copies, then public ones, all of fold 0."""
    some = examples()
    held = fold_of(some.group, folds=config.data.folds, seed=config.seed) == 0
    own = some.source == OWN_ADS
    public = np.flatnonzero(held & (some.source == "posts"))
    return np.concatenate([np.flatnonzero(held & own & (some.kind != DISGUISED)), public])


def test_the_report_says_what_was_compared(compared: Compared) -> None:
    report = compared.report
    assert json.loads(compared.run.out.read_text(encoding="utf-8")) == plain(report)
    assert set(report) == {"title", "created", "command", "seed", "n", "rank", "layers"}
    assert (report["seed"], report["rank"]) == (compared.config.seed, 2)
    assert report["n"]["held_out"] == len(held_out(compared.config))
    assert [each["layers"] for each in report["layers"]] == COUNTS
    for each in report["layers"]:
        assert set(each) == {"layers", "ads", "public"}
        for side in ("ads", "public"):
            assert set(each[side]) == {"rows", "macro_ap", "low", "high", "ap"}
            assert set(each[side]["ap"]) == {"gambling"}
            assert 0 < each[side]["low"] <= each[side]["macro_ap"] <= each[side]["high"] <= 1


def test_all_adapters_see_one_sample_of_what_they_may_see(compared: Compared) -> None:
    some, config = examples(), compared.config
    first, second = compared.learnt
    np.testing.assert_array_equal(first.weighted.targets, second.weighted.targets)
    np.testing.assert_array_equal(first.branch.lengths, second.branch.lengths)
    seen = fold_of(some.group, folds=config.data.folds, seed=config.seed) != 0
    ads, copies = seen & (some.source == OWN_ADS), some.kind == DISGUISED
    wanted = 3 * (ads & ~copies).sum() + (ads & copies).sum() + (seen & (some.source == "posts")).sum()
    assert compared.report["n"]["sample"] == len(first.branch.lengths) == wanted


def test_the_figures_are_those_of_the_held_out_rows(compared: Compared) -> None:
    [rows] = compared.held
    assert sorted(rows.tolist()) == sorted(held_out(compared.config).tolist())
    own = examples().source[rows] == OWN_ADS
    targets = examples().targets[rows, GAMBLING]
    for each, logits in zip(compared.report["layers"], compared.logits, strict=True):
        assert logits.shape == (len(rows), len(HEADS))
        for side, part in (("ads", own), ("public", ~own)):
            expected = average_precision_score(targets[part], logits[part, GAMBLING])
            assert each[side]["macro_ap"] == each[side]["ap"]["gambling"] == pytest.approx(expected)
            assert each[side]["rows"] == part.sum()
            assert expected > 0.8  # one word tells: rows and logits belong together


def test_what_is_trained_is_not_trained_again(compared: Compared, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(training.adapter, "run_steps", never)
    monkeypatch.setattr(training.first_stage, "load_examples", lambda *_: examples())
    assert compare_layers(compared.config, compared.run, COUNTS[:1])["layers"] == compared.report["layers"][:1]
