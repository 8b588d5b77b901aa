from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

import training.region_adapters
from moderation.classifier import SLOT
from retrieval_shared.adapters import WEIGHTS
from tests.training.conftest import Interrupted, Stopping, random_heads
from training.adapter import Rows, load_peft
from training.base_model import BaseModel, load_base_model, round_to_int8
from training.branch import TokenBranch
from training.config import AdapterConfig, RegionConfig
from training.examples import HEADS, OWN_ADS, Examples
from training.heads import PooledHeads
from training.region_adapters import (
    distance,
    parent_of,
    region_slots,
    rows_of,
    sample_region,
    train_region,
)
from training.sampling import weigh

CONFIG = AdapterConfig(layers=1, rank=2, alpha=4, tokens_per_step=64, checkpoint_steps=4)
REGION = RegionConfig(epochs=3, learning_rate=0.02, parent_weight=0.0)
SEED = 5

pytestmark = pytest.mark.usefixtures("in_float32")


def examples(regions: list[str], sources: list[str] | None = None) -> Examples:
    n = len(regions)
    targets = np.full((n, len(HEADS)), np.nan, dtype=np.float32)
    targets[:, HEADS.index("gambling")] = np.arange(n) % 2
    return Examples(
        texts=tuple(("fresh tea and bread", "free bet win cash")[i % 2] + f" {i}" for i in range(n)), targets=targets,
        source=np.array(sources or ["posts"] * n), licence=np.full(n, "open"), lang=np.full(n, "en"),
        kind=np.full(n, "post"), group=np.arange(n).astype(str), region=np.array(regions),
    )  # fmt: skip


def slots(regions: list[str], *, least_rows: int = 3, without: int = 0) -> list[str]:
    """The slots of some rows, the first ones of which no adapter may see."""
    allowed = np.arange(len(regions)) >= without
    return region_slots(examples(regions), allowed, RegionConfig(least_rows=least_rows))


def test_areas_of_two_regions_come_first_then_every_region_with_rows_enough() -> None:
    rows = ["DE"] * 3 + ["AT"] * 4 + ["ID"] * 3 + ["CH"] * 2 + ["US"] * 5 + [""] * 9 + ["GB"] * 2
    # English has one region with rows enough: its adapter would be the region's own.
    assert slots(rows) == ["area:de", "region:AT", "region:DE", "region:ID", "region:US"]
    assert slots(rows, least_rows=2) == [
        "area:de", "area:en", "region:AT", "region:CH", "region:DE", "region:GB", "region:ID", "region:US",
    ]  # fmt: skip
    assert slots(rows, least_rows=6) == []


def test_rows_that_no_adapter_may_see_are_not_counted() -> None:
    rows = ["DE"] * 3 + ["AT"] * 3
    assert slots(rows, without=1) == ["region:AT"]
    assert slots(rows, without=6) == []


def test_an_areas_rows_are_those_of_all_its_regions() -> None:
    some = examples(["DE", "", "AT", "ID", "GB", "CH", "DE"])
    assert np.flatnonzero(rows_of("area:de", some)).tolist() == [0, 2, 5, 6]
    assert np.flatnonzero(rows_of("region:DE", some)).tolist() == [0, 6]
    assert np.flatnonzero(rows_of("region:VN", some)).tolist() == []


def test_a_parent_without_an_adapter_is_passed_over() -> None:
    assert parent_of("region:AT", [SLOT, "area:de"]) == "area:de"
    assert parent_of("region:AT", [SLOT, "area:en"]) == SLOT
    assert parent_of("region:ID", [SLOT]) == SLOT
    assert parent_of("area:de", [SLOT]) == SLOT


# 60 rows of DE, 40 of ID, 200 of nowhere, 30 of our own ads; of each every third is held out.
CROWD = examples(["DE"] * 60 + ["ID"] * 40 + [""] * 230, ["posts"] * 300 + [OWN_ADS] * 30)
USABLE = np.arange(330) % 3 > 0
KIND = np.array(["DE"] * 60 + ["ID"] * 40 + ["nowhere"] * 200 + ["ads"] * 30)


