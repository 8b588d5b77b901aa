"""The heads on disk: what PEFT and what serving read from the files is what was trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from retrieval_shared.head import FOLDED, JUDGE, PROJECTIONS, read_heads
from training.head_adapters import load_peft_head, peft_head, save_heads
from training.heads import FoldedHeads, PooledHeads, PoolingBlock

NAMES = ("alcohol", "weapons", "scam")
DIM, ATTENTION_HEADS, RANK = 8, 2, 2
ENCODER = "e" * 64


def stacked(alpha: float = 3) -> PooledHeads:
    """Return random heads whose values half precision holds, as those that are shipped."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        heads = PooledHeads(PoolingBlock(DIM, ATTENTION_HEADS), len(NAMES), hidden=5, rank=RANK, alpha=alpha)
        with torch.no_grad():
            for parameter in heads.parameters():
                parameter.copy_(parameter.normal_(std=0.6).half().float())
    return heads.eval()


@pytest.fixture(scope="module")
def heads() -> PooledHeads:
    return stacked()


@pytest.fixture(scope="module")
def folder(heads: PooledHeads, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "heads"
    save_heads(folder, heads, NAMES, encoder=ENCODER, base="an encoder")
    return folder


def batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    states = torch.randn(3, 6, DIM, generator=generator)
    mask = (torch.arange(6)[None, :] < torch.tensor([6, 1, 3])[:, None]).long()
    vector = torch.nn.functional.normalize(torch.randn(3, DIM, generator=generator), dim=1)
    return states, mask, vector


def opened(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    with safe_open(str(path), framework="pt") as file:
        return file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize("alpha", [3, 2.5])
def test_peft_loads_every_head_and_judges_as_the_stacked_form(tmp_path: Path, alpha: float) -> None:
    """A scale that is no whole number is kept as well."""
    heads = stacked(alpha)
    save_heads(tmp_path / "heads", heads, NAMES, encoder=ENCODER, base="an encoder")
    logits, attention = heads(*batch())
    for h, name in enumerate(NAMES):
        loaded = load_peft_head(tmp_path / "heads", name)
        assert not loaded.training
        found, looked = loaded(*batch())
        torch.testing.assert_close(found, logits[:, h], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(looked, attention[:, h], atol=1e-5, rtol=1e-5)
        with loaded.disable_adapter():
            assert (loaded(*batch())[0] - found).abs().max() > 1e-3  # the LoRA and the judge do something


def test_what_is_not_yet_saved_judges_the_same(heads: PooledHeads) -> None:
    logits, _ = heads(*batch())
    for h in range(len(NAMES)):
        torch.testing.assert_close(peft_head(heads, h)(*batch())[0], logits[:, h], atol=1e-5, rtol=1e-5)


def test_serving_reads_the_heads_folded(heads: PooledHeads, folder: Path) -> None:
    found = read_heads(folder, NAMES, encoder=ENCODER)
    assert found.names == NAMES
    expected = dict(FoldedHeads(heads).named_parameters())
    assert set(found.inputs) == {f"heads.{name}" for name in FOLDED}
    for name, value in expected.items():
        np.testing.assert_allclose(found.inputs[f"heads.{name}"], value.numpy(), atol=1e-5, rtol=1e-5)


def test_serving_reads_the_heads_in_the_order_asked_for(heads: PooledHeads, folder: Path) -> None:
    found = read_heads(folder, NAMES[::-1], encoder=ENCODER)
    torch.testing.assert_close(torch.from_numpy(found.inputs["heads.bias"]), heads.judge.bias.detach().flip(0))


def test_the_files_say_whose_they_are(folder: Path) -> None:
    metadata, _ = opened(folder / "pooling.safetensors")
    assert metadata == {"format": "pt", "wardline.attention_heads": str(ATTENTION_HEADS)}
    for name in NAMES:
        metadata, _ = opened(folder / name / "adapter_model.safetensors")
        assert metadata == {"format": "pt", "wardline.name": f"head:{name}", "wardline.encoder": ENCODER}
        described = json.loads((folder / name / "adapter_config.json").read_text(encoding="utf-8"))
        assert described["base_model_name_or_path"] == "an encoder: pooling.safetensors"
        assert described["peft_type"] == "LORA"
        assert (described["r"], described["lora_alpha"]) == (RANK, 3)


def test_the_files_hold_half_precision_and_each_head_its_own(heads: PooledHeads, folder: Path) -> None:
    _, block = opened(folder / "pooling.safetensors")
    assert {name: tuple(value.shape) for name, value in block.items()} == {
        f"{name}.{part}": shape for name in PROJECTIONS for part, shape in (("weight", (DIM, DIM)), ("bias", (DIM,)))
    }
    files = [block]
    for h, name in enumerate(NAMES):
        _, own = opened(folder / name / "adapter_model.safetensors")
        files.append(own)
        assert set(own) == {
            *(f"base_model.model.{part}.lora_{side}.weight" for part in PROJECTIONS for side in "AB"),
            *(f"base_model.model.judge.{part}" for part in JUDGE),
        }
        torch.testing.assert_close(own["base_model.model.out.lora_A.weight"].float(), heads.lora["out_a"][h].detach())
    assert {value.dtype for file in files for value in file.values()} == {torch.float16}


def test_the_order_of_adapted_layers_is_stable(folder: Path) -> None:
    """PEFT keeps them as a set, whose order changes from process to process."""
    for name in NAMES:
        described = json.loads((folder / name / "adapter_config.json").read_text(encoding="utf-8"))
        assert described["target_modules"] == ["key", "out", "query", "value"]


def test_heads_are_written_anew_and_nothing_else_stays(heads: PooledHeads, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "adapter_config.json").touch()
    save_heads(tmp_path, heads, NAMES, encoder=ENCODER, base="an encoder")
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    own = ("adapter_config.json", "adapter_model.safetensors")
    assert files == {"pooling.safetensors", *(f"{name}/{file}" for name in NAMES for file in own)}
    for file in files:
        if file.endswith(".json"):
            assert (tmp_path / file).read_bytes() == (folder / file).read_bytes()
            continue
        (metadata, found), (wanted_metadata, wanted) = opened(tmp_path / file), opened(folder / file)
        assert metadata == wanted_metadata
        assert list(found) == list(wanted)
        assert all(torch.equal(value, wanted[name]) for name, value in found.items())


def test_saving_leaves_the_heads_as_they_were(heads: PooledHeads, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in heads.state_dict().items()}
    save_heads(tmp_path / "heads", heads, NAMES, encoder=ENCODER, base="an encoder")
    assert all(torch.equal(value, before[name]) for name, value in heads.state_dict().items())
    assert list(heads.state_dict()) == list(before)
