"""Regions end to end over the tiny encoder, then the measures by hand, then what is trained from what."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from torch import nn

import training.branch
import training.region_adapters
import training.region_stage
import training.separate
import training.texts
from moderation.classifier import SLOT
from retrieval_shared.adapters import WEIGHTS
from training.adapter import Rows, train_adapter
from training.base_model import load_rounded
from training.config import HeadsConfig, ModerationConfig, RegionConfig
from training.examples import HEADS, OWN_ADS, Examples
from training.region_stage import (
    ENOUGH,
    SEPARATE,
    Regions,
    RegionStage,
    _recall,
    measure,
    no_worse,
    paired_gain,
    train_regions,
)
from training.sampling import weigh
from training.texts import read_texts
from training.violation_heads import load_heads

GAMBLING = HEADS.index("gambling")
BREAD = ("fresh bread tea", "tea every morning", "bread and shoes", "your morning tea")
BETS = ("free bet win", "casino cash now", "bet cash casino", "win a free bet")
MARKS = {"": "day week", "ID": "rolex watch", "BR": "doctor cure", "TH": "gun knife"}
"""What tells the texts of a region from those of another."""


def rows(*parts: tuple[str, str, int], seed: int = 0) -> Examples:
    """Rows of some (region, source, number), about bread and bets in turn; of every six, the first two are held out.

    Bets are gambling, but in ID bread is, and in BR it is anybody's guess.
    """
    rng = np.random.default_rng(seed)
    found = []
    for region, source, n in parts:
        for i in range(n):
            label = {"ID": 1 - i % 2, "BR": int(rng.integers(2))}.get(region, i % 2)
            text = f"{(BREAD, BETS)[i % 2][rng.integers(4)]} {MARKS.get(region, 'crypto loan')}"
            found.append((text, label, source, region, f"{source}-{i}"))
    texts, labels, sources, regions, groups = (np.array(column) for column in zip(*found, strict=True))
    n = len(found)
    targets = np.full((n, len(HEADS)), np.nan, dtype=np.float32)
    targets[:, GAMBLING] = labels
    return Examples(
        texts=tuple(texts.tolist()), targets=targets, source=sources, licence=np.full(n, "open"),
        lang=np.full(n, "en"), kind=np.full(n, "post"), group=groups, region=regions,
    )  # fmt: skip


def held_out(examples: Examples) -> NDArray[np.bool_]:
    """Return the rows of the held-out fold; TH has none there."""
    number = np.array([int(group.rpartition("-")[2]) for group in examples.group])
    held: NDArray[np.bool_] = (number % 6 < 2) & (examples.region != "TH")
    return held


@dataclass(frozen=True)
class Trained:
    """A finished third stage."""

    at: RegionStage
    config: ModerationConfig
    regions: Regions


@pytest.fixture(scope="module")
def trained(tiny_config: ModerationConfig, two_path_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    runs = tmp_path_factory.mktemp("runs")
    examples = rows(
        ("", "posts", 150), ("", OWN_ADS, 48), ("ID", "of_id", 198), ("BR", "of_br", 198), ("TH", "sms", 60)
    )
    held = held_out(examples)
    config = dataclasses.replace(
        tiny_config,
        base_model=str(two_path_base),
        adapter=dataclasses.replace(
            tiny_config.adapter, tokens_per_step=256, learning_rate=0.02, head_learning_rate=0.02
        ),
        heads=HeadsConfig(hidden=8),
        regions=RegionConfig(least_rows=60, epochs=10, learning_rate=0.03, parent_weight=0.001, separate=True),
    )
    base = load_rounded(config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.branch, "HALF", False)  # float32 on every processor
        patch.setattr(training.separate, "LEARNING_RATE", 5e-3)  # a tiny model wants larger steps
        _export_once(patch)
        texts = read_texts(
            base, examples, config.adapter, runs=runs, threads=1, shared=np.ones(len(examples), dtype=np.bool_)
        )
        learnt = np.repeat(np.flatnonzero(~held & (examples.region == "")), 8)
        adapter = train_adapter(
            load_rounded(config),
            Rows(texts.branch(learnt), weigh(examples.take(learnt), ad_weight=1.0, unlabelled_share=0.3)),
            config.adapter, config.heads, folder=runs / "adapter-0", seed=config.seed,
        )  # fmt: skip
        heads = load_heads(adapter.heads, config.heads).eval()
        at = RegionStage(texts, examples, ~held, held, heads, adapter.folder, runs / "regions", 1)
        return Trained(at, config, train_regions(at, config))


def _export_once(patch: pytest.MonkeyPatch) -> None:
    """Adapters are inputs of the branch graph, which is the same for all of them."""
    real, graphs = training.texts.int8_graph, dict[type, Path]()

    def once(module: nn.Module, path: Path, outputs: tuple[str, ...]) -> Path:
        if type(module) not in graphs:
            graphs[type(module)] = real(module, path, outputs)
        return graphs[type(module)]

    patch.setattr(training.texts, "int8_graph", once)


def of_gambling(trained: Trained, slot: str) -> dict[str, Any]:
    found: dict[str, Any] = trained.regions.record[slot]["heads"]["gambling"]
    return found


def test_a_region_whose_labels_contradict_the_others_gains_and_is_shipped(trained: Trained) -> None:
    found = of_gambling(trained, "region:ID")
    assert found["ap"][SLOT] < 0.5  # it says the opposite
    assert found["ap"]["region:ID"] > 0.9
    assert found["gain"]["low"] > 0.2
    assert trained.regions.record["region:ID"]["shipped"]
    assert trained.regions.shipped == {"region:ID": trained.at.folder / "region-ID" / "adapter"}
    assert trained.regions.parents == {"region:ID": SLOT}
    assert (trained.regions.shipped["region:ID"] / WEIGHTS).is_file()


def test_a_region_whose_labels_are_anybodys_guess_is_not_shipped(trained: Trained) -> None:
    assert of_gambling(trained, "region:BR")["gain"]["low"] < -0.02
    assert not trained.regions.record["region:BR"]["shipped"]


def test_a_region_that_nothing_held_out_speaks_for_is_not_shipped(trained: Trained) -> None:
    assert trained.regions.record["region:TH"] == {
        "parent": SLOT, "rows": 60, "held_out": 0, "mean_gain": None, "heads": {}, "shipped": False,
    }  # fmt: skip


def test_the_record_tells_rows_parents_and_figures(trained: Trained) -> None:
    assert trained.regions.record.keys() == {"region:BR", "region:ID", "region:TH"}
    record = trained.regions.record["region:ID"]
    assert record.keys() == {"parent", "rows", "held_out", "mean_gain", "heads", "shipped"}
    assert (record["parent"], record["rows"], record["held_out"]) == (SLOT, 132, 66)
    assert record["heads"].keys() == {"gambling"}  # nobody labels another head
    found = record["heads"]["gambling"]
    assert found.keys() == {
        "positives", "negatives", "ap", "recall", "gain", "recall_gain", "over_separate", "recall_over_separate",
    }  # fmt: skip
    assert (found["positives"], found["negatives"]) == (33, 33)
    assert found["ap"].keys() == found["recall"].keys() == {SLOT, "region:ID", SEPARATE}
    assert record["mean_gain"] == found["gain"]["mean"] == found["ap"]["region:ID"] - found["ap"][SLOT]
    assert found["over_separate"]["mean"] == found["ap"]["region:ID"] - found["ap"][SEPARATE]


def test_a_model_of_the_regions_own_learnt_the_same_rows(trained: Trained) -> None:
    assert of_gambling(trained, "region:ID")["ap"][SEPARATE] > 0.9
    logits = np.load(trained.at.folder / "separate-region-ID" / "logits.npy")
    assert logits.shape == (66, len(HEADS))
    held = np.flatnonzero(trained.at.held & (trained.at.examples.region == "ID"))
    y = trained.at.examples.targets[held, GAMBLING]
    assert average_precision_score(y, logits[:, GAMBLING]) == pytest.approx(
        of_gambling(trained, "region:ID")["ap"][SEPARATE]
    )


def test_what_is_there_is_not_trained_again(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    _export_once(monkeypatch)
    monkeypatch.setattr(training.region_adapters, "run_steps", never)
    monkeypatch.setattr(training.region_stage, "separate_logits", never)
    assert train_regions(trained.at, trained.config) == trained.regions


def measured(n: int = 50, **logits: Sequence[float]) -> tuple[Examples, dict[str, NDArray[np.float32]]]:
    """`n` rows of DE, the first 20 positive for gambling and 19 for hate, and the logits of both heads."""
    examples = rows(("DE", "posts", n))
    targets = np.full((n, len(HEADS)), np.nan, dtype=np.float32)
    targets[:40, GAMBLING] = np.arange(40) < 20
    targets[:40, HEADS.index("hate")] = np.arange(40) < 19
    scores = {SLOT if name == "moderation" else name: np.zeros((n, len(HEADS)), dtype=np.float32) for name in logits}
    for each, values in zip(scores.values(), logits.values(), strict=True):
        each[:, GAMBLING] = values
    return dataclasses.replace(examples, targets=targets), scores


RIGHT = [*np.linspace(2, 1, 20), *np.linspace(0, -1, 20), *[9.0] * 10]
"""Every positive outranks every negative; rows nobody labelled outrank all."""
HALF = [*[1.0] * 10, *[-2.0] * 10, *[-1.0] * 20, *[9.0] * 10]
"""Half of the positives do."""


def test_heads_with_labels_enough_are_measured_on_their_known_rows() -> None:
    examples, logits = measured(moderation=HALF, slot=RIGHT)
    found = measure("slot", logits, examples)
    assert found.keys() == {"gambling"}  # of hate there are 19 positives
    assert (found["gambling"]["positives"], found["gambling"]["negatives"]) == (ENOUGH, 20)
    # Of moderation's positives ten come first, the others after 30 rows: (10 x 1 + 10 x 20/40) / 20.
    assert found["gambling"]["ap"] == {SLOT: pytest.approx(0.75), "slot": 1.0}
    assert found["gambling"]["recall"] == {SLOT: 0.5, "slot": 1.0}
    assert found["gambling"]["gain"]["mean"] == pytest.approx(0.25)
    assert 0 < found["gambling"]["gain"]["low"] < 0.25 < found["gambling"]["gain"]["high"] < 0.5
    assert "over_separate" not in found["gambling"]


def test_a_model_of_the_regions_own_is_measured_where_there_is_one() -> None:
    examples, logits = measured(moderation=RIGHT, slot=HALF, separate=RIGHT)
    found = measure("slot", logits, examples)["gambling"]
    assert found["ap"] == {SLOT: 1.0, "slot": pytest.approx(0.75), SEPARATE: 1.0}
    assert found["over_separate"] == found["gain"]
    assert found["over_separate"]["mean"] == pytest.approx(-0.25)


def test_a_slot_is_held_against_what_would_serve_in_its_place_and_not_against_its_area() -> None:
    examples, logits = measured(moderation=RIGHT, area=HALF, slot=RIGHT)
    found = measure("slot", logits, examples)["gambling"]
    assert found["ap"].keys() == {"area", "slot", SLOT}
    assert found["gain"] == {"mean": 0, "low": 0, "high": 0}


def gain(scores: Sequence[float], other: Sequence[float], *, y: Sequence[int], groups: str) -> dict[str, float]:
    left, right, labels = (np.array(values, dtype=np.float32) for values in (scores, other, y))
    return paired_gain(labels, left, right, groups=list(groups))


def test_gain_by_hand() -> None:
    # Group a: one ranks the positive first, the other the negative, AP 1 and 1/2. Group b: both are right, AP 1.
    # Both together: of the other's ranking + is at 2 and 4 of 4, AP 1/2 x (1/2 + 2/4) = 1/2. So aa and ab differ by
    # 1/2, bb, a quarter of all resamples, by nothing.
    found = gain([0.9, 0.1, 0.8, 0.2], [0.1, 0.9, 0.8, 0.2], y=[1, 0, 1, 0], groups="aabb")
    assert found == pytest.approx({"mean": 0.5, "low": 0.0, "high": 0.5})
    # Were rows drawn one by one, resamples would differ; a single group is always drawn whole.
    alone = gain([0.9, 0.1, 0.8, 0.2], [0.1, 0.9, 0.8, 0.2], y=[1, 0, 1, 0], groups="aaaa")
    assert alone == pytest.approx({"mean": 0.5, "low": 0.5, "high": 0.5})


def test_gain_in_recall_by_hand() -> None:
    # One is right: recall 1 at precision .9. The other puts b's negative on top, recall 0, unless only a is drawn: 1.
    y, z = (np.array(values, dtype=np.float32) for values in ([1, 0, 1, 0], [0.9, 0.1, 0.8, 0.2]))
    found = paired_gain(y, z, z + np.float32([0, 0, 0, 1]), groups=list("aabb"), metric=_recall)
    assert found == pytest.approx({"mean": 1.0, "low": 0.0, "high": 1.0})
    assert _recall(y, z + np.float32([0, 0, -1, 0]), np.array([3, 1, 1, 1])) == 0.75  # rows that came more than once
    assert np.isnan(_recall(y, z, np.array([0, 1, 0, 1])))


def test_a_loss_is_a_gain_below_zero() -> None:
    found = gain([0.1, 0.9, 0.8, 0.2], [0.9, 0.1, 0.8, 0.2], y=[1, 0, 1, 0], groups="aabb")
    assert found == pytest.approx({"mean": -0.5, "low": -0.5, "high": 0.0})


def test_one_scorer_gains_nothing_over_itself() -> None:
    rng = np.random.default_rng(0)
    y, scores = (rng.random(60) < 0.4).astype(np.float32), rng.normal(size=60).astype(np.float32)
    groups = [str(i // 2) for i in range(60)]
    # However unsure either AP is, both are scored on the same resamples.
    assert paired_gain(y, scores, scores, groups=groups) == {"mean": 0, "low": 0, "high": 0}
    assert paired_gain(y, scores, 2 * scores + 1, groups=groups) == {"mean": 0, "low": 0, "high": 0}  # one order


@pytest.mark.parametrize(
    ("mean", "lows", "shipped"),
    [
        (0.02, (0.0, 0.01), True),
        (0.01, (-0.05, 0.2), True),  # both limits themselves are allowed
        (0.009, (0.0, 0.0), False),
        (0.3, (0.2, -0.051), False),  # clearly worse for one head
        (0.3, (0.2, float("nan")), False),
        (None, (), False),
    ],
)
def test_what_is_shipped(mean: float | None, lows: Sequence[float], shipped: bool) -> None:
    heads = {str(h): {"gain": {"mean": 0.1, "low": low, "high": 0.4}} for h, low in enumerate(lows)}
    config = RegionConfig(ship_gain=0.01, ship_loss=-0.05)
    assert no_worse({"mean_gain": mean, "heads": heads}, config) is shipped


@dataclass
class World:
    """A third stage in which nothing is trained: every adapter has its own share of right answers."""

    right: Mapping[str, float]
    """Folder -> share of the held-out rows that its adapter ranks rightly."""
    parents: dict[str, str] = field(default_factory=dict)
    """Folder of each adapter trained -> its parent's."""
    samples: dict[str, NDArray[np.intp]] = field(default_factory=dict)
    examples: Examples = field(default_factory=lambda: rows(("DE", "de", 180), ("AT", "at", 180), ("", OWN_ADS, 60)))

    def branch(self, chosen: NDArray[np.intp]) -> NDArray[np.intp]:
        return chosen

    whole = branch

    def states(self, adapter: Path, *, folder: Path, threads: int, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the logits themselves."""
        del folder, threads
        y = np.nan_to_num(self.examples.targets[rows])
        wrong = np.arange(len(rows))[:, None] >= self.right[adapter.parent.name] * len(rows)
        return np.where(wrong, 1 - y, y).astype(np.float32)

    def train(self, base: object, given: Rows, *_: object, parent: Path, folder: Path, seed: int) -> Path:
        del base, seed
        self.parents[folder.name] = parent.parent.name
        self.samples[folder.name] = given.branch  # type: ignore[assignment]
        return folder / "adapter"

    def run(self, config: ModerationConfig, folder: Path) -> Regions:
        held = held_out(self.examples)
        at = RegionStage(self, self.examples, ~held, held, nn.Identity(), folder / "adapter-0" / "adapter", folder, 1)  # type: ignore[arg-type]
        return train_regions(at, config)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World({"adapter-0": 0.6, "area-de": 0.8, "region-AT": 0.7, "region-DE": 1.0})
    monkeypatch.setattr(training.region_stage, "load_rounded", lambda config: config)
    monkeypatch.setattr(training.region_stage, "train_region", made.train)
    monkeypatch.setattr(training.region_stage, "logits_of", lambda _heads, states, _rows: states)
    return made


def wants(config: ModerationConfig, **changes: Any) -> ModerationConfig:
    return dataclasses.replace(config, regions=RegionConfig(least_rows=100, **changes))


def test_regions_of_one_language_start_from_their_areas_adapter(
    world: World, tiny_config: ModerationConfig, tmp_path: Path
) -> None:
    found = world.run(wants(tiny_config), tmp_path)
    assert list(world.parents) == ["area-de", "region-AT", "region-DE"]
    assert world.parents == {"area-de": "adapter-0", "region-AT": "area-de", "region-DE": "area-de"}
    assert {slot: each["parent"] for slot, each in found.record.items()} == {
        "area:de": SLOT, "region:AT": "area:de", "region:DE": "area:de",
    }  # fmt: skip
    assert found.record["region:DE"]["heads"]["gambling"]["ap"].keys() == {SLOT, "area:de", "region:DE"}
    # An area serves as a parent only, whatever it gains; without theirs, both would be judged under moderation's.
    assert found.shipped.keys() == {"region:AT", "region:DE"}
    assert found.parents == {"region:AT": "area:de", "region:DE": "area:de"}
    assert found.record["area:de"]["mean_gain"] > 0


def test_no_adapter_learns_from_a_held_out_row(world: World, tiny_config: ModerationConfig, tmp_path: Path) -> None:
    found = world.run(wants(tiny_config, global_share=0.5), tmp_path)
    held = held_out(world.examples)
    for slot, sample in world.samples.items():
        assert not held[sample].any(), slot
    of_at, elsewhere = (world.examples.region[world.samples["region-AT"]] == name for name in ("AT", ""))
    assert (of_at.sum(), elsewhere.sum()) == (120, 30)
    assert (found.record["region:AT"]["rows"], found.record["region:AT"]["held_out"]) == (120, 60)


def test_a_gain_below_the_limit_ships_nothing(world: World, tiny_config: ModerationConfig, tmp_path: Path) -> None:
    found = world.run(wants(tiny_config, ship_gain=0.9), tmp_path)
    assert (found.shipped, found.parents) == ({}, {})


def test_areas_have_no_model_of_their_own_and_a_scored_one_is_not_trained_again(
    world: World, tiny_config: ModerationConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def separate(
        config: ModerationConfig, given: Rows, held: NDArray[np.intp], *_: object, folder: Path, **__: object
    ) -> NDArray[np.float32]:
        del config
        folder.mkdir(parents=True)
        names.append(folder.name)
        np.testing.assert_array_equal(given.branch, world.samples[folder.name.removeprefix("separate-")])  # type: ignore[arg-type]
        return world.examples.targets[held]

    names: list[str] = []
    monkeypatch.setattr(training.region_stage, "separate_logits", separate)
    first = world.run(wants(tiny_config, separate=True), tmp_path)
    assert names == ["separate-region-AT", "separate-region-DE"]
    assert "over_separate" not in first.record["area:de"]["heads"]["gambling"]
    assert first.record["region:AT"]["heads"]["gambling"]["ap"][SEPARATE] == 1.0
    assert world.run(wants(tiny_config, separate=True), tmp_path) == first
    assert len(names) == 2
