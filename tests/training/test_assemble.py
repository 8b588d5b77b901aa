"""A bundle from its parts: what it holds, that PEFT and serving read it, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors import safe_open
from torch import nn
from transformers import BertModel

import training.assemble
from moderation.classifier import Classifier
from moderation.thresholds import Thresholds
from retrieval_shared.bundle import BASE_WEIGHTS, CONFIG, REQUIRED, Bundle
from retrieval_shared.calibration import Calibration
from training.adapter import lora_config
from training.assemble import Parts, write_bundle
from training.base_model import load_base_model, round_to_int8
from training.config import ModerationConfig
from training.examples import HEADS
from training.heads import PooledHeads
from training.pooling import pooling_block

SAVED = ("adapter_config.json", "adapter_model.safetensors")


def parts_of(config: ModerationConfig, adapters: Mapping[str, Path], **changed: Any) -> Parts:
    base = load_base_model(config.base_model)
    round_to_int8(base)
    with torch.random.fork_rng():
        torch.manual_seed(9)
        heads = PooledHeads(pooling_block(base.model), len(HEADS), hidden=8, rank=2, alpha=4)
        with torch.no_grad():
            for parameter in heads.parameters():
                parameter.copy_((parameter + 0.1 * torch.randn_like(parameter)).half().float())
    ones = np.ones(len(HEADS), dtype=np.float32)
    parts = Parts(
        base=base, adapters=adapters, parents={}, heads=heads.eval(),
        calibration=Calibration(heads=HEADS, scale=ones, offset=0 * ones),
        thresholds=Thresholds.of(prevalence=0.02, heads={}), training={},
    )  # fmt: skip
    return dataclasses.replace(parts, **changed)


@pytest.fixture
def parts(tiny_config: ModerationConfig, tiny_adapter: Path) -> Parts:
    return parts_of(tiny_config, {"task:moderation": tiny_adapter})


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the graphs out, and have the check refuse what was written."""

    def refuse(*_: object) -> dict[str, float]:
        raise ValueError("parity: found {}")

    monkeypatch.setattr(training.assemble, "export_onnx", lambda _, path, __: path.touch())
    monkeypatch.setattr(training.assemble, "quantise", lambda _, target: target.touch())
    monkeypatch.setattr(training.assemble, "split_base", lambda path: path.with_name(BASE_WEIGHTS).touch())
    monkeypatch.setattr(training.assemble, "check_parity", refuse)


def test_a_bundle_holds_all_it_needs_and_no_more(tiny_bundle: Bundle, tiny_config: ModerationConfig) -> None:
    folders = ("adapters/task-moderation", "adapters/region-ID", *(f"heads/{head}" for head in HEADS))
    expected = {*REQUIRED, "heads/pooling.safetensors", *(f"{folder}/{name}" for folder in folders for name in SAVED)}
    assert set(tiny_bundle.manifest.files) == expected
    on_disk = {path.relative_to(tiny_bundle.path).as_posix() for path in tiny_bundle.path.rglob("*") if path.is_file()}
    assert on_disk == {*expected, "bundle.json"}
    assert tiny_bundle.manifest.heads == HEADS
    assert tiny_bundle.manifest.slots == ("base", "task:moderation", "region:ID")
    assert tiny_bundle.manifest.max_tokens == tiny_config.max_tokens
    assert set(tiny_bundle.manifest.probe.probabilities) == set(HEADS)


def test_the_record_holds_the_configuration_and_the_checks(tiny_bundle: Bundle, tiny_config: ModerationConfig) -> None:
    record = json.loads(tiny_bundle.file(CONFIG).read_text(encoding="utf-8"))
    assert record["config"] == json.loads(json.dumps(dataclasses.asdict(tiny_config)))
    assert record["base_sha256"] == load_base_model(tiny_config.base_model).sha256
    assert record["parity"]["peft_max_abs"] < 1e-4
    assert record["parity"]["int8_min_cosine"] > 0.99


@pytest.mark.parametrize("folder", ["task-moderation", "region-ID"])
def test_peft_loads_the_adapters_of_the_bundle(tiny_bundle: Bundle, tiny_base: Path, folder: str) -> None:
    model = BertModel.from_pretrained(tiny_base, add_pooling_layer=False)
    loaded = PeftModel.from_pretrained(model, str(tiny_bundle.path / "adapters" / folder))
    adapted = [name for name, value in loaded.state_dict().items() if ".lora_B." in name and bool(value.any())]
    assert len(adapted) == 6  # the linear layers of one block
    assert all(".encoder.layer.1." in name for name in adapted)


