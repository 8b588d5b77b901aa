from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

import training.adapter
from retrieval_shared.adapters import CONFIG as ADAPTER_CONFIG
from retrieval_shared.adapters import LORA_A, LORA_B, WEIGHTS, read_adapter
from retrieval_shared.head import ATTENTION_HEADS_KEY
from retrieval_shared.torch_families import FAMILIES, family_adapter, slot_encoder
from tests.training.conftest import Interrupted, Stopping
from training.adapter import (
    Rows,
    TrainedAdapter,
    load_peft,
    lora_config,
    lora_groups,
    read_matrices,
    sample_rows,
    save_adapter,
    shared_parameters,
    train_adapter,
)
from training.base_model import BaseModel, load_base_model, round_to_int8
from training.branch import TokenBranch
from training.config import BALANCES, AdapterConfig, HeadsConfig
from training.encoder_config import SharedConfig
from training.examples import DISGUISED, HEADS, OWN_ADS, Examples
from training.heads import PooledHeads
from training.loop import run_steps
from training.losses.masked_bce import masked_bce
from training.pooling import pooling_block
from training.sampling import Weighted, weigh

# Alpha / rank is no power of two, so that a scale that is forgotten or applied twice shows.
CONFIG = AdapterConfig(
    layers=1, rank=2, alpha=3, rows=20, ad_repeats=2, tokens_per_step=64, learning_rate=0.02, checkpoint_steps=4
)
HEADS_CONFIG = HeadsConfig(hidden=4, attention_heads=2)  # the tiny encoder has four
IDS = torch.tensor([[2, 60, 70, 80, 3], [2, 90, 3, 0, 0]])
MASK = (IDS > 0).long()
SEED = 5


def examples(n: int = 60) -> Examples:
    """Six ads of our own, of which the odd ones are disguised copies, then public rows; about tea and bets in turn."""
    texts = [("free bet win cash " if i % 2 else "fresh tea and bread ") * 2 + f"{i}" for i in range(n)]
    targets = np.full((n, len(HEADS)), np.nan, dtype=np.float32)
    targets[:, HEADS.index("gambling")] = np.arange(n) % 2
    return Examples(
        texts=tuple(texts),
        targets=targets,
        source=np.array([OWN_ADS if i < 6 else "public" for i in range(n)]),
        licence=np.full(n, "open"),
        lang=np.array([("en", "fi")[i % 2] for i in range(n)]),
        kind=np.array([("clean", DISGUISED)[i % 2] if i < 6 else "post" for i in range(n)]),
        group=np.array([str(i) for i in range(n)]),
        region=np.full(n, ""),
    )


def rounded(folder: Path) -> BaseModel:
    base = load_base_model(str(folder))
    round_to_int8(base)
    return base


def rows_of(folder: Path) -> Rows:
    base, some = rounded(folder), examples()
    token_ids = [encoding.ids for encoding in base.tokenizer.encode_batch(list(some.texts))]
    return Rows(TokenBranch(token_ids, base), weigh(some, ad_weight=1.0, unlabelled_share=0.3))


def train(folder: Path, out: Path, *, rows: Rows | None = None, config: AdapterConfig = CONFIG) -> TrainedAdapter:
    return train_adapter(rounded(folder), rows or rows_of(folder), config, HEADS_CONFIG, folder=out, seed=SEED)


