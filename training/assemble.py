"""A bundle from its parts: graph, tokenizer, adapter, calibration, thresholds, and the checks between them."""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from moderation.classifier import SLOT, Classifier
from moderation.thresholds import Thresholds
from retrieval_shared.bundle import (
    CALIBRATION,
    CONFIG,
    GRAPH,
    THRESHOLDS,
    TOKENIZER,
    Bundle,
    Manifest,
    Probe,
    load_bundle,
    write_manifest,
)
from retrieval_shared.calibration import Calibration, save_calibration
from retrieval_shared.torch_families import AnySlotEncoder
from training.base_model import BaseModel, check_max_tokens
from training.config import ModerationConfig
from training.encoder_record import write_record
from training.examples import HEADS
from training.export import ServingGraph, export_onnx, parity, quantise, run_onnx, split_base
from training.heads import AttentionHeads
from training.shipped_base import SHAPE

log = structlog.get_logger()

OUTPUTS = ("vector", "logits", "attention")
MAX_EXPORT_GAP = 1e-4
"""Largest difference allowed between torch, PEFT and the float32 graph."""
MIN_INT8_COSINE = 0.95
"""Smallest cosine allowed between a vector of the int8 and of the float32 graph."""
PARITY_TEXTS = (
    "Bet £10 on any match and get £30 in free bets. 18+, play responsibly.",
    "a",
    "Fresh sourdough every morning, delivered to your door. Skip or pause any week. " * 3,
    "Купите сейчас 🎁 50% off für alle",
)


@dataclass(frozen=True)
class Parts:
    """What a bundle is made of."""

    encoder: AnySlotEncoder
    """The encoder with its adapters."""
    heads: AttentionHeads
    """The violation heads."""
    base: BaseModel
    """Where the encoder came from."""
    adapter: Path
    """The adapter as PEFT saved it."""
    calibration: Calibration
    """Curves of the heads."""
    thresholds: Thresholds
    """Cuts of the heads."""
    training: dict[str, Any]
    """What else the record of the run holds: rows, folds, checks."""


def write_bundle(folder: Path, parts: Parts, config: ModerationConfig, *, oracle: nn.Module | None = None) -> Bundle:
    """Write a bundle and return it, loaded and verified.

    Args:
        folder: the bundle's folder; files of the same names are replaced, and every other file that lies there is
            hashed into the bundle, model card and mapping of scores excepted.
        parts: what goes in.
        config: travels inside the bundle.
        oracle: PEFT's form of the encoder; its states must equal the adapter slot's.

    Raises:
        ValueError: two forms of the graph differ by more than is allowed, or `max_tokens` is more than the encoder
            reads.
    """
    check_max_tokens(parts.base, {"max_tokens": config.max_tokens})
    folder.mkdir(parents=True, exist_ok=True)
    inputs = parity_inputs(parts.base.tokenizer, slots=2)
    checks = _write_graph(folder, parts, inputs, oracle)
    parts.base.tokenizer.save(str(folder / TOKENIZER), pretty=False)
    write_record(folder, parts.base.record)
    save_calibration(folder / CALIBRATION, parts.calibration)
    (folder / THRESHOLDS).write_text(parts.thresholds.to_json(), encoding="utf-8")
    _write_adapter(folder / "adapters" / "moderation", parts)
    record = {
        "config": dataclasses.asdict(config),
        "base_sha256": parts.base.sha256,
        # Without it the encoder cannot be read back from the bundle, which only a `SlotEncoder` can.
        **({SHAPE: dataclasses.asdict(parts.encoder.shape)} if parts.encoder.shape else {}),
        "parity": checks,
        **parts.training,
    }
    (folder / CONFIG).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    manifest = Manifest(
        name=config.name,
        version=config.version,
        heads=HEADS,
        slots=("base", SLOT),
        languages=config.languages,
        max_tokens=config.max_tokens,
        files={},
        probe=Probe(text=config.probe, probabilities={}),
    )
    write_manifest(folder, manifest)
    scores = Classifier(load_bundle(folder)).score([config.probe]).probabilities[0]
    recorded = {head: round(float(p), 6) for head, p in zip(HEADS, scores, strict=True)}
    write_manifest(folder, dataclasses.replace(manifest, probe=Probe(text=config.probe, probabilities=recorded)))
    return load_bundle(folder)


def _write_adapter(folder: Path, parts: Parts) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copyfile(parts.adapter / "adapter_model.safetensors", folder / "adapter_model.safetensors")
    described = json.loads((parts.adapter / "adapter_config.json").read_text(encoding="utf-8"))
    # PEFT notes the folder that the base was loaded from on the machine that trained.
    described["base_model_name_or_path"] = parts.base.name
    (folder / "adapter_config.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def parity_inputs(tokenizer: Tokenizer, *, slots: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return ids, mask and slots of a mixed batch: every text under every slot."""
    encodings = [encoding.ids for encoding in tokenizer.encode_batch(list(PARITY_TEXTS))] * slots
    width = max(map(len, encodings))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in encodings])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in encodings])
    slot = torch.arange(slots).repeat_interleave(len(PARITY_TEXTS))
    return ids, mask, slot


def _write_graph(
    folder: Path, parts: Parts, inputs: tuple[Tensor, Tensor, Tensor], oracle: nn.Module | None
) -> dict[str, float]:
    graph = ServingGraph(parts.encoder, parts.heads).eval()
    with torch.no_grad():
        expected = [value.numpy() for value in graph(*inputs)]
    plain = folder / "float32.onnx"
    export_onnx(graph, plain, OUTPUTS)
    exported = parity(expected, run_onnx(plain, *inputs))
    quantise(plain, folder / GRAPH)
    split_base(folder / GRAPH)
    plain.unlink()
    int8 = parity(expected, run_onnx(folder / GRAPH, *inputs))
    checks = {"torch_onnx_max_abs": exported.max_abs, "int8_min_cosine": int8.min_cosine, "int8_max_abs": int8.max_abs}
    if oracle is not None:
        checks["peft_max_abs"] = _peft_gap(parts.encoder, oracle, inputs)
    log.info("parity", **{name: round(value, 6) for name, value in checks.items()})
    gap = max(checks["torch_onnx_max_abs"], checks.get("peft_max_abs", 0.0))
    if gap > MAX_EXPORT_GAP or int8.min_cosine < MIN_INT8_COSINE:
        raise ValueError(f"parity: found {checks}, allowed max_abs {MAX_EXPORT_GAP}, int8 cosine {MIN_INT8_COSINE}")
    return checks


def _peft_gap(encoder: AnySlotEncoder, oracle: nn.Module, inputs: tuple[Tensor, Tensor, Tensor]) -> float:
    """Return the largest difference between PEFT's states and the adapter slot's, over real tokens."""
    ids, mask, _ = inputs
    with torch.no_grad():
        ours = encoder(ids, mask, torch.ones(len(ids), dtype=torch.int64))
        theirs = oracle(input_ids=ids, attention_mask=mask).last_hidden_state
    return float((ours - theirs)[mask > 0].abs().max())
