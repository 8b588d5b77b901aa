"""LoRA adapters as they are served: files in PEFT's layout, stacked into the graph's resident inputs; no torch.

A slot is a row of the stacks `lora_a.<module path>` `[K, in, r]` and `lora_b.<module path>` `[K, r, out]`, from which
the graph gathers each branch's matrices (Punica, Chen et al. 2023, arXiv 2310.18547, section 4). Slot 0 holds zeros:
the plain base.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from retrieval_shared.bundle import sha256_of
from retrieval_shared.errors import AdapterError

BASE_SLOT = "base"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""Files of an adapter, as PEFT saves them."""
NAME_KEY, ENCODER_KEY, PARENT_KEY = "wardline.name", "wardline.encoder", "wardline.parent"
"""Metadata of the weights file: the slot's name, the sha256 of the base weights, the slot it was trained from."""
LORA_A, LORA_B = "lora_a.", "lora_b."
"""Starts of the names of the graph's resident inputs; the module path follows."""
PEFT_PREFIX = "base_model.model."
"""Start of the names of tensors as PEFT saves them; the module path follows."""
_SIDES = {".lora_A.weight": 0, ".lora_B.weight": 1}

Matrices = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Module path -> A `[in, r]` and B `[r, out]`."""


@dataclass(frozen=True)
class Adapter:
    """One LoRA of the encoder."""

    name: str
    """Its slot: `region:<ISO 3166>` or `task:<name>`."""
    version: str
    """First 12 hex digits of the sha256 of its weights file."""
    parent: str | None
    """The slot it was trained from; None: the base."""
    encoder: str
    """Sha256 of the base weights that it was trained over."""
    matrices: Matrices
    """Float32, the LoRA scale (`lora_alpha / r`) folded into B."""

    @property
    def rank(self) -> int:
        """Return the largest rank r of its matrices."""
        return max((a.shape[1] for a, _ in self.matrices.values()), default=0)


@dataclass(frozen=True)
class Layout:
    """Which linear layers of a graph carry LoRA: module path -> (in, out), and whose base weights they are."""

    encoder: str
    """Sha256 of the base weights."""
    linears: Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Slots:
    """What the graph's LoRA inputs hold; immutable, so that a run sees one set of adapters whole."""

    names: tuple[str, ...]
    """Slot 0 is the base."""
    adapters: tuple[Adapter, ...]
    """Those of the slots from 1."""
    inputs: Mapping[str, NDArray[np.float32]]
    """Name of a resident input -> its stack; smaller ranks are padded with zeros."""

    def number(self, name: str) -> int:
        """Return the number of a slot.

        Raises:
            ValueError: no such slot is loaded.
        """
        if name not in self.names:
            raise ValueError(f"slot: found {name!r}, allowed {', '.join(self.names)}")
        return self.names.index(name)


