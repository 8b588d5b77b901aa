from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import training.adapter
from retrieval_shared.torch_encoder import LINEARS, peft_adapter
from retrieval_shared.torch_families import FAMILIES
from training.adapter import TrainedAdapter, load_peft, load_slots, lora_config, train_adapter
from training.base_model import BaseModel, load_base_model, round_to_int8
from training.config import AdapterConfig, HeadsConfig, ModerationConfig
from training.examples import HEADS, OWN_ADS, Examples

CONFIG = AdapterConfig(rank=2, alpha=4, rows=20, ad_repeats=2, tokens_per_step=64, max_tokens=12, learning_rate=0.02)


def examples() -> Examples:
    """Public rows about bets and tea, and six ads of our own."""
    texts = [("free bet win cash " if i % 2 else "fresh tea and bread ") * 2 + f"{i}" for i in range(30)]
    targets = np.full((30, len(HEADS)), np.nan, dtype=np.float32)
    targets[:, HEADS.index("gambling")] = np.arange(30) % 2
    return Examples(
        texts=tuple(texts),
        targets=targets,
        source=np.array([OWN_ADS if i < 6 else "public" for i in range(30)]),
        licence=np.full(30, "open"),
        lang=np.full(30, "en"),
        kind=np.full(30, "post"),
        group=np.array([str(i) for i in range(30)]),
    )


def rounded(folder: Path) -> BaseModel:
    base = load_base_model(str(folder))
    round_to_int8(base)
    return base


def train(tiny_base: Path, folder: Path) -> TrainedAdapter:
    return train_adapter(rounded(tiny_base), examples(), CONFIG, HeadsConfig(hidden=4), folder=folder, seed=5)


@pytest.fixture(scope="module")
def trained(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedAdapter:
    return train(tiny_base, tmp_path_factory.mktemp("adapter"))


def test_peft_can_load_what_was_trained(trained: TrainedAdapter, tiny_base: Path) -> None:
    adapter = peft_adapter(load_file(str(trained.folder / "adapter_model.safetensors")))
    assert set(adapter) == {f"layer.{i}.{name}.{side}" for i in range(2) for name in LINEARS for side in "ab"}
    assert min(float(value.abs().max()) for value in adapter.values()) > 0
    ids = torch.tensor([[2, 60, 70, 80, 3], [2, 90, 3, 0, 0]])
    mask = (ids > 0).long()
    with torch.no_grad():
        slots = load_slots(rounded(tiny_base), trained, CONFIG)(ids, mask, torch.tensor([1, 1]))
        oracle = load_peft(rounded(tiny_base).model, trained)(input_ids=ids, attention_mask=mask).last_hidden_state
    assert (slots - oracle)[mask > 0].abs().max() < 1e-4


def test_only_the_adapter_changes_and_the_heads_have_every_head(trained: TrainedAdapter) -> None:
    heads = load_file(str(trained.heads))
    assert heads["query"].shape == (len(HEADS), 32)
    assert heads["outer"].shape == (len(HEADS), 4)
    names = {path.name for path in trained.folder.parent.iterdir()}
    assert names == {"adapter", "heads.safetensors", "checkpoint.curve.json"}  # the checkpoint is gone


def test_the_same_seed_gives_the_same_adapter(trained: TrainedAdapter, tiny_base: Path, tmp_path: Path) -> None:
    again = train(tiny_base, tmp_path / "again")
    for left, right in (
        (trained.heads, again.heads),
        *(((t.folder / "adapter_model.safetensors") for t in (trained, again)),),
    ):
        first, second = load_file(str(left)), load_file(str(right))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_finished_adapter_is_not_trained_again(
    trained: TrainedAdapter, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(training.adapter, "run_steps", never)
    assert train(tiny_base, trained.folder.parent) == trained


def test_an_adapter_over_another_family_is_what_peft_trained(tiny_families: dict[str, Path], tmp_path: Path) -> None:
    folder = tiny_families["modernbert"]
    trained = train(folder, tmp_path)
    ids = torch.tensor([[2, 60, 70, 80, 3], [2, 90, 3, 0, 0]])
    mask = (ids > 0).long()
    with torch.no_grad():
        slots = load_slots(rounded(folder), trained, CONFIG)
        base, adapted = (slots(ids, mask, torch.full((2,), slot)) for slot in (0, 1))
        oracle = load_peft(rounded(folder).model, trained)(input_ids=ids, attention_mask=mask).last_hidden_state
    assert (adapted - oracle)[mask > 0].abs().max() < 1e-4
    assert (adapted - base)[mask > 0].abs().max() > 1e-3


def test_lora_is_on_all_six_linear_layers(tiny_config: ModerationConfig) -> None:
    config = lora_config(tiny_config.adapter)
    assert (config.r, config.lora_alpha, len(config.target_modules)) == (2, 4, 6)
    fused = lora_config(tiny_config.adapter, FAMILIES["modernbert"])
    assert set(fused.target_modules) == {"attn.Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo"}
