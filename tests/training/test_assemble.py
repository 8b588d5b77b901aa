from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import BertModel

import training.assemble
from moderation.classifier import Classifier
from moderation.thresholds import Thresholds
from retrieval_shared.bundle import CONFIG, REQUIRED, Bundle
from retrieval_shared.calibration import Calibration
from retrieval_shared.torch_families import FAMILIES
from training.adapter import TrainedAdapter, load_peft, load_slots, lora_config
from training.assemble import PARITY_TEXTS, Parts, parity_inputs, write_bundle
from training.base_model import load_base_model, round_to_int8
from training.config import ModerationConfig
from training.examples import HEADS
from training.heads import AttentionHeads


@pytest.fixture
def parts(tiny_config: ModerationConfig, tiny_adapter: Path) -> Parts:
    return parts_of(tiny_config, tiny_adapter)


def parts_of(config: ModerationConfig, adapter: Path) -> Parts:
    base = load_base_model(config.base_model)
    round_to_int8(base)
    ones = np.ones(len(HEADS), dtype=np.float32)
    return Parts(
        encoder=load_slots(base, TrainedAdapter(adapter, adapter), config.adapter),
        heads=AttentionHeads(len(HEADS), 32, hidden=8).eval(),
        base=base,
        adapter=adapter,
        calibration=Calibration(heads=HEADS, scale=ones, offset=0 * ones),
        thresholds=Thresholds.of(prevalence=0.02, heads={}),
        training={},
    )


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace the export by torch's own outputs plus what the list holds: the errors of the float32 and int8 graphs."""
    errors = [0.0, 0.0]
    pending: list[float] = []
    graphs: list[nn.Module] = []

    def export(module: nn.Module, path: Path, _: Sequence[str]) -> None:
        graphs[:], pending[:] = [module], list(errors)
        path.touch()

    def run(_: Path, ids: Tensor, mask: Tensor, slot: Tensor) -> list[np.ndarray]:
        with torch.no_grad():
            values = [value.numpy().copy() for value in graphs[0](ids, mask, slot)]
        values[0][:, 0] += pending.pop(0)
        return values

    monkeypatch.setattr(training.assemble, "export_onnx", export)
    monkeypatch.setattr(training.assemble, "quantise", lambda _, target: target.touch())
    monkeypatch.setattr(training.assemble, "split_base", lambda *_, **__: None)
    monkeypatch.setattr(training.assemble, "run_onnx", run)
    return errors


def test_a_bundle_holds_all_it_needs_and_no_more(tiny_bundle: Bundle, tiny_config: ModerationConfig) -> None:
    adapter = {f"adapters/moderation/adapter_{name}" for name in ("config.json", "model.safetensors")}
    assert set(tiny_bundle.manifest.files) == {*REQUIRED, *adapter}
    on_disk = {path.relative_to(tiny_bundle.path).as_posix() for path in tiny_bundle.path.rglob("*") if path.is_file()}
    assert on_disk == {*REQUIRED, *adapter, "bundle.json"}
    assert (tiny_bundle.manifest.heads, tiny_bundle.manifest.slots) == (HEADS, ("base", "task:moderation"))
    assert tiny_bundle.manifest.max_tokens == tiny_config.max_tokens
    assert set(tiny_bundle.manifest.probe.probabilities) == set(HEADS)


def test_the_record_holds_the_configuration_and_the_checks(tiny_bundle: Bundle, tiny_config: ModerationConfig) -> None:
    record = json.loads(tiny_bundle.file(CONFIG).read_text(encoding="utf-8"))
    assert record["config"] == json.loads(json.dumps(dataclasses.asdict(tiny_config)))
    assert record["parity"]["torch_onnx_max_abs"] < 1e-4
    assert record["parity"]["peft_max_abs"] < 1e-4
    assert record["parity"]["int8_min_cosine"] > 0.99


