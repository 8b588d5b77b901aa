"""Adapters from files in PEFT's layout to the stacks that a graph gathers from."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from retrieval_shared.adapters import (
    CONFIG,
    ENCODER_KEY,
    NAME_KEY,
    PARENT_KEY,
    WEIGHTS,
    Adapter,
    Layout,
    Slots,
    check_adapter,
    folder_of,
    overlay,
    read_adapter,
    slot_of_region,
    stack_adapters,
)
from retrieval_shared.bundle import BASE_WEIGHTS, Bundle, sha256_of
from retrieval_shared.errors import AdapterError

ENCODER = "e" * 64
QUERY, DOWN = "encoder.layer.1.attention.self.query", "encoder.layer.1.output.dense"
LAYOUT = Layout(ENCODER, {QUERY: (3, 3), DOWN: (4, 3)})
METADATA = {NAME_KEY: "region:ID", ENCODER_KEY: ENCODER, PARENT_KEY: "task:moderation"}
DESCRIBED = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "use_rslora": False, "alpha_pattern": {}}
Array = NDArray[Any]
A: Array = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32)
B: Array = np.array([[1, 10], [2, 20], [3, 30]], dtype=np.float32)
"""As PEFT stores them: `[r, in]` and `[out, r]`."""


def key(side: str, module: str = QUERY) -> str:
    return f"base_model.model.{module}.lora_{side}.weight"


TENSORS = {key("A"): A, key("B"): B}


def write(
    folder: Path,
    tensors: Mapping[str, Array] = TENSORS,
    metadata: Mapping[str, str] | None = METADATA,
    config: object = DESCRIBED,
) -> Path:
    """Return the folder of an adapter as PEFT would save it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    save_file(dict(tensors), folder / WEIGHTS, metadata=None if metadata is None else dict(metadata))
    return folder


def adapter(name: str, *, rank: int = 2, modules: tuple[str, ...] = (QUERY, DOWN), seed: int = 0) -> Adapter:
    """Return an adapter of random matrices that fits `LAYOUT`."""
    rng = np.random.default_rng(seed)

    def pair(n_in: int, n_out: int) -> tuple[Array, Array]:
        return rng.normal(size=(n_in, rank)).astype(np.float32), rng.normal(size=(rank, n_out)).astype(np.float32)

    return Adapter(name, "0" * 12, None, ENCODER, {module: pair(*LAYOUT.linears[module]) for module in modules})


def products(slots: Slots, module: str) -> Array:
    """Return `A B` of every slot, `[K, in, out]`: what the graph adds to a linear layer's weight."""
    return slots.inputs[f"lora_a.{module}"] @ slots.inputs[f"lora_b.{module}"]


def test_a_file_by_hand(tmp_path: Path) -> None:
    found = read_adapter(write(tmp_path / "a"))
    assert (found.name, found.parent, found.encoder, found.rank) == ("region:ID", "task:moderation", ENCODER, 2)
    assert found.version == sha256_of(tmp_path / "a" / WEIGHTS)[:12]
    assert set(found.matrices) == {QUERY}
    a, b = found.matrices[QUERY]
    assert a.tolist() == [[1, 4], [2, 5], [3, 6]]
    assert b.tolist() == [[3, 6, 9], [30, 60, 90]]  # alpha / r = 6 / 2
    for side in (a, b):
        assert side.dtype == np.float32
        assert side.flags.c_contiguous


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    tensors = {name: value.astype(np.float16) / 3 for name, value in TENSORS.items()}
    a, b = read_adapter(write(tmp_path / "a", tensors)).matrices[QUERY]
    assert a.dtype == b.dtype == np.float32
    np.testing.assert_array_equal(a, tensors[key("A")].T.astype(np.float32))
    np.testing.assert_array_equal(b, 3 * tensors[key("B")].T.astype(np.float32))


def test_without_a_parent_it_was_trained_from_the_base(tmp_path: Path) -> None:
    metadata = {NAME_KEY: "task:topics", ENCODER_KEY: ENCODER}
    assert read_adapter(write(tmp_path / "a", metadata=metadata)).parent is None


