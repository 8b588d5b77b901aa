from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

import training.balance_report
import training.first_stage
from eval.document import plain
from training.adapter import Rows, TrainedAdapter
from training.balance_report import beats, compare_balances, pull_record
from training.config import BALANCES, HeadsConfig, ModerationConfig
from training.examples import DISGUISED, HEADS, OWN_ADS, Examples, fold_of
from training.first_stage import Compared, gains, scores, train_and_score
from training.head_gradients import PARTS, HeadGradients, head_gradients
from training.moderation import Run

GAMBLING, HATE, DRUGS = (HEADS.index(head) for head in ("gambling", "hate", "drugs"))
ROWS = 60


def examples(disguised: int) -> Examples:
    """A hundred ads of our own, disguised copies, and 150 open rows. One word tells of each of three heads."""
    n = 250 + disguised
    i = np.arange(n)
    words = (("bread", "casino"), ("tea", "hate"), ("shoes", "weed"))
    bits = [i % 2, i // 2 % 2, i // 4 % 2]
    targets = np.full((n, len(HEADS)), np.nan, dtype=np.float32)
    for h, bit in zip((GAMBLING, HATE, DRUGS), bits, strict=True):
        targets[:, h] = bit
    source = np.where((i < 100) | (i >= 250), OWN_ADS, "posts")
    return Examples(
        texts=tuple(" ".join(pair[int(bit[k])] for pair, bit in zip(words, bits, strict=True)) + f" {k}" for k in i),
        targets=targets,
        source=source,
        licence=np.full(n, "open"),
        lang=np.full(n, "en"),
        kind=np.where(i >= 250, DISGUISED, "post"),
        group=i.astype(str),
        region=np.full(n, ""),
    )


@dataclass
class Finished:
    """A finished comparison, and what was seen of it."""

    report: dict[str, Any]
    run: Run
    config: ModerationConfig
    compared: list[Compared] = field(default_factory=list)
    stages: list[tuple[ModerationConfig, TrainedAdapter, Any]] = field(default_factory=list)
    pulled: list[tuple[TrainedAdapter, Rows]] = field(default_factory=list)


@pytest.fixture(scope="module")
def finished(
    tiny_config: ModerationConfig, torch_texts: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Finished:
    folder = tmp_path_factory.mktemp("balance")
    adapter = dataclasses.replace(
        tiny_config.adapter, rows=9_999, ad_repeats=7, english_share=1.0, tokens_per_step=256, learning_rate=0.02,
        head_learning_rate=0.02, balance="pcgrad",
    )  # fmt: skip
    config = dataclasses.replace(tiny_config, adapter=adapter, heads=HeadsConfig(hidden=4))
    found = Finished({}, Run(data=folder, out=folder / "report.json", runs=folder / "runs", threads=1), config)

    def stage(compared: Compared, texts: Any, config: ModerationConfig, **options: Any) -> Any:
        result = train_and_score(compared, texts, config, **options)
        found.compared.append(compared)
        found.stages.append((config, *result))
        return result

    def watched(trained: TrainedAdapter, rows: Rows, config: ModerationConfig) -> HeadGradients:
        found.pulled.append((trained, rows))
        return head_gradients(trained, rows, config)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.first_stage, "load_examples", lambda _, data: examples(30 * data.disguised_copies))
        patch.setattr(training.balance_report, "read_texts", torch_texts)
        patch.setattr(training.balance_report, "train_and_score", stage)
        patch.setattr(training.balance_report, "head_gradients", watched)
        found.report = compare_balances(config, found.run, rows=ROWS)
    return found


def test_the_report_says_what_was_compared(finished: Finished) -> None:
    report = finished.report
    assert json.loads(finished.run.out.read_text(encoding="utf-8")) == plain(report)
    assert report["command"] == f"python wardline.py train balance --rows {ROWS}"
    assert (report["seed"], list(report["strategies"])) == (finished.config.seed, list(BALANCES))
    some = examples(0)
    seen = fold_of(some.group, folds=finished.config.data.folds, seed=finished.config.seed) != 0
    own = some.source == OWN_ADS
    assert report["n"] == {"sample": ROWS + (seen & own).sum(), "held_out": (~seen).sum()}  # each of our ads once


def test_every_strategy_sees_the_same_rows_and_differs_in_nothing_else(finished: Finished) -> None:
    assert len({id(compared) for compared in finished.compared}) == 1
    assert [config.adapter.balance for config, _, _ in finished.stages] == list(BALANCES)
    same = {
        repr(dataclasses.replace(config, adapter=dataclasses.replace(config.adapter, balance="static")))
        for config, _, _ in finished.stages
    }
    assert len(same) == 1
    assert len({trained.folder for _, trained, _ in finished.stages}) == len(BALANCES)
    logits = [found for _, _, found in finished.stages]
    assert not any(np.allclose(logits[i], logits[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_scores_and_gains_are_those_of_the_held_out_rows(finished: Finished) -> None:
    compared = finished.compared[0]
    held = compared.examples.take(compared.held)
    static = finished.stages[0][2]
    for (config, _, logits), name in zip(finished.stages, BALANCES, strict=True):
        found = finished.report["strategies"][name]
        expected = scores(logits, held)
        assert {side: found[side] for side in ("ads", "public")} == expected
        assert all(0 < found[side]["low"] < found[side]["macro_ap"] for side in ("ads", "public"))
        assert set(found["public"]["ap"]) == {"gambling", "hate", "drugs"}
        if config.adapter.balance == "static":
            assert set(found) == {"ads", "public"}
        else:
            assert found["gain"] == gains(logits, static, held)
            assert found["beats_static"] == beats(found["gain"])


def test_the_cosines_are_taken_where_the_static_run_ended(finished: Finished) -> None:
    [(trained, rows)] = finished.pulled
    assert trained == finished.stages[0][1]
    assert len(rows.branch.lengths) == finished.report["n"]["sample"]
    expected = pull_record(head_gradients(trained, rows, finished.stages[0][0]))
    assert plain(finished.report["gradients"]) == plain(expected)
    assert expected["pairs"] == 3


def test_what_is_trained_is_not_trained_again(
    finished: Finished, torch_texts: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("training.adapter.run_steps", never)
    monkeypatch.setattr(training.first_stage, "load_examples", lambda _, data: examples(30 * data.disguised_copies))
    monkeypatch.setattr(training.balance_report, "read_texts", torch_texts)
    again = compare_balances(finished.config, finished.run, rows=ROWS)
    assert plain(again["strategies"]) == plain(finished.report["strategies"])


@pytest.mark.parametrize(
    ("public", "ads", "expected"),
    [
        ((0.01, 0.03), (-0.02, 0.02), True),
        ((0.01, 0.03), (math.nan, math.nan), True),  # no ads of our own were scored
        ((0.01, 0.03), (-0.05, -0.01), False),
        ((-0.01, 0.03), (0.01, 0.02), False),
        ((0.0, 0.03), (0.01, 0.02), False),
        ((math.nan, math.nan), (0.01, 0.02), False),
    ],
)
def test_a_strategy_beats_static_only_beyond_doubt(
    public: tuple[float, float], ads: tuple[float, float], expected: bool
) -> None:
    sides = {"public": public, "ads": ads}
    assert beats({name: {"mean": 0.0, "low": low, "high": high} for name, (low, high) in sides.items()}) is expected


def gradients_by_hand() -> HeadGradients:
    """Gambling against hate in every part; drugs at right angles to both on the whole, aside in two parts."""
    parts = torch.zeros(PARTS, len(HEADS), 3)
    parts[:, GAMBLING] = torch.tensor([1.0, 0.0, 0.0])
    parts[:, HATE] = torch.tensor([-3.0, 4.0, 0.0])
    parts[:, DRUGS] = torch.tensor([0.0, 0.0, 2.0])
    parts[0, DRUGS, 0], parts[1, DRUGS, 0] = 2.0, -2.0
    rows = np.zeros(len(HEADS), dtype=np.int64)
    rows[[GAMBLING, HATE, DRUGS]] = [7, 8, 9]
    return HeadGradients(parts, rows)


def test_pairs_of_heads_by_hand() -> None:
    found = pull_record(gradients_by_hand())
    cosines = found["cosines"]
    assert [cosines[GAMBLING][h] for h in (GAMBLING, HATE, DRUGS)] == pytest.approx([1, -0.6, 0])
    assert cosines[HATE][GAMBLING] == cosines[GAMBLING][HATE]
    unknown = [h for h in range(len(HEADS)) if h not in (GAMBLING, HATE, DRUGS)]
    assert all(cosines[h][k] is None and cosines[k][h] is None for h in unknown for k in range(len(HEADS)))
    assert (found["pairs"], found["conflicting"], found["conflicting_throughout"]) == (3, 1, 1)
    agreement = found["agreement"]
    assert [agreement[GAMBLING], agreement[HATE]] == pytest.approx([1, 1])
    # of ten pairs of parts three are equal, six 45 degrees apart, one 90
    assert agreement[DRUGS] == pytest.approx((3 + 6 * math.sqrt(0.5)) / 10)
    assert agreement[unknown[0]] is None
    assert found["rows"][[GAMBLING, HATE, DRUGS]].tolist() == [7, 8, 9]


def test_a_conflict_in_some_parts_is_none_throughout() -> None:
    gradients = gradients_by_hand()
    gradients.parts[0, HATE, 0] = 3.0
    found = pull_record(gradients)
    assert found["cosines"][GAMBLING][HATE] < 0
    assert (found["conflicting"], found["conflicting_throughout"]) == (1, 0)


def test_families_pull_as_the_sum_of_their_heads() -> None:
    gradients = gradients_by_hand()
    gradients.parts[:, HEADS.index("scam")] = torch.tensor([0.0, 1.0, 0.0])  # of gambling's family
    found = pull_record(gradients)
    assert sorted(found["families"][1]) == sorted(
        ["misinformation", "sensational", "scam", "pressure", "counterfeit", "gambling"]
    )
    # (-3, 4, 0) of hate, (1, 1, 0) of gambling and scam, (0, 0, 2) of drugs
    between = 1 / (5 * math.sqrt(2))
    expected = np.array([[1, between, 0], [between, 1, 0], [0, 0, 1]])
    np.testing.assert_allclose(found["family_cosines"], expected, atol=1e-6)