def sample(slot: str, *, seed: int = 0, **changes: Any) -> NDArray[np.intp]:
    config = dataclasses.replace(RegionConfig(), **changes)
    return sample_region(slot, CROWD, USABLE, config, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("changes", "own", "ads", "others"),
    [
        ({}, 40, 20, 20),  # all 20 of our own ads fill half of the others
        ({"most_rows": 10}, 10, 5, 5),
        ({"most_rows": 10, "global_share": 0.4}, 10, 2, 2),
        ({"global_share": 2.0}, 40, 20, 60),  # ads are wanting: the rest comes from elsewhere
        ({"global_share": 0.0}, 40, 0, 0),
        ({"global_share": 99.0}, 40, 20, 26 + 134),  # all there are
    ],
)
def test_a_sample_is_the_regions_rows_and_as_many_others_half_of_them_our_own_ads(
    changes: dict[str, Any], own: int, ads: int, others: int
) -> None:
    drawn = sample("region:DE", **changes)
    kinds = Counter(KIND[drawn].tolist())
    assert (kinds["DE"], kinds["ads"], kinds["ID"] + kinds["nowhere"]) == (own, ads, others)
    assert len(set(drawn.tolist())) == len(drawn)
    assert USABLE[drawn].all()  # no row of the held-out fold


def test_the_seed_decides_which_rows_are_drawn() -> None:
    first, again, other = (sample("region:DE", seed=seed, most_rows=10) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert set(first.tolist()) != set(other.tolist())


def test_an_area_draws_from_all_its_regions() -> None:
    some = examples(["DE"] * 6 + ["AT"] * 6 + [""] * 6)
    drawn = sample_region("area:de", some, np.ones(18, dtype=np.bool_), RegionConfig(), np.random.default_rng(0))
    assert Counter(some.region[drawn].tolist()) == {"DE": 6, "AT": 6, "": 6}


def rounded(folder: Path) -> BaseModel:
    base = load_base_model(str(folder))
    round_to_int8(base)
    return base


def rows(base: BaseModel, n: int = 24) -> Rows:
    some = examples(["ID"] * n)
    token_ids = [encoding.ids for encoding in base.tokenizer.encode_batch(list(some.texts))]
    return Rows(TokenBranch(token_ids, base), weigh(some, ad_weight=1.0, unlabelled_share=0.3))


@pytest.fixture
def heads(tiny_base: Path) -> PooledHeads:
    found = random_heads(rounded(tiny_base).model)
    with torch.no_grad():
        found.judge.bias.zero_()
    return found


@dataclass(frozen=True)
class Setting:
    """What every run here shares."""

    base: Path
    parent: Path
    heads: PooledHeads
    out: Path

    def train(self, name: str = "region-ID", *, given: Rows | None = None, **changes: Any) -> dict[str, Tensor]:
        """The matrices of an adapter."""
        base = rounded(self.base)
        done = train_region(
            base, given or rows(base), self.heads, CONFIG, dataclasses.replace(REGION, **changes),
            parent=self.parent, folder=self.out / name, seed=SEED,
        )  # fmt: skip
        assert done == self.out / name / "adapter"
        return self.read(done)

    @staticmethod
    def read(folder: Path) -> dict[str, Tensor]:
        found: dict[str, Tensor] = load_file(str(folder / WEIGHTS))
        return found

    def moved(self, matrices: dict[str, Tensor]) -> float:
        """Return the squared distance from the parent's."""
        parent = self.read(self.parent)
        assert matrices.keys() == parent.keys()
        return float(sum((value - parent[name]).square().sum() for name, value in matrices.items()))

    def loss(self, folder: Path) -> float:
        """Return the cross-entropy of all rows under an adapter, without their distance from the parent's."""
        base = rounded(self.base)
        given = rows(base)
        model = load_peft(base.model, folder)
        everything = np.arange(len(given.branch.lengths))
        with torch.no_grad():
            return float(training.region_adapters._loss(model, self.heads, given, everything, {}, 0.0))


@pytest.fixture
def setting(tiny_base: Path, tiny_adapter: Path, heads: PooledHeads, tmp_path: Path) -> Setting:
    return Setting(tiny_base, tiny_adapter, heads, tmp_path)


def test_an_adapter_starts_as_its_parent(setting: Setting) -> None:
    parent = setting.read(setting.parent)
    untrained = setting.train("no-step", given=rows(rounded(setting.base), 0))
    still = setting.train("no-rate", learning_rate=0.0)
    for found in (untrained, still):
        assert found.keys() == parent.keys()
        assert all(torch.equal(found[name], parent[name]) for name in parent)


def test_it_learns_its_rows_and_its_parents_weight_holds_it_back(setting: Setting) -> None:
    found = [setting.train(f"weight-{weight}", parent_weight=weight, epochs=10) for weight in (0.0, 0.5, 50.0)]
    free, held, tight = (setting.moved(matrices) for matrices in found)
    assert free > 4 * held > 40 * tight > 0
    before = setting.loss(setting.parent)
    loose, near = (setting.loss(setting.out / f"weight-{weight}" / "adapter") for weight in (0.0, 50.0))
    assert loose < 0.2 * before
    assert near == pytest.approx(before, rel=0.05)


def test_the_distance_by_hand() -> None:
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0]]))
        model.bias.fill_(0.5)
    start = {"weight": torch.tensor([[4.0, 2.0]]), "bias": torch.tensor([0.5])}
    found = distance(model, start)
    assert found.item() == (9 + 16 + 0) / 2
    found.backward()  # type: ignore[no-untyped-call]
    assert model.weight.grad is not None
    assert model.weight.grad.tolist() == [[-3, -4]]  # half the square's: the way back
    assert distance(model, {"bias": torch.tensor([2.5])}).item() == 2  # what is not trained is not counted
    assert distance(model, {}).item() == 0


