"""A bundle from its parts: graph, tokenizer, adapters, heads, calibration, thresholds, and the checks between them."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moderation.classifier import Classifier
from moderation.thresholds import Thresholds
from retrieval_shared.adapters import BASE_SLOT, folder_of
from retrieval_shared.bundle import (
    ADAPTERS,
    BASE_WEIGHTS,
    CALIBRATION,
    CONFIG,
    GRAPH,
    HEADS,
    THRESHOLDS,
    TOKENIZER,
    Bundle,
    Manifest,
    Probe,
    load_bundle,
    sha256_of,
    write_manifest,
)
from retrieval_shared.calibration import Calibration, save_calibration
from retrieval_shared.torch_families import AnySlotEncoder, slot_encoder
from training.adapter import save_adapter
from training.base_model import BaseModel, check_max_tokens
from training.config import ModerationConfig
from training.encoder_record import write_record
from training.examples import HEADS as HEAD_NAMES
from training.export import OUTPUTS, ServingGraph, export_onnx, quantise, split_base
from training.head_adapters import save_heads
from training.heads import FoldedHeads, PooledHeads
from training.parity import FLOAT_GRAPH, check_parity
from training.shipped_base import SHAPE


@dataclass(frozen=True)
class Parts:
    """What a bundle is made of."""

    base: BaseModel
    """The encoder, rounded; it is not changed."""
    adapters: Mapping[str, Path]
    """Slot -> its adapter as PEFT saved it; the first is `task:moderation`."""
    parents: Mapping[str, str]
    """Slot -> the slot it was trained from, where that is not the base."""
    heads: PooledHeads
    """The violation heads, their block in half precision."""
    calibration: Calibration
    """Curves of the heads."""
    thresholds: Thresholds
    """Cuts of the heads."""
    training: dict[str, Any]
    """What else the record of the run holds: rows, folds, checks."""


def write_bundle(folder: Path, parts: Parts, config: ModerationConfig) -> Bundle:
    """Write a bundle and return it, loaded and verified.

    Args:
        folder: the bundle's folder; files of the same names are replaced, and every other file that lies there is
            hashed into the bundle, model card and mapping of scores excepted.
        parts: what goes in.
        config: travels inside the bundle.

    Raises:
        ValueError: two forms of the graph differ by more than is allowed, or `max_tokens` is more than the encoder
            reads.
    """
    check_max_tokens(parts.base, {"max_tokens": config.max_tokens})
    folder.mkdir(parents=True, exist_ok=True)
    encoder = _write_graph(folder, parts, config)
    parts.base.tokenizer.save(str(folder / TOKENIZER), pretty=False)
    write_record(folder, parts.base.record)
    save_calibration(folder / CALIBRATION, parts.calibration)
    (folder / THRESHOLDS).write_text(parts.thresholds.to_json(), encoding="utf-8")
    _write_adapters(folder, parts)
    record = {
        "config": dataclasses.asdict(config),
        "base_sha256": parts.base.sha256,
        # Without it the encoder cannot be read back from the bundle, which only a `SlotEncoder` can.
        **({SHAPE: dataclasses.asdict(encoder.shape)} if encoder.shape else {}),
        "parity": check_parity(folder, parts.base, list(parts.adapters)),
        **parts.training,
    }
    (folder / CONFIG).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    manifest = Manifest(
        name=config.name,
        version=config.version,
        heads=HEAD_NAMES,
        slots=(BASE_SLOT, *parts.adapters),
        languages=config.languages,
        max_tokens=config.max_tokens,
        files={},
        probe=Probe(text=config.probe, probabilities={}),
    )
    write_manifest(folder, manifest)
    scores = Classifier(load_bundle(folder)).score([config.probe]).probabilities[0]
    recorded = {head: round(float(p), 6) for head, p in zip(HEAD_NAMES, scores, strict=True)}
    write_manifest(folder, dataclasses.replace(manifest, probe=Probe(text=config.probe, probabilities=recorded)))
    return load_bundle(folder)


def _write_graph(folder: Path, parts: Parts, config: ModerationConfig) -> AnySlotEncoder:
    """Write the float32 and the int8 graph; return the encoder they were exported from, its slots at zero."""
    encoder = slot_encoder(
        parts.base.model, [{}], rank=config.adapter.rank, branch_layers=config.adapter.layers,
        two_paths=parts.base.two_paths,
    )  # fmt: skip
    export_onnx(ServingGraph(encoder, FoldedHeads(parts.heads)), folder / FLOAT_GRAPH, OUTPUTS)
    quantise(folder / FLOAT_GRAPH, folder / GRAPH)
    split_base(folder / GRAPH)
    return encoder


def _write_adapters(folder: Path, parts: Parts) -> None:
    encoder, base = sha256_of(folder / BASE_WEIGHTS), parts.base.name
    shutil.rmtree(folder / ADAPTERS, ignore_errors=True)
    for name, source in parts.adapters.items():
        target = folder / ADAPTERS / folder_of(name)
        save_adapter(source, target, name=name, encoder=encoder, base=base, parent=parts.parents.get(name))
    save_heads(folder / HEADS, parts.heads, HEAD_NAMES, encoder=encoder, base=base)