def test_the_version_follows_the_weights(tmp_path: Path) -> None:
    first = read_adapter(write(tmp_path / "a")).version
    same = read_adapter(shutil.copytree(tmp_path / "a", tmp_path / "b")).version
    other = read_adapter(write(tmp_path / "c", {**TENSORS, key("A"): A + 1})).version
    assert first == same != other


def test_what_peft_saved_computes_what_peft_computes(tmp_path: Path) -> None:
    """`B A` with PEFT's own scale is the update that PEFT merges into the weight."""
    import torch
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file
    from safetensors.torch import save_file as save_tensors

    with torch.random.fork_rng():
        torch.manual_seed(4)
        plain = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 2))
        config = LoraConfig(r=3, lora_alpha=8, target_modules=["0", "2"], init_lora_weights=False)
        model = get_peft_model(plain, config)
    weights = {i: plain.get_parameter(f"{i}.base_layer.weight").detach().clone() for i in ("0", "2")}
    model.save_pretrained(str(tmp_path))
    save_tensors(load_file(str(tmp_path / WEIGHTS)), tmp_path / WEIGHTS, metadata={"format": "pt", **METADATA})
    found = read_adapter(tmp_path)
    merged: torch.nn.Module = model.merge_and_unload()
    assert set(found.matrices) == {"0", "2"}
    for module, (a, b) in found.matrices.items():
        assert a.shape[1] == b.shape[0] == found.rank == 3
        update = merged.get_parameter(f"{module}.weight").detach() - weights[module]
        assert update.abs().max() > 0.1
        np.testing.assert_allclose(a @ b, update.T, atol=1e-6)


def test_the_adapters_of_a_bundle(tiny_bundle: Bundle) -> None:
    folder = tiny_bundle.path / "adapters"
    moderation, region = (read_adapter(folder / name) for name in ("task-moderation", "region-ID"))
    assert (moderation.name, moderation.parent) == ("task:moderation", None)
    assert (region.name, region.parent) == ("region:ID", "task:moderation")
    assert moderation.encoder == region.encoder == tiny_bundle.sha256(BASE_WEIGHTS)
    assert moderation.version != region.version
    assert moderation.matrices.keys() == region.matrices.keys()
    assert len(moderation.matrices) == 6
    assert all(module.startswith("encoder.layer.1.") for module in moderation.matrices)  # layers=1 of 2