def test_the_loss_is_the_rows_and_the_weighted_distance(setting: Setting) -> None:
    base = rounded(setting.base)
    model = load_peft(base.model, setting.parent)
    start = {name: value.detach() + 0.5 for name, value in model.named_parameters() if ".lora_" in name}
    batch = np.arange(4)
    with torch.no_grad():
        parts = [
            training.region_adapters._loss(model, setting.heads, rows(base), batch, start, weight).item()
            for weight in (0.0, 2.0)
        ]
    assert parts[1] - parts[0] == pytest.approx(2 * 0.25 * sum(value.numel() for value in start.values()) / 2)


def test_heads_and_base_stay_as_they_were(setting: Setting) -> None:
    before = copy.deepcopy(setting.heads.state_dict())
    base = rounded(setting.base)
    train_region(base, rows(base), setting.heads, CONFIG, REGION, parent=setting.parent, folder=setting.out, seed=SEED)
    after = setting.heads.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(value.requires_grad and value.grad is None for value in setting.heads.parameters())
    found = {name.replace(".base_layer.", "."): value for name, value in base.model.state_dict().items()}
    for name, value in rounded(setting.base).model.state_dict().items():
        assert torch.equal(found[name], value), name


def test_heads_that_drop_values_judge_without_it(setting: Setting) -> None:
    plain = setting.train("plain")
    setting.heads.train().dropout.fill_(0.9)
    dropping = setting.train("dropping")
    assert all(torch.equal(dropping[name], value) for name, value in plain.items())


def test_a_stopped_run_that_resumes_ends_where_an_unbroken_one_does(setting: Setting) -> None:
    weight = 0.5  # what it is held to is the parent, not where it resumed
    unbroken = setting.train("unbroken", parent_weight=weight)
    base = rounded(setting.base)
    given = rows(base)
    with pytest.raises(Interrupted):
        setting.train("broken", given=Rows(Stopping(given.branch, 6), given.weighted), parent_weight=weight)
    assert torch.load(setting.out / "broken" / "checkpoint.pt", weights_only=True)["step"] == 4
    resumed = setting.train("broken", parent_weight=weight)
    assert all(torch.equal(resumed[name], value) for name, value in unbroken.items())
    assert not (setting.out / "broken" / "checkpoint.pt").exists()


def test_a_finished_adapter_is_not_trained_again(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    first = setting.train()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(training.region_adapters, "run_steps", never)
    again = setting.train()
    assert all(torch.equal(again[name], value) for name, value in first.items())
