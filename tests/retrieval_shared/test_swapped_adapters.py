"""Adapters and heads that come with a bundle, and adapters that take their place while others read."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from retrieval_shared.adapters import ENCODER_KEY, NAME_KEY, WEIGHTS, Adapter
from retrieval_shared.bundle import BASE_WEIGHTS, Bundle, load_bundle, write_manifest
from retrieval_shared.errors import AdapterError, BundleError
from retrieval_shared.onnx_encoder import Encoded, OnnxEncoder

SLOT, REGION = "task:moderation", "region:ID"
SLOTS = ("base", SLOT, REGION)
NOISE = 1e-5
TEXTS = ["free bet " * 40, "win cash now at the casino", "tea", ""]  # 48 tokens fit
MIXED = [(text, slot) for slot in (REGION, "base", SLOT) for text in (1, 0, 2, 3)]


@pytest.fixture(scope="module")
def encoder(tiny_bundle: Bundle) -> OnnxEncoder:
    return OnnxEncoder(tiny_bundle)


def assert_same(left: Encoded, right: Encoded) -> None:
    np.testing.assert_allclose(left.logits, right.logits, atol=NOISE)
    np.testing.assert_allclose(left.vectors, right.vectors, atol=NOISE)


def turned(encoder: OnnxEncoder) -> list[Adapter]:
    """Return the adapters of the two slots with their names exchanged."""
    first, second = encoder.adapters
    return [replace(second, name=first.name), replace(first, name=second.name)]


def test_other_adapters_over_the_same_session(encoder: OnnxEncoder) -> None:
    before = encoder.encode_branches(TEXTS, MIXED)
    other = encoder.with_adapters(turned(encoder))
    assert other._session is encoder._session
    assert (other.slots, encoder.slots) == (SLOTS, SLOTS)
    exchange = {"base": "base", SLOT: REGION, REGION: SLOT}
    swapped = [(text, exchange[slot]) for text, slot in MIXED]
    assert_same(other.encode_branches(TEXTS, MIXED), encoder.encode_branches(TEXTS, swapped))
    more = other.with_adapters([replace(encoder.adapters[1], name="region:DE"), *encoder.adapters])
    assert more.slots == ("base", "region:DE", SLOT, REGION)
    assert_same(more.encode_branches(TEXTS, MIXED), before)
    assert_same(more.encode(TEXTS, slot="region:DE"), encoder.encode(TEXTS, slot=REGION))
    after = encoder.encode_branches(TEXTS, MIXED)
    np.testing.assert_array_equal(after.logits, before.logits)
    np.testing.assert_array_equal(after.vectors, before.vectors)


def test_an_adapter_of_another_encoder_is_refused_and_nothing_changes(encoder: OnnxEncoder) -> None:
    before = encoder.encode_branches(TEXTS, MIXED)
    own, foreign = encoder.adapters, replace(encoder.adapters[1], encoder="f" * 64)
    here = own[0].encoder[:12]
    with pytest.raises(AdapterError, match=f"'region:ID': .* base weights ffffffffffff, this bundle has {here}"):
        encoder.with_adapters([own[0], foreign])
    assert (encoder.adapters, encoder.slots) == (own, SLOTS)
    np.testing.assert_array_equal(encoder.encode_branches(TEXTS, MIXED).logits, before.logits)


def test_a_call_sees_one_set_of_adapters_whole_while_they_are_swapped(encoder: OnnxEncoder) -> None:
    """In each round eight threads read with the encoder they found while a ninth swaps it, back and forth."""
    rounds, readers = 6, 8
    sets = (list(encoder.adapters), turned(encoder))
    expected = [encoder.with_adapters(each).encode_branches(TEXTS, MIXED).logits for each in sets]
    assert np.abs(expected[0] - expected[1]).max() > 0.1
    held = [encoder]
    begin, done = threading.Barrier(readers + 1), threading.Barrier(readers + 1)

    def read(_: int) -> list[NDArray[np.float32]]:
        found = []
        for _ in range(rounds):
            own = held[0]
            begin.wait(60)
            found.append(own.encode_branches(TEXTS, MIXED).logits)
            done.wait(60)
        return found

    def swap() -> None:
        for round_ in range(rounds):
            begin.wait(60)
            for turn in (1, 0, 1):
                held[0] = held[0].with_adapters(sets[(round_ + turn) % 2])
            done.wait(60)

    with ThreadPoolExecutor(readers + 1) as pool:
        swapping = pool.submit(swap)
        results = list(pool.map(read, range(readers)))
        swapping.result()
    for found in results:
        for round_, logits in enumerate(found):
            np.testing.assert_array_equal(logits, expected[round_ % 2])


def changed(bundle: Bundle, folder: Path, change: Callable[[Path], object], **manifest: Any) -> Bundle:  # noqa: ANN401
    """Return a copy of a bundle that was changed, with hashes that fit."""
    shutil.copytree(bundle.path, folder)
    change(folder)
    write_manifest(folder, replace(bundle.manifest, **manifest))
    return load_bundle(folder)


def _relabelled(file: str, **says: str) -> Callable[[Path], None]:
    """Save an adapter's weights anew under another name or another encoder's hash."""

    def change(folder: Path) -> None:
        metadata = {NAME_KEY: says["name"], ENCODER_KEY: says["encoder"]}
        save_file(load_file(folder / file / WEIGHTS), folder / file / WEIGHTS, metadata=metadata)

    return change


def _gone(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


REGION_FOLDER, HEAD_FOLDER = "adapters/region-ID", "heads/scam"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: shutil.rmtree(folder / REGION_FOLDER), "adapter region-ID: cannot be read: FileNotFound"),
        (_gone(f"{REGION_FOLDER}/{WEIGHTS}"), "adapter region-ID: cannot be read: FileNotFound"),
        (_relabelled(REGION_FOLDER, name=REGION, encoder="f" * 64), "'region:ID': .* over base weights ffffffffffff"),
        (_gone("heads/pooling.safetensors"), "heads heads: cannot be read: FileNotFound.*pooling.safetensors"),
        (_gone(f"{HEAD_FOLDER}/{WEIGHTS}"), "heads heads: cannot be read: FileNotFound.*scam"),
        (_relabelled(HEAD_FOLDER, name="head:scam", encoder="f" * 64), "'scam': .* over base weights ffffffffffff"),
    ],
)
def test_adapters_and_heads_that_are_missing_or_of_another_encoder_are_a_bundle_error(
    tiny_bundle: Bundle, tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    bundle = changed(tiny_bundle, tmp_path / "bundle", change)
    with pytest.raises(BundleError, match=f"bundle {bundle.path}: .*{message}"):
        OnnxEncoder(bundle)


def test_an_adapter_of_another_name_is_a_bundle_error(tiny_bundle: Bundle, tmp_path: Path) -> None:
    own = tiny_bundle.sha256(BASE_WEIGHTS)
    change = _relabelled(REGION_FOLDER, name="region:DE", encoder=own)
    bundle = changed(tiny_bundle, tmp_path / "bundle", change)
    with pytest.raises(BundleError, match="its adapters are not those its manifest names"):
        OnnxEncoder(bundle)


def test_fewer_heads_than_the_graph_has_are_a_bundle_error(tiny_bundle: Bundle, tmp_path: Path) -> None:
    heads = tiny_bundle.manifest.heads[:-1]
    bundle = changed(tiny_bundle, tmp_path / "bundle", lambda _: None, heads=heads)
    with pytest.raises(BundleError, match=r"heads.look is \(60, 32\), the graph expects \(64, 32\)"):
        OnnxEncoder(bundle)