WITHOUT_B = {key("A"): TENSORS[key("A")]}
NAN = {**TENSORS, key("B"): np.array([[1, np.nan], [0, 0], [0, 0]], dtype=np.float32)}
RANKS_DIFFER = {**TENSORS, key("B"): np.ones((3, 1), dtype=np.float32)}
RANK_1 = {key("A"): np.ones((1, 3), dtype=np.float32), key("B"): np.ones((3, 1), dtype=np.float32)}
NO_MATRIX = {**TENSORS, "base_model.model.encoder.layer.1.output.dense.lora_magnitude_vector": np.ones(3, np.float32)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metadata": None}, "has no wardline.name, wardline.encoder in its metadata"),
        ({"metadata": {NAME_KEY: "region:ID"}}, "has no wardline.encoder in its metadata"),
        ({"metadata": {ENCODER_KEY: ENCODER, NAME_KEY: ""}}, "has no wardline.name in its metadata"),
        ({"tensors": WITHOUT_B}, f"{QUERY}: A and B do not belong together"),
        ({"tensors": RANKS_DIFFER}, f"{QUERY}: A and B do not belong together"),
        ({"tensors": RANK_1}, f"{QUERY}: its rank is 1, adapter_config.json says 2"),
        ({"tensors": NAN}, f"{QUERY}: a value is not finite"),
        ({"tensors": {**TENSORS, key("A"): np.full((2, 3), np.inf, np.float32)}}, f"{QUERY}: a value is not finite"),
        ({"tensors": NO_MATRIX}, r"lora_magnitude_vector \[3\] is no LoRA matrix of a linear layer"),
        ({"tensors": {"encoder.query.lora_A.weight": A}}, "encoder.query.lora_A.weight .* is no LoRA"),
        ({"tensors": {}}, "adapter_model.safetensors holds no LoRA matrix"),
        ({"config": {**DESCRIBED, "r": 0}}, "adapter_config.json, r: found 0, allowed 1 or more"),
        ({"config": {**DESCRIBED, "r": "2"}}, "adapter_config.json, r: found '2', allowed 1 or more"),
        ({"config": {"lora_alpha": 4}}, "KeyError: 'r'"),
        ({"config": {"r": 2}}, "KeyError: 'lora_alpha'"),
        ({"config": {**DESCRIBED, "lora_alpha": "much"}}, "could not convert string to float: 'much'"),
        ({"config": {**DESCRIBED, "lora_alpha": float("nan")}}, "lora_alpha: found nan, allowed a finite number"),
        ({"config": {**DESCRIBED, "use_rslora": True}}, "use_rslora: found True, allowed one scale, lora_alpha / r"),
        ({"config": {**DESCRIBED, "alpha_pattern": {"query": 9}}}, "alpha_pattern: found {'query': 9}, allowed one"),
        ({"config": [1]}, "list indices must be integers"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(AdapterError, match=f"^adapter region-ID: .*{message}"):
        read_adapter(write(tmp_path / "region-ID", **change))


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (write(tmp_path / "region-ID") / name).unlink()
    with pytest.raises(AdapterError, match=f"adapter region-ID: cannot be read: FileNotFoundError.*{name}"):
        read_adapter(tmp_path / "region-ID")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="adapter nowhere: cannot be read: FileNotFoundError"):
        read_adapter(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_broken_json_is_named(tmp_path: Path, content: bytes) -> None:
    (write(tmp_path / "a") / CONFIG).write_bytes(content)
    with pytest.raises(AdapterError, match="adapter a: cannot be read: .*adapter_config.json is no JSON"):
        read_adapter(tmp_path / "a")


@pytest.mark.parametrize("kept", [0, 3, 60, -1])
def test_weights_that_are_none_are_refused(tmp_path: Path, kept: int) -> None:
    weights = write(tmp_path / "a") / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(AdapterError, match="adapter a: cannot be read: SafetensorError"):
        read_adapter(tmp_path / "a")


def test_slot_0_is_zeros_and_the_others_hold_their_adapters() -> None:
    each = [adapter("task:moderation", seed=1), adapter("region:ID", seed=2)]
    slots = stack_adapters(each, LAYOUT)
    assert slots.names == ("base", "task:moderation", "region:ID")
    assert slots.adapters == tuple(each)
    assert set(slots.inputs) == {f"lora_{side}.{module}" for side in "ab" for module in LAYOUT.linears}
    for module in LAYOUT.linears:
        a, b = slots.inputs[f"lora_a.{module}"], slots.inputs[f"lora_b.{module}"]
        assert a.dtype == b.dtype == np.float32
        assert not a[0].any()
        assert not b[0].any()
        for k, own in enumerate(each, start=1):
            np.testing.assert_array_equal(a[k], own.matrices[module][0])
            np.testing.assert_array_equal(b[k], own.matrices[module][1])


def test_without_adapters_there_is_the_base_alone() -> None:
    slots = stack_adapters([], LAYOUT)
    assert (slots.names, slots.adapters) == (("base",), ())
    assert {value.shape for value in slots.inputs.values()} == {(1, 3, 1), (1, 4, 1), (1, 1, 3)}
    assert not any(value.any() for value in slots.inputs.values())


def test_smaller_ranks_are_padded_and_give_the_same_result() -> None:
    each = [adapter("region:ID", rank=rank, seed=rank) for rank in (1, 4, 2)]
    named = [dataclasses.replace(own, name=f"region:{i}") for i, own in enumerate(each)]
    slots = stack_adapters(named, LAYOUT)
    for module, (n_in, n_out) in LAYOUT.linears.items():
        assert slots.inputs[f"lora_a.{module}"].shape == (4, n_in, 4)
        assert slots.inputs[f"lora_b.{module}"].shape == (4, 4, n_out)
        expected = [a @ b for a, b in (own.matrices[module] for own in each)]
        np.testing.assert_allclose(products(slots, module)[1:], expected, atol=1e-6)


def test_an_adapter_over_fewer_layers_leaves_the_others_at_the_base() -> None:
    slots = stack_adapters([adapter("task:topics", modules=(DOWN,)), adapter("region:ID")], LAYOUT)
    assert np.abs(products(slots, DOWN)[1:]).max((1, 2)).min() > 0
    assert not products(slots, QUERY)[1].any()
    assert products(slots, QUERY)[2].any()


def _with(**changes: Any) -> Callable[[Adapter], Adapter]:  # noqa: ANN401 - any field
    return lambda own: dataclasses.replace(own, **changes)


ONE = np.ones((3, 1), dtype=np.float32), np.ones((1, 3), dtype=np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_with(encoder="f" * 64), "trained over base weights ffffffffffff, this bundle has eeeeeeeeeeee"),
        (_with(matrices={"encoder.layer.0.x": ONE}), "encoder.layer.0.x is not adapted in this bundle's graph"),
        (_with(matrices={DOWN: ONE}), rf"{DOWN} is \(3, 3\), expected \(4, 3\)"),
    ],
    ids=["another encoder", "unknown module", "wrong size"],
)
def test_an_adapter_that_does_not_fit_is_refused(change: Callable[[Adapter], Adapter], message: str) -> None:
    wrong = change(adapter("region:ID"))
    with pytest.raises(AdapterError, match=f"adapter 'region:ID': .*{message}"):
        check_adapter(wrong, LAYOUT)
    with pytest.raises(AdapterError, match=f"adapter 'region:ID': .*{message}"):
        stack_adapters([adapter("task:moderation"), wrong], LAYOUT)