def test_an_adapter_says_whose_it_is_as_the_configuration_does(
    tiny_bundle: Bundle, tiny_config: ModerationConfig
) -> None:
    """Its base is not called by the folder of the machine that trained."""
    expected = {"task-moderation": ("task:moderation", None), "region-ID": ("region:ID", "task:moderation")}
    for folder, (name, parent) in expected.items():
        described = json.loads(tiny_bundle.file(f"adapters/{folder}/{SAVED[0]}").read_text(encoding="utf-8"))
        assert described["base_model_name_or_path"] == tiny_config.base_model
        with safe_open(str(tiny_bundle.file(f"adapters/{folder}/{SAVED[1]}")), framework="numpy") as file:
            metadata = file.metadata()
        assert metadata["wardline.name"] == name
        assert metadata.get("wardline.parent") == parent
        assert metadata["wardline.encoder"] == tiny_bundle.sha256(BASE_WEIGHTS)


def test_the_slots_of_the_bundle_differ(tiny_bundle: Bundle) -> None:
    encoder = Classifier(tiny_bundle).encoder
    assert encoder.slots == tiny_bundle.manifest.slots
    logits = encoder.encode_branches(["free bet and win cash now"], [(0, slot) for slot in encoder.slots]).logits
    for left, right in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(logits[left] - logits[right]).max() > 0.05


@pytest.mark.usefixtures("no_export")
def test_what_the_check_refuses_is_no_bundle(parts: Parts, tiny_config: ModerationConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="parity: found"):
        write_bundle(tmp_path / "b", parts, tiny_config)
    assert not (tmp_path / "b" / "bundle.json").exists()


@pytest.mark.usefixtures("no_export")
def test_adapters_and_heads_of_an_earlier_bundle_are_removed(
    parts: Parts, tiny_config: ModerationConfig, tmp_path: Path
) -> None:
    for old in ("adapters/region-FR", "heads/forgotten"):
        (tmp_path / old).mkdir(parents=True)
        (tmp_path / old / SAVED[0]).touch()
    with pytest.raises(ValueError, match="parity"):
        write_bundle(tmp_path, parts, tiny_config)
    assert [path.name for path in (tmp_path / "adapters").iterdir()] == ["task-moderation"]
    assert {path.name for path in (tmp_path / "heads").iterdir()} == {*HEADS, "pooling.safetensors"}


def test_a_length_beyond_what_the_encoder_reads_is_refused(
    parts: Parts, tiny_config: ModerationConfig, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="max_tokens: found 321, allowed up to 320"):
        write_bundle(tmp_path / "b", parts, dataclasses.replace(tiny_config, max_tokens=321))


def saved_adapter(model: nn.Module, config: ModerationConfig, folder: Path) -> Path:
    adapted = get_peft_model(model, lora_config(config.adapter, model))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(8)
        for name, parameter in adapted.named_parameters():
            if ".lora_" in name:
                parameter.normal_(std=0.2)
    adapted.save_pretrained(str(folder))
    return folder


def test_another_family_is_served_with_texts_beyond_512_tokens(
    tiny_families: dict[str, Path], tiny_config: ModerationConfig, tmp_path: Path
) -> None:
    config = dataclasses.replace(tiny_config, base_model=str(tiny_families["modernbert"]), max_tokens=700)
    adapter = saved_adapter(load_base_model(config.base_model).model, config, tmp_path / "adapter")
    parts = parts_of(config, {"task:moderation": adapter}, training={"rows": 3})
    before = {name: value.clone() for name, value in parts.base.model.state_dict().items()}
    bundle = write_bundle(tmp_path / "bundle", parts, config)
    after = parts.base.model.state_dict()
    assert set(after) == set(before)  # neither PEFT nor the export left anything in the encoder
    assert all(torch.equal(after[name], value) for name, value in before.items())
    record = json.loads(bundle.file(CONFIG).read_text(encoding="utf-8"))
    assert record["parity"]["peft_max_abs"] < 1e-4
    assert record["rows"] == 3
    assert "shape" not in record
    encoded = Classifier(bundle).encoder.encode(["free bet " * 345, "free bet " * 355])
    assert encoded.chunked.tolist() == [False, True]  # 692 and 712 tokens
