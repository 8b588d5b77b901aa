"""Heads as the graph holds them, against plain multi-head attention in loops, torch and PEFT."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from retrieval_shared.adapters import CONFIG, ENCODER_KEY, NAME_KEY, WEIGHTS
from retrieval_shared.bundle import BASE_WEIGHTS, Bundle, sha256_of
from retrieval_shared.errors import AdapterError
from retrieval_shared.head import (
    ATTENTION_HEADS_KEY,
    BLOCK,
    FOLDED,
    HEADS_PREFIX,
    JUDGE,
    PROJECTIONS,
    HeadParameters,
    fold,
    read_heads,
)

Array = NDArray[np.float64]

ENCODER = "e" * 64
D, A, HIDDEN, H, R = 6, 3, 4, 2, 2
"""Width, attention heads, inner layer, heads, LoRA rank: no two axes of a matrix are alike but d and d."""


def parameters(*, heads: int = H, lora: bool = True) -> HeadParameters:
    """Return random heads in float64."""
    rng = np.random.default_rng(3)
    block: dict[str, Array] = {}
    for name in PROJECTIONS:
        block[f"{name}.weight"], block[f"{name}.bias"] = rng.normal(size=(D, D)), rng.normal(size=D)
    own: dict[str, Array] = {}
    for name in PROJECTIONS if lora else ():
        own[f"{name}.a"], own[f"{name}.b"] = rng.normal(size=(heads, R, D)), rng.normal(size=(heads, D, R))
    shapes = {"look": (D,), "inner": (2 * D, HIDDEN), "inner_bias": (HIDDEN,), "outer": (HIDDEN,), "bias": ()}
    return HeadParameters(A, block, own, {name: rng.normal(size=(heads, *shape)) for name, shape in shapes.items()})


def text(tokens: int = 5) -> tuple[Array, Array]:
    """Return random states `[t, d]` and a unit vector `[d]`."""
    rng = np.random.default_rng(tokens)
    vector = rng.normal(size=D)
    return rng.normal(size=(tokens, D)), vector / np.linalg.norm(vector)


def gelu(x: float) -> float:
    return x * (1 + math.erf(x / math.sqrt(2))) / 2


def softmax(scores: list[float]) -> list[float]:
    exponents = [math.exp(score - max(scores)) for score in scores]
    return [exponent / sum(exponents) for exponent in exponents]


def projected(heads: HeadParameters, name: str, h: int, x: Array) -> Array:
    """Return `W x + B (A x) + bias`, a linear layer of the block under the LoRA of head h."""
    found = heads.block[f"{name}.weight"] @ x + heads.block[f"{name}.bias"]
    if heads.lora:
        found = found + heads.lora[f"{name}.b"][h] @ (heads.lora[f"{name}.a"][h] @ x)
    return np.asarray(found)


def in_loops(heads: HeadParameters, h: int, states: Array, vector: Array) -> tuple[float, list[list[float]]]:
    """Return the logit of head h and its attention `[A][t]`: multi-head attention with one query."""
    query = projected(heads, "query", h, heads.judge["look"][h])
    keys, values = ([projected(heads, name, h, state) for state in states] for name in ("key", "value"))
    size = D // A
    mixed, attention = [], []
    for part in (slice(a * size, (a + 1) * size) for a in range(A)):
        weights = softmax([float(query[part] @ key[part]) / math.sqrt(size) for key in keys])
        attention.append(weights)
        mixed.append(sum(weight * value[part] for weight, value in zip(weights, values, strict=True)))
    found = projected(heads, "out", h, np.concatenate(mixed))
    inner = np.concatenate([found, math.sqrt(D) * vector]) @ heads.judge["inner"][h] + heads.judge["inner_bias"][h]
    hidden = [gelu(x) for x in inner.tolist()]
    return float(np.dot(hidden, heads.judge["outer"][h]) + heads.judge["bias"][h]), attention


def with_folded(folded: Mapping[str, Any], h: int, states: Array, vector: Array) -> tuple[float, list[list[float]]]:
    """Return the same from what `fold` gave: a score per token and attention head, and one product."""
    attention_heads = folded["found"].shape[1] // states.shape[1]
    looks = folded["look"][h * attention_heads : (h + 1) * attention_heads]
    attention = [softmax((states @ look).tolist()) for look in looks]
    pooled = np.concatenate([np.asarray(weights) @ states for weights in attention])
    inner = pooled @ folded["found"][h] + vector @ folded["whole"][h] + folded["inner_bias"][h, 0]
    hidden = [gelu(x) for x in inner.tolist()]
    return float(np.dot(hidden, folded["outer"][h, 0]) + folded["bias"][h]), attention


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "no lora"])
@pytest.mark.parametrize("tokens", [1, 2, 9])
def test_folded_heads_are_multi_head_attention_with_one_query(lora: bool, tokens: int) -> None:
    heads, (states, vector) = parameters(lora=lora), text(tokens)
    folded = fold(heads)
    for h in range(H):
        logit, attention = in_loops(heads, h, states, vector)
        found, weights = with_folded(folded, h, states, vector)
        assert found == pytest.approx(logit, abs=1e-10)
        np.testing.assert_allclose(weights, attention, atol=1e-12)


def test_shapes_of_what_is_folded() -> None:
    shapes = {name: value.shape for name, value in fold(parameters()).items()}
    assert tuple(shapes) == FOLDED
    assert shapes == {
        "look": (H * A, D),
        "found": (H, A * D, HIDDEN),
        "whole": (H, D, HIDDEN),
        "inner_bias": (H, 1, HIDDEN),
        "outer": (H, 1, HIDDEN),
        "bias": (H,),
    }


def test_by_hand() -> None:
    """Width 1, one attention head: the query is 2 x 3 + 1 = 7, and the bias 99 of the key moves no score."""
    block = {f"{name}.weight": np.array([[w]]) for name, w in zip(PROJECTIONS, (2.0, 5.0, 3.0, 4.0), strict=True)}
    block |= {f"{name}.bias": np.array([b]) for name, b in zip(PROJECTIONS, (1.0, 99.0, 10.0, 20.0), strict=True)}
    judge = {"look": [[3.0]], "inner": [[[0.5], [6.0]]], "inner_bias": [[7.0]], "outer": [[2.0]], "bias": [-1.0]}
    folded = fold(HeadParameters(1, block, {}, {name: np.array(value) for name, value in judge.items()}))
    found = {name: value.ravel().tolist() for name, value in folded.items()}
    # look 5 x 7; found 3 x 4 x 0.5; inner_bias 7 + (10 x 4 + 20) x 0.5
    assert found == {"look": [35], "found": [6], "whole": [6], "inner_bias": [37], "outer": [2], "bias": [-1]}


def test_a_lora_of_zeros_changes_nothing() -> None:
    heads = parameters()
    zeros = HeadParameters(A, heads.block, {name: 0 * value for name, value in heads.lora.items()}, heads.judge)
    plain = fold(HeadParameters(A, heads.block, {}, heads.judge))
    for name, value in fold(zeros).items():
        np.testing.assert_allclose(value, plain[name], atol=1e-12)
    assert all(np.abs(fold(heads)[name] - plain[name]).max() > 0.1 for name in ("look", "found", "inner_bias"))


def test_a_head_does_not_depend_on_those_beside_it() -> None:
    heads, (states, vector) = parameters(heads=3), text()
    alone = HeadParameters(
        A,
        heads.block,
        {name: value[2:] for name, value in heads.lora.items()},
        {name: value[2:] for name, value in heads.judge.items()},
    )
    expected = with_folded(fold(alone), 0, states, vector)[0]
    assert with_folded(fold(heads), 2, states, vector)[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("lora", [True, False])
def test_torch_folds_alike(lora: bool) -> None:
    import torch

    heads = parameters(lora=lora)
    block, own, judge = (
        {name: torch.from_numpy(np.asarray(value)) for name, value in part.items()}
        for part in (heads.block, heads.lora, heads.judge)
    )
    in_torch = fold(HeadParameters(A, block, own, judge))
    for name, value in fold(heads).items():
        np.testing.assert_allclose(in_torch[name].numpy(), value, atol=1e-12)


NAMES = ("drugs", "scam")
DESCRIBED = {"r": R, "lora_alpha": 3 * R}


def write(folder: Path) -> HeadParameters:
    """Write two heads as PEFT saves them and return them, the scale of 3 in B."""
    heads = parameters()
    folder.mkdir()
    block = {name: value.astype(np.float32) for name, value in heads.block.items()}
    save_file(block, folder / BLOCK, metadata={"format": "pt", ATTENTION_HEADS_KEY: str(A)})
    for h, name in enumerate(NAMES):
        tensors = {f"{part}.lora_{side.upper()}.weight": heads.lora[f"{part}.{side}"][h] for part, side in _sides()}
        tensors |= {f"judge.{part}": heads.judge[part][h] for part in JUDGE}
        (folder / name).mkdir()
        (folder / name / CONFIG).write_text(json.dumps(DESCRIBED), encoding="utf-8")
        save(folder / name, tensors, {NAME_KEY: f"head:{name}", ENCODER_KEY: ENCODER})
    scaled = {name: value * 3 if name.endswith("b") else value for name, value in heads.lora.items()}
    return HeadParameters(A, heads.block, scaled, heads.judge)


def _sides() -> list[tuple[str, str]]:
    return [(part, side) for part in PROJECTIONS for side in "ab"]


def save(folder: Path, tensors: Mapping[str, Any], metadata: dict[str, str]) -> None:
    named = {f"base_model.model.{name}": np.asarray(value, np.float32, order="C") for name, value in tensors.items()}
    save_file(named, folder / WEIGHTS, metadata=metadata)


def test_heads_are_read_stacked_and_folded(tmp_path: Path) -> None:
    expected = fold(write(tmp_path / "heads"))
    found = read_heads(tmp_path / "heads", NAMES, encoder=ENCODER)
    assert found.names == NAMES
    assert found.versions == tuple(sha256_of(tmp_path / "heads" / name / WEIGHTS)[:12] for name in NAMES)
    assert set(found.inputs) == {HEADS_PREFIX + name for name in FOLDED}
    for name, value in expected.items():
        read = found.inputs[HEADS_PREFIX + name]
        assert read.dtype == np.float32
        assert read.flags.c_contiguous
        np.testing.assert_allclose(read, value, rtol=1e-4, atol=1e-4)


def test_heads_come_in_the_order_they_are_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "heads")
    both, turned = (read_heads(tmp_path / "heads", names, encoder=ENCODER) for names in (NAMES, NAMES[::-1]))
    assert turned.versions == both.versions[::-1]
    for name in ("found", "bias"):
        np.testing.assert_allclose(turned.inputs[f"heads.{name}"], both.inputs[f"heads.{name}"][::-1], atol=1e-5)
    one = read_heads(tmp_path / "heads", ("scam",), encoder=ENCODER)
    np.testing.assert_allclose(one.inputs["heads.look"], both.inputs["heads.look"][A:], atol=1e-5)


def test_the_heads_of_a_bundle_compute_what_peft_computes(tiny_bundle: Bundle) -> None:
    import torch

    from training.head_adapters import load_peft_head

    folder, names = tiny_bundle.path / "heads", tiny_bundle.manifest.heads
    inputs = read_heads(folder, names, encoder=tiny_bundle.sha256(BASE_WEIGHTS)).inputs
    folded = {name.removeprefix(HEADS_PREFIX): value.astype(np.float64) for name, value in inputs.items()}
    rng = np.random.default_rng(0)
    states, vector = rng.normal(size=(7, 32)), rng.normal(size=32)
    vector /= np.linalg.norm(vector)
    row = [torch.from_numpy(value.astype(np.float32))[None] for value in (states, vector)]
    for h in (0, 5, len(names) - 1):
        with torch.no_grad():
            head = load_peft_head(folder, names[h])
            logit, weights = head(row[0], torch.ones(1, 7, dtype=torch.int64), row[1])
        found, attention = with_folded(folded, h, states, vector)
        assert found == pytest.approx(float(logit), abs=1e-4)
        np.testing.assert_allclose(np.mean(attention, axis=0), weights[0].numpy(), atol=1e-5)


def _tensor(name: str, value: float | None) -> Callable[[Path], None]:
    """Fill a tensor of head `scam` with a value, or drop it."""

    def change(folder: Path) -> None:
        tensors = {key.removeprefix("base_model.model."): x for key, x in load_file(folder / "scam" / WEIGHTS).items()}
        filled = {} if value is None else {name: np.full_like(tensors[name], value)}
        kept = {key: tensor for key, tensor in tensors.items() if key != name}
        save(folder / "scam", kept | filled, {NAME_KEY: "head:scam", ENCODER_KEY: ENCODER})

    return change


def _block(metadata: dict[str, str], **filled: float) -> Callable[[Path], None]:
    """Write the block anew with other metadata, and with a bias filled with a value."""

    def change(folder: Path) -> None:
        block = load_file(folder / BLOCK)
        save_file(
            block | {f"{name}.bias": np.full(D, value, np.float32) for name, value in filled.items()},
            folder / BLOCK,
            metadata=metadata,
        )

    return change


def _says(**metadata: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        own = {f"wardline.{key}": value for key, value in metadata.items()}
        save_file(load_file(folder / "scam" / WEIGHTS), folder / "scam" / WEIGHTS, metadata=own)

    return change


def _rank_0(folder: Path) -> None:
    (folder / "scam" / CONFIG).write_text('{"r": 0, "lora_alpha": 1}', encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _says(name="head:drugs", encoder=ENCODER),
            "'scam': its file says 'head:drugs' over base weights eeeeeeeeeeee",
        ),
        (_says(name="head:scam", encoder="f" * 64), "base weights ffffffffffff, this bundle has eeeeeeeeeeee"),
        (_says(name="head:scam"), "base weights unknown, this bundle has eeeeeeeeeeee"),
        (_tensor("judge.outer", math.nan), "scam/adapter_model.safetensors: a value is not finite"),
        (_tensor("query.lora_A.weight", math.inf), "scam/adapter_model.safetensors: a value is not finite"),
        (_tensor("key.lora_B.weight", None), "KeyError: 'key.lora_B.weight'"),
        (_tensor("judge.look", None), "KeyError: 'judge.look'"),
        (_rank_0, "adapter_config.json, r: found 0, allowed 1 or more"),
        (_block({ATTENTION_HEADS_KEY: "3"}, key=math.nan), "heads/pooling.safetensors: a value is not finite"),
        (_block({"format": "pt"}), "KeyError: 'wardline.attention_heads'"),
        (_block({ATTENTION_HEADS_KEY: "4"}), "cannot reshape"),
        (_block({ATTENTION_HEADS_KEY: "0"}), "ZeroDivisionError"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: Callable[[Path], None], message: str) -> None:
    write(tmp_path / "heads")
    change(tmp_path / "heads")
    with pytest.raises(AdapterError, match=f"^heads? .*{message}"):
        read_heads(tmp_path / "heads", NAMES, encoder=ENCODER)


@pytest.mark.parametrize("name", [BLOCK, f"scam/{WEIGHTS}", f"drugs/{CONFIG}"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    write(tmp_path / "heads")
    (tmp_path / "heads" / name).unlink()
    with pytest.raises(AdapterError, match=f"heads heads: cannot be read: FileNotFoundError: .*{name}"):
        read_heads(tmp_path / "heads", NAMES, encoder=ENCODER)


def test_a_head_that_is_not_there_is_named(tmp_path: Path) -> None:
    write(tmp_path / "heads")
    with pytest.raises(AdapterError, match="FileNotFoundError: .*weapons"):
        read_heads(tmp_path / "heads", ("drugs", "weapons"), encoder=ENCODER)


def test_no_heads_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "heads")
    with pytest.raises(AdapterError, match="heads heads: found no names, expected one per head"):
        read_heads(tmp_path / "heads", (), encoder=ENCODER)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "heads")
    (tmp_path / "heads" / BLOCK).write_bytes(b"not a model")
    with pytest.raises(AdapterError, match="heads heads: cannot be read: SafetensorError"):
        read_heads(tmp_path / "heads", NAMES, encoder=ENCODER)