@pytest.mark.parametrize("names", [("region:ID", "task:moderation", "region:ID"), ("base",)])
def test_one_name_twice_is_refused(names: tuple[str, ...]) -> None:
    """The base is there without being asked for."""
    with pytest.raises(AdapterError, match=f"adapters: {names[-1]} stands there twice"):
        stack_adapters([adapter(name) for name in names], LAYOUT)


def test_numbers_of_slots() -> None:
    slots = stack_adapters([adapter("task:moderation"), adapter("region:ID")], LAYOUT)
    assert [slots.number(name) for name in slots.names] == [0, 1, 2]
    with pytest.raises(ValueError, match="slot: found 'region:DE', allowed base, task:moderation, region:ID"):
        slots.number("region:DE")
    with pytest.raises(ValueError, match="slot: found '', allowed base"):
        slots.number("")


def test_an_overlay_replaces_by_name_and_adds_behind() -> None:
    own = [adapter(name) for name in ("task:moderation", "region:ID", "region:DE")]
    added = [adapter(name, seed=9) for name in ("region:FR", "region:ID")]
    found = overlay(own, added)
    assert [each.name for each in found] == ["task:moderation", "region:ID", "region:DE", "region:FR"]
    assert [each is other for each, other in zip(found, [own[0], added[1], own[2], added[0]], strict=True)] == [
        True
    ] * 4
    assert overlay(own, []) == tuple(own)
    assert overlay([], added) == tuple(added)


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ("IN-GJ", "region:IN-GJ"),
        ("IN-KA", "region:IN"),
        ("IN", "region:IN"),
        ("ID-JK", "task:moderation"),
        ("I", "task:moderation"),
        ("IN-GJ-X", "region:IN"),
    ],
)
def test_a_region_falls_back_to_its_country_and_then_to_the_default(region: str, expected: str) -> None:
    names = ("base", "task:moderation", "region:IN", "region:IN-GJ")
    assert slot_of_region(region, names, default="task:moderation") == expected


def test_a_part_of_a_country_stands_for_itself_alone() -> None:
    assert slot_of_region("IN", ("base", "region:IN-GJ"), default="base") == "base"


def test_folders_of_slots() -> None:
    assert [folder_of(name) for name in ("task:moderation", "region:IN-GJ")] == ["task-moderation", "region-IN-GJ"]