def read_adapter(folder: Path) -> Adapter:
    """Return the adapter in a folder that `PeftModel.save_pretrained` wrote.

    Raises:
        AdapterError: a file is missing or malformed, or the weights do not say whose they are.
    """
    weights = folder / WEIGHTS
    try:
        rank, scale = rank_and_scale(folder)
        with safe_open(str(weights), framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {key: np.asarray(file.get_tensor(key), dtype=np.float32) for key in file.keys()}  # noqa: SIM118
        missing = [key for key in (NAME_KEY, ENCODER_KEY) if not metadata.get(key)]
        if missing:
            raise AdapterError(f"adapter {folder.name}: {WEIGHTS} has no {', '.join(missing)} in its metadata")
        return Adapter(
            name=metadata[NAME_KEY],
            version=sha256_of(weights)[:12],
            parent=metadata.get(PARENT_KEY),
            encoder=metadata[ENCODER_KEY],
            matrices=_matrices(tensors, rank=rank, scale=scale),
        )
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise AdapterError(f"adapter {folder.name}: cannot be read: {type(error).__name__}: {error}") from error


def rank_and_scale(folder: Path) -> tuple[int, float]:
    """Return r and `lora_alpha / r`, by which PEFT multiplies a LoRA's product, as `adapter_config.json` has them.

    Raises:
        OSError: the file is missing.
        ValueError: it is no JSON, r is no whole number from 1, or its matrices have another scale.
        KeyError, TypeError: it does not say r or `lora_alpha`.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{CONFIG} is no JSON: {error}") from error
    rank = config["r"]
    if not isinstance(rank, int) or rank < 1:
        raise ValueError(f"{CONFIG}, r: found {rank!r}, allowed 1 or more")
    for key in ("use_rslora", "alpha_pattern"):
        if config.get(key):
            raise ValueError(f"{CONFIG}, {key}: found {config[key]!r}, allowed one scale, lora_alpha / r")
    scale = float(config["lora_alpha"]) / rank
    if not math.isfinite(scale):
        raise ValueError(f"{CONFIG}, lora_alpha: found {config['lora_alpha']}, allowed a finite number")
    return rank, scale


def _matrices(tensors: Mapping[str, NDArray[np.float32]], *, rank: int, scale: float) -> Matrices:
    """Return A and B of each module; PEFT stores them as `[r, in]` and `[out, r]`."""
    sides: dict[str, dict[int, NDArray[np.float32]]] = {}
    for key, tensor in tensors.items():
        ending = next((end for end in _SIDES if key.endswith(end)), None)
        if ending is None or not key.startswith(PEFT_PREFIX) or tensor.ndim != 2:
            raise ValueError(f"{key} {list(tensor.shape)} is no LoRA matrix of a linear layer")
        sides.setdefault(key.removeprefix(PEFT_PREFIX).removesuffix(ending), {})[_SIDES[ending]] = tensor.T
    found: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
    for module, pair in sides.items():
        if len(pair) != 2 or pair[0].shape[1] != pair[1].shape[0]:
            raise ValueError(f"{module}: A and B do not belong together")
        a, b = np.ascontiguousarray(pair[0]), np.ascontiguousarray(pair[1] * np.float32(scale))
        if a.shape[1] != rank:
            raise ValueError(f"{module}: its rank is {a.shape[1]}, {CONFIG} says {rank}")
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise ValueError(f"{module}: a value is not finite")
        found[module] = a, b
    if not found:
        raise ValueError(f"{WEIGHTS} holds no LoRA matrix")
    return found


def check_adapter(adapter: Adapter, layout: Layout) -> None:
    """Raise `AdapterError` where an adapter was made for another encoder, or adapts what the graph does not."""
    if adapter.encoder != layout.encoder:
        raise AdapterError(
            f"adapter {adapter.name!r}: it was trained over base weights {adapter.encoder[:12]}, "
            f"this bundle has {layout.encoder[:12]}"
        )
    for module, (a, b) in adapter.matrices.items():
        if module not in layout.linears:
            raise AdapterError(f"adapter {adapter.name!r}: {module} is not adapted in this bundle's graph")
        found = (a.shape[0], b.shape[1])
        if found != layout.linears[module]:
            raise AdapterError(f"adapter {adapter.name!r}: {module} is {found}, expected {layout.linears[module]}")


def stack_adapters(adapters: Sequence[Adapter], layout: Layout) -> Slots:
    """Return the slots that hold the base and `adapters`, in their order.

    Raises:
        AdapterError: an adapter does not fit (`check_adapter`), or two have one name.
    """
    names = (BASE_SLOT, *(adapter.name for adapter in adapters))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise AdapterError(f"adapters: {', '.join(twice)} stands there twice")
    for adapter in adapters:
        check_adapter(adapter, layout)
    rank = max((adapter.rank for adapter in adapters), default=1)
    inputs: dict[str, NDArray[np.float32]] = {}
    for module, (n_in, n_out) in layout.linears.items():
        a = np.zeros((len(names), n_in, rank), dtype=np.float32)
        b = np.zeros((len(names), rank, n_out), dtype=np.float32)
        for k, adapter in enumerate(adapters, start=1):
            if module in adapter.matrices:  # an adapter over fewer layers leaves the others at the base
                own_a, own_b = adapter.matrices[module]
                a[k, :, : own_a.shape[1]], b[k, : own_b.shape[0]] = own_a, own_b
        inputs[LORA_A + module], inputs[LORA_B + module] = a, b
    return Slots(names=names, adapters=tuple(adapters), inputs=inputs)


def overlay(own: Sequence[Adapter], added: Sequence[Adapter]) -> tuple[Adapter, ...]:
    """Return `own` with those of `added` that have the same name in their place, and the others after them."""
    by_name = {adapter.name: adapter for adapter in added}
    return (*(by_name.pop(adapter.name, adapter) for adapter in own), *by_name.values())


def slot_of_region(region: str, names: Collection[str], *, default: str) -> str:
    """Return the slot a region is judged under: its own, else its country's, else `default`.

    Args:
        region: ISO 3166-1 alpha-2 or ISO 3166-2 code.
        names: the slots that are loaded.
        default: the slot of regions without an adapter.
    """
    candidates = (f"region:{region}", f"region:{region.partition('-')[0]}")
    return next((name for name in candidates if name in names), default)


def folder_of(name: str) -> str:
    """Return the name of the folder that holds an adapter of a bundle: `region:ID` -> `region-ID`."""
    return name.replace(":", "-")