@pytest.fixture(scope="module")
def trained(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedAdapter:
    return train(tiny_base, tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module")
def saved(trained: TrainedAdapter) -> Path:
    """The adapter as it is served."""
    folder = trained.folder.with_name("served")
    save_adapter(trained.folder, folder, name="region:ID", encoder="e" * 64, base="tiny", parent="task:moderation")
    return folder


def loss_of(model: nn.Module, pool: nn.Module, rows: Rows) -> float:
    """Return the loss over all rows at once."""
    with torch.no_grad():
        logits, _ = pool.eval()(*rows.branch.read(model, np.arange(len(rows.branch.lengths))))
        return masked_bce(logits, *(torch.from_numpy(x) for x in (rows.weighted.targets, rows.weighted.weights))).item()


def test_adapter_and_heads_both_lower_the_loss(trained: TrainedAdapter, tiny_base: Path) -> None:
    base, rows = rounded(tiny_base), rows_of(tiny_base)
    torch.manual_seed(SEED)
    block = pooling_block(base.model, attention_heads=2)
    pool = PooledHeads(block, len(HEADS), hidden=HEADS_CONFIG.hidden)  # where training began
    before = loss_of(base.model, pool, rows)
    pool.load_state_dict(load_file(str(trained.heads)))
    heads_alone = loss_of(base.model, pool, rows)
    both = loss_of(load_peft(rounded(tiny_base).model, trained.folder), pool, rows)
    assert both < heads_alone < before


def test_lora_is_on_the_upper_layer_alone(trained: TrainedAdapter) -> None:
    state = load_file(str(trained.folder / WEIGHTS))
    assert set(state) == {
        f"base_model.model.encoder.layer.1.{linear}.lora_{side}.weight"
        for linear in FAMILIES["bert"].linears.values()
        for side in "AB"
    }
    assert min(float(value.abs().max()) for value in state.values()) > 0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("layers", "carry"), [(1, {1}), (2, {0, 1})])
def test_as_many_upper_layers_carry_lora_as_the_configuration_says(
    tiny_families: dict[str, Path], family: str, layers: int, carry: set[int]
) -> None:
    model = load_base_model(str(tiny_families[family])).model
    adapted = get_peft_model(model, lora_config(AdapterConfig(layers=layers, rank=2), model))
    found = {name.partition(".lora_A")[0] for name, _ in adapted.named_parameters() if ".lora_A." in name}
    paths = FAMILIES[family].paths(2)
    assert found == {f"base_model.model.{path}" for name, path in paths.items() if int(name.split(".")[1]) in carry}


def test_more_layers_than_the_encoder_has_are_refused(tiny_base: Path) -> None:
    with pytest.raises(ValueError, match=r"adapter\.layers: found 3, allowed 1 to 2, which the encoder has"):
        lora_config(AdapterConfig(layers=3), rounded(tiny_base).model)


def test_the_joint_adaptation_is_on_all_layers(tiny_base: Path) -> None:
    config = lora_config(SharedConfig(rank=2, alpha=4), rounded(tiny_base).model)
    assert (config.r, config.lora_alpha, len(config.target_modules)) == (2, 4, 6)
    assert config.layers_to_transform is None


def test_groups_name_the_uppermost_layer_first(tiny_base: Path) -> None:
    config = AdapterConfig(layers=2, rank=2, learning_rate=0.25, unfreeze=0.125)
    model = rounded(tiny_base).model
    adapted = get_peft_model(model, lora_config(config, model))
    groups = lora_groups(adapted, config)
    assert [(group["lr"], group["start"]) for group in groups] == [(0.25, 0.125), (0.25, 0.25)]
    for group, layer in zip(groups, (1, 0), strict=True):
        own = [p for name, p in adapted.named_parameters() if f".layer.{layer}." in name and ".lora_" in name]
        assert {id(p) for p in group["params"]} == {id(p) for p in own}
        assert len(group["params"]) == 12


def test_heads_learn_first_then_the_upper_layer_then_the_lower_one(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt: list[tuple[bool, bool, bool]] = []

    def watched(modules: Sequence[nn.Module], *rest: Any, **options: Any) -> None:  # noqa: ANN401
        model, pool, *_ = modules
        look = pool.get_parameter("judge.look").detach().clone()

        def moved(layer: int) -> bool:
            own = [p for name, p in model.named_parameters() if f".layer.{layer}." in name and ".lora_B." in name]
            return any(bool(p.any()) for p in own)  # B begins at zero

        def after(_: int) -> None:
            learnt.append((not torch.equal(look, pool.get_parameter("judge.look")), moved(1), moved(0)))

        run_steps(modules, *rest, after=after, **options)

    monkeypatch.setattr(training.adapter, "run_steps", watched)
    config = AdapterConfig(layers=2, rank=2, tokens_per_step=64, unfreeze=0.25)
    train(tiny_base, tmp_path, config=config)
    quarter = round(len(learnt) / 4)
    first, second = quarter, round(len(learnt) / 2)
    assert 1 < first < second
    assert learnt == [(True, step >= first, step >= second) for step in range(len(learnt))]


def test_the_base_is_left_as_it_was(tiny_base: Path, tmp_path: Path) -> None:
    base = rounded(tiny_base)
    train_adapter(base, rows_of(tiny_base), CONFIG, HEADS_CONFIG, folder=tmp_path, seed=SEED)
    found = {name.replace(".base_layer.", "."): value for name, value in base.model.state_dict().items()}
    for name, value in rounded(tiny_base).model.state_dict().items():
        assert torch.equal(found[name], value), name


def test_the_heads_of_the_first_stage_have_every_head_and_a_block(trained: TrainedAdapter, tiny_base: Path) -> None:
    heads = load_file(str(trained.heads))
    assert heads["judge.look"].shape == (len(HEADS), 32)
    assert heads["judge.outer"].shape == (len(HEADS), 4)
    with safe_open(str(trained.heads), framework="pt") as file:
        assert file.metadata()[ATTENTION_HEADS_KEY] == "2"
    copied = pooling_block(rounded(tiny_base).model)
    for name, value in copied.parts().items():
        assert heads[f"block.{name}"].shape == value.shape
        # The block learns along, but for what a softmax does not see.
        assert torch.equal(heads[f"block.{name}"], value) == (name == "key.bias")
    names = {path.name for path in trained.folder.parent.iterdir()} - {"served"}
    assert names == {"adapter", "heads.safetensors", "checkpoint.curve.json"}  # the checkpoint is gone


def test_a_stopped_run_that_resumes_ends_where_an_unbroken_one_does(
    trained: TrainedAdapter, tiny_base: Path, tmp_path: Path
) -> None:
    rows = rows_of(tiny_base)
    for steps in (6, 3):  # with a checkpoint every four steps: after the 4th, then after the 7th of them no new one
        with pytest.raises(Interrupted):
            train(tiny_base, tmp_path, rows=Rows(Stopping(rows.branch, steps), rows.weighted))
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 4
    resumed = train(tiny_base, tmp_path, rows=rows)
    for left, right in ((trained.heads, resumed.heads), (trained.folder / WEIGHTS, resumed.folder / WEIGHTS)):
        first, second = load_file(str(left)), load_file(str(right))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)


def three_families(folder: Path) -> Rows:
    """Rows whose labels of one family are the opposite of another's, and a third family's neither."""
    rows = rows_of(folder)
    targets, i = np.zeros_like(rows.weighted.targets), np.arange(len(rows.branch.lengths))
    for head, labels in (("gambling", i % 2), ("hate", 1 - i % 2), ("political", i // 2 % 2)):
        targets[:, HEADS.index(head)] = labels
    return Rows(rows.branch, Weighted(targets=targets, weights=np.float32(targets.any(axis=0)) + 0 * targets))


def test_the_balance_of_the_configuration_decides_and_a_stopped_run_resumes(tiny_base: Path, tmp_path: Path) -> None:
    rows, ends = three_families(tiny_base), {}
    for balance in BALANCES:
        config = dataclasses.replace(CONFIG, balance=balance)
        ends[balance] = load_file(str(train(tiny_base, tmp_path / balance, rows=rows, config=config).heads))
        with pytest.raises(Interrupted):
            train(tiny_base, tmp_path / "stopped", rows=Rows(Stopping(rows.branch, 6), rows.weighted), config=config)
        resumed = load_file(str(train(tiny_base, tmp_path / "stopped", rows=rows, config=config).heads))
        assert all(torch.equal(resumed[name], value) for name, value in ends[balance].items())
        shutil.rmtree(tmp_path / "stopped")
    blocks = [end["block.value.weight"] for end in ends.values()]
    assert not any(torch.allclose(blocks[i], blocks[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_heads_share_the_adapter_and_the_block(tiny_base: Path) -> None:
    model = rounded(tiny_base).model
    pool = PooledHeads(pooling_block(model), len(HEADS), hidden=4)
    adapted = get_peft_model(model, lora_config(CONFIG, model))
    found = {id(parameter) for parameter in shared_parameters(adapted, pool)}
    lora = {id(p) for name, p in adapted.named_parameters() if ".lora_" in name}
    assert found == lora | {id(p) for p in pool.block.parameters()}


def test_a_finished_adapter_is_not_trained_again(
    trained: TrainedAdapter, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(training.adapter, "run_steps", never)
    assert train(tiny_base, trained.folder.parent) == trained


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_what_was_trained_is_what_a_slot_computes(tiny_families: dict[str, Path], family: str, tmp_path: Path) -> None:
    folder = tiny_families[family]
    adapter = train(folder, tmp_path).folder
    base = rounded(folder)
    matrices = family_adapter(load_file(str(adapter / WEIGHTS)), base.model)
    slots = slot_encoder(base.model, [matrices], rank=2, scale=1.5, branch_layers=1)
    with torch.no_grad():
        plain, adapted = (slots(IDS, MASK, torch.arange(2), torch.full((2,), slot)) for slot in (0, 1))
        oracle = load_peft(rounded(folder).model, adapter)(input_ids=IDS, attention_mask=MASK).last_hidden_state
    assert (adapted - oracle)[MASK > 0].abs().max() < 1e-4
    assert (adapted - plain)[MASK > 0].abs().max() > 1e-3


def test_a_saved_adapter_says_whose_it_is_in_half_precision(saved: Path, trained: TrainedAdapter) -> None:
    with safe_open(str(saved / WEIGHTS), framework="pt") as file:
        metadata = file.metadata()
    assert metadata == {
        "format": "pt",
        "wardline.name": "region:ID",
        "wardline.encoder": "e" * 64,
        "wardline.parent": "task:moderation",
    }
    before, after = load_file(str(trained.folder / WEIGHTS)), load_file(str(saved / WEIGHTS))
    assert before.keys() == after.keys()
    for name, value in after.items():
        assert value.dtype == torch.float16
        assert torch.equal(value, before[name].half())
    described = json.loads((saved / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    assert described["base_model_name_or_path"] == "tiny"
    assert described["target_modules"] == sorted(FAMILIES["bert"].linears.values())


def test_an_adapter_of_the_base_names_no_parent_and_replaces_what_lay_there(
    trained: TrainedAdapter, tmp_path: Path
) -> None:
    (tmp_path / "stale.bin").write_bytes(b"old")
    save_adapter(trained.folder, tmp_path, name="task:moderation", encoder="e" * 64, base="tiny")
    assert {path.name for path in tmp_path.iterdir()} == {ADAPTER_CONFIG, WEIGHTS}
    assert read_adapter(tmp_path).parent is None


def test_peft_loads_a_saved_adapter(saved: Path, trained: TrainedAdapter, tiny_base: Path) -> None:
    read = partial(load_peft, rounded(tiny_base).model)
    with torch.no_grad():
        plain = rounded(tiny_base).model(input_ids=IDS, attention_mask=MASK).last_hidden_state
        full = load_peft(rounded(tiny_base).model, trained.folder)(input_ids=IDS, attention_mask=MASK).last_hidden_state
        half = read(saved)(input_ids=IDS, attention_mask=MASK).last_hidden_state
    gap = (half - full)[MASK > 0].abs().max()
    assert 0 < gap < 1e-2  # rounded to half precision
    assert (full - plain)[MASK > 0].abs().max() > 10 * gap


def test_matrices_are_those_that_serving_reads_of_the_saved_adapter(saved: Path, trained: TrainedAdapter) -> None:
    adapter = read_adapter(saved)
    found = read_matrices(trained.folder, list(adapter.matrices))
    assert set(found) == {start + module for module in adapter.matrices for start in (LORA_A, LORA_B)}
    for module, (a, b) in adapter.matrices.items():
        np.testing.assert_array_equal(found[LORA_A + module], a)
        np.testing.assert_array_equal(found[LORA_B + module], b)
    down = "encoder.layer.1.output.dense"
    assert [found[start + down].shape for start in (LORA_A, LORA_B)] == [(64, 2), (2, 32)]
    state = load_file(str(trained.folder / WEIGHTS))
    by_hand = 1.5 * state[f"base_model.model.{down}.lora_B.weight"].half().float().numpy().T
    np.testing.assert_array_equal(found[LORA_B + down], by_hand)


def test_the_sample_repeats_our_own_ads_and_sees_their_copies_once() -> None:
    some, rows = examples(60), np.arange(1, 60)
    sample = sample_rows(some, rows, CONFIG, np.random.default_rng(0))
    numbers, times = np.unique(sample, return_counts=True)
    often = dict(zip(numbers.tolist(), times.tolist(), strict=True))
    assert {row: often.get(row, 0) for row in range(6)} == {0: 0, 1: 1, 2: 2, 3: 1, 4: 2, 5: 1}  # row 0 is left out
    public = {row: n for row, n in often.items() if row >= 6}
    assert len(public) == CONFIG.rows
    assert set(public.values()) == {1}
    np.testing.assert_array_equal(sample, sample_rows(some, rows, CONFIG, np.random.default_rng(0)))


def test_without_public_rows_the_sample_is_our_own_ads() -> None:
    some = examples(6)
    sample = sample_rows(some, np.arange(6), CONFIG, np.random.default_rng(0))
    assert sorted(sample.tolist()) == [0, 0, 1, 2, 2, 3, 4, 4, 5]