def test_peft_loads_the_adapter_of_the_bundle(tiny_bundle: Bundle, tiny_base: Path) -> None:
    model = BertModel.from_pretrained(tiny_base, add_pooling_layer=False)
    loaded = PeftModel.from_pretrained(model, str(tiny_bundle.path / "adapters" / "moderation"))
    assert any(".lora_B." in name and bool(value.any()) for name, value in loaded.state_dict().items())


def test_the_adapter_names_its_base_as_the_configuration_does(
    tiny_bundle: Bundle, tiny_config: ModerationConfig
) -> None:
    """Not by the folder of the machine that trained."""
    described = json.loads(tiny_bundle.file("adapters/moderation/adapter_config.json").read_text(encoding="utf-8"))
    assert described["base_model_name_or_path"] == tiny_config.base_model


def test_parity_inputs_hold_every_text_under_every_slot(parts: Parts) -> None:
    ids, mask, slot = parity_inputs(parts.base.tokenizer, slots=3)
    n = len(PARITY_TEXTS)
    assert ids.shape == mask.shape == (3 * n, int(mask.sum(1).max()))
    assert slot.tolist() == [0] * n + [1] * n + [2] * n
    assert torch.equal(ids[:n], ids[n : 2 * n])
    assert (ids[mask == 0] == 0).all()
    assert len(set(mask.sum(1).tolist())) > 2  # of many lengths


@pytest.mark.parametrize(
    ("found", "message"), [([2e-4, 0.0], "torch_onnx_max_abs"), ([0.0, 9.0], "int8 cosine")], ids=["float32", "int8"]
)
def test_a_graph_that_computes_otherwise_is_refused(
    parts: Parts,
    tiny_config: ModerationConfig,
    tmp_path: Path,
    no_export: list[float],
    found: list[float],
    message: str,
) -> None:
    no_export[:] = found
    with pytest.raises(ValueError, match=f"parity: found .*{message}"):
        write_bundle(tmp_path / "b", parts, tiny_config)
    assert not (tmp_path / "b" / "bundle.json").exists()


def test_a_slot_that_is_not_what_peft_computes_is_refused(
    parts: Parts, tiny_config: ModerationConfig, tmp_path: Path, no_export: list[float]
) -> None:
    assert no_export == [0.0, 0.0]
    with pytest.raises(ValueError, match=r"'peft_max_abs': [0-9.]+"):
        write_bundle(tmp_path / "b", parts, tiny_config, oracle=parts.base.model)  # the base without the adapter


def test_a_length_beyond_what_the_encoder_reads_is_refused(
    parts: Parts, tiny_config: ModerationConfig, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="max_tokens: found 321, allowed up to 320"):
        write_bundle(tmp_path / "b", parts, dataclasses.replace(tiny_config, max_tokens=321))


def test_another_family_is_served_with_texts_beyond_512_tokens(
    tiny_families: dict[str, Path], tiny_config: ModerationConfig, tmp_path: Path
) -> None:
    config = dataclasses.replace(tiny_config, base_model=str(tiny_families["modernbert"]), max_tokens=700)
    adapted = get_peft_model(
        load_base_model(config.base_model).model, lora_config(config.adapter, FAMILIES["modernbert"])
    )
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(8)
        for name, parameter in adapted.named_parameters():
            if ".lora_" in name:
                parameter.normal_(std=0.2)
    adapted.save_pretrained(str(tmp_path / "adapter"))
    parts, oracle = parts_of(config, tmp_path / "adapter"), load_base_model(config.base_model)
    round_to_int8(oracle)
    peft = load_peft(oracle.model, TrainedAdapter(tmp_path / "adapter", tmp_path))
    bundle = write_bundle(tmp_path / "bundle", parts, config, oracle=peft)
    record = json.loads(bundle.file(CONFIG).read_text(encoding="utf-8"))
    assert record["parity"]["peft_max_abs"] < 1e-4
    assert "shape" not in record
    encoded = Classifier(bundle).encoder.encode(["free bet " * 345, "free bet " * 355])
    assert encoded.chunked.tolist() == [False, True]  # 692 and 712 tokens
