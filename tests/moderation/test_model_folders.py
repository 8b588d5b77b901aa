"""What makes a model of two folders, and what does not: damage, another encoder, what was fitted to another bundle."""

from __future__ import annotations

import itertools
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from moderation.compat.perspective_scores import MAPPING_FILE
from moderation.model_folders import BUNDLE, Loaded, ModelFolders, Refused, RefusedError
from moderation.policy_document import load_policy
from moderation.served_model import ServedModel
from retrieval_shared import adapter_store
from retrieval_shared.adapter_store import AdapterStore
from retrieval_shared.adapters import WEIGHTS
from retrieval_shared.bundle import (
    ADAPTERS,
    BASE_WEIGHTS,
    CALIBRATION,
    DEFAULT_BUNDLE,
    MANIFEST,
    REQUIRED,
    Bundle,
    read_manifest,
    write_manifest,
)
from retrieval_shared.errors import BundleError, ScoringError

if TYPE_CHECKING:
    from tests.moderation.conftest import Folders


def slots(loaded: Loaded) -> list[str]:
    return [adapter.name for adapter in loaded.serving.moderator.adapters]


def refused(folders: Folders, before: Loaded, *, new_bundle: bool = False) -> tuple[Refused, ...]:
    with pytest.raises(RefusedError) as error:
        folders.models().load(before, new_bundle=new_bundle)
    return error.value.refused


def test_the_bundles_own_come_first_and_one_of_the_same_name_takes_their_place(folders: Folders) -> None:
    for name in ("region:ID", "task:moderation", "region:IN-GJ"):
        folders.store.add(folders.adapter(name))
    loaded = folders.models().open()
    assert slots(loaded) == ["task:moderation", "region:ID", "region:IN-GJ"]
    assert loaded.serving.added == {"region:ID", "task:moderation", "region:IN-GJ"}
    assert loaded.own.moderator is loaded.moderator
    assert [adapter.name for adapter in loaded.moderator.adapters] == ["task:moderation"]


def test_without_a_store_the_bundle_serves_alone(folders: Folders) -> None:
    loaded = folders.models().open()
    assert (loaded.serving, loaded.refused) == (loaded.own, ())
    assert folders.models().stamps().adapters is None


def test_a_removed_adapter_leaves_no_trace(folders: Folders) -> None:
    folders.store.add(folders.adapter("task:moderation", 2.0))
    models = folders.models()
    before = models.open()
    folders.store.remove("task:moderation")
    after = models.load(before, new_bundle=False)
    assert after.serving is before.own
    assert after.moderator is before.moderator  # the bundle is not read again


def test_no_bundle_named_is_the_shipped_one(folders: Folders) -> None:
    models = ModelFolders(None, AdapterStore(folders.path / "none"), policy=load_policy())
    assert models.stamps().bundle == adapter_store.stamp_of(DEFAULT_BUNDLE / MANIFEST)


# ---- adapters that cannot be used


@pytest.mark.parametrize(
    ("name", "value", "encoder", "reason"),
    [
        ("region:ID", 1.0, "two", "trained over base weights"),
        ("region:ID", 13.0, "one", "the bundle's probe text gets no score"),
        ("region:XX", 1.0, "one", "allowed a country of ISO 3166-1"),
    ],
)
def test_an_adapter_at_fault_is_named_and_the_others_serve_from_the_start(
    name: str, value: float, encoder: str, reason: str, folders: Folders
) -> None:
    for good in ("region:DE", "region:US"):
        folders.store.add(folders.adapter(good))
    folders.store.add(folders.adapter(name, value, encoder=encoder))
    loaded = folders.models().open()
    assert slots(loaded) == ["task:moderation", "region:DE", "region:US"]
    [told] = loaded.refused
    assert (told.name, reason in told.reason) == (name, True)
    assert refused(folders, loaded) == loaded.refused


def test_a_damaged_file_is_named(folders: Folders) -> None:
    before = folders.models().open()
    for name in ("region:DE", "region:ID"):
        folders.store.add(folders.adapter(name))
    [_, entry] = folders.store.entries()
    (folders.store.folder / entry.folder / "adapter_config.json").write_text("{}", encoding="utf-8")
    [told] = refused(folders, before)
    assert (told.name, "not those that were added" in told.reason) == ("region:ID", True)


def test_a_malformed_manifest_is_named(folders: Folders) -> None:
    before = folders.models().open()
    folders.store.folder.mkdir()
    (folders.store.folder / adapter_store.MANIFEST).write_text("{", encoding="utf-8")
    [told] = refused(folders, before)
    assert (told.name, "cannot be read" in told.reason) == (adapter_store.MANIFEST, True)
    started = folders.models().open()
    assert (slots(started), started.refused) == (["task:moderation"], (told,))


# ---- bundles that cannot be used


def test_a_bundle_that_is_not_whole_is_refused_and_stops_a_start(folders: Folders) -> None:
    before = folders.models().open()
    for name in (*REQUIRED, MANIFEST):
        folder = folders.write(f"without-{name}")
        (folder / name).unlink()
        folders.turn(folder)
        [told] = refused(folders, before, new_bundle=True)
        assert (told.name, name in told.reason) == (BUNDLE, True)
        with pytest.raises(BundleError, match="missing"):
            folders.models().open()


def test_a_bundle_whose_probe_gets_no_score_is_refused(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    before = folders.models().open()

    def fails(*_: object) -> None:
        raise ScoringError("no session")

    monkeypatch.setattr(type(before.moderator), "probabilities", fails)
    assert refused(folders, before, new_bundle=True) == (
        Refused(BUNDLE, "the probe text could not be scored: no session"),
    )


def test_a_bundle_too_large_for_the_memory_is_refused(folders: Folders) -> None:
    before = folders.models().open()

    def load(*_: object) -> None:
        raise MemoryError("Unable to allocate 33 MB")

    models = ModelFolders(folders.bundle, folders.store, policy=load_policy(), load=load)  # type: ignore[arg-type]
    with pytest.raises(RefusedError, match="bundle: MemoryError: Unable to allocate 33 MB"):
        models.load(before, new_bundle=True)


def test_a_bundle_waits_for_adapters_that_fit_it(folders: Folders) -> None:
    """All of them: a half-way state is never served."""
    for name in ("region:DE", "region:ID"):
        folders.store.add(folders.adapter(name))
    models = folders.models()
    before = models.open()
    folders.turn(folders.write("2", encoder="two"))
    bundle, *adapters = refused(folders, before, new_bundle=True)
    assert (bundle.name, "tiny@2 waits until the added adapters fit it" in bundle.reason) == (BUNDLE, True)
    assert [each.name for each in adapters] == ["region:DE", "region:ID"]
    folders.store.add(folders.adapter("region:DE", encoder="two"))
    assert [each.name for each in refused(folders, before, new_bundle=True)] == [BUNDLE, "region:ID"]
    folders.store.add(folders.adapter("region:ID", encoder="two"))
    after = models.load(before, new_bundle=True)
    assert (after.serving.name, slots(after)) == ("tiny@2", ["task:moderation", "region:DE", "region:ID"])


def test_what_was_fitted_to_another_bundle_is_refused_and_stops_a_start(folders: Folders) -> None:
    before = folders.models().open()
    old, new = folders.bundle.resolve(), folders.write("2")
    points = {"TOXICITY": [[0.0, 0.0], [1.0, 1.0]]}
    stale = json.dumps({"points": points, "bundle": read_manifest(old).digest})
    (new / MAPPING_FILE).write_text(stale, encoding="utf-8")
    folders.turn(new)
    [told] = refused(folders, before, new_bundle=True)
    assert (told.name, "was fitted to the bundle" in told.reason) == (BUNDLE, True)
    with pytest.raises(ValueError, match="was fitted to the bundle"):
        folders.models().open()
    fresh = json.dumps({"points": points, "bundle": read_manifest(new).digest})
    (new / MAPPING_FILE).write_text(fresh, encoding="utf-8")
    after = folders.models().load(before, new_bundle=True)
    assert after.serving.perspective.mapping.bundle == after.serving.moderator.bundle.manifest.digest


def test_a_link_that_is_turned_while_files_are_read_mixes_no_bundles(folders: Folders) -> None:
    """The folder that the link led to at first is read to its end."""
    other = folders.write("2")
    models = folders.models()
    load = models._load

    def turning(folder: object, policy: object) -> object:
        folders.turn(other)
        return load(folder, policy)  # type: ignore[arg-type]

    models._load = turning  # type: ignore[assignment]
    assert models.open().serving.name == "tiny@1"
    assert models.open().serving.name == "tiny@2"


def test_a_mapping_that_is_replaced_with_its_bundle_while_both_are_read_is_not_used(folders: Folders) -> None:
    """Files replaced in a served folder: the model was read, the mapping is the next bundle's."""
    models = folders.models()
    load, folder = models._load, folders.bundle.resolve()

    def replacing(path: object, policy: object) -> object:
        made = load(path, policy)  # type: ignore[arg-type]
        new = folders.write("2")
        document = {"points": {}, "bundle": read_manifest(new).digest}
        (folder / MAPPING_FILE).write_text(json.dumps(document), encoding="utf-8")
        (new / MANIFEST).replace(folder / MANIFEST)
        return made

    models._load = replacing  # type: ignore[assignment]
    with pytest.raises(BundleError, match="replaced while it was read"):
        models.open()


# ---- a real encoder


def retrained(bundle: Bundle, folder: Path, *, factor: float) -> Path:
    """The bundle's adapter of `region:ID` with every B times `factor`."""
    source = bundle.path / ADAPTERS / "region-ID"
    shutil.copytree(source, folder)
    with safe_open(source / WEIGHTS, framework="numpy") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    scaled = {key: tensor * np.float32(factor) if "lora_B" in key else tensor for key, tensor in tensors.items()}
    save_file({key: np.ascontiguousarray(value) for key, value in scaled.items()}, folder / WEIGHTS, metadata=metadata)
    return folder


def test_scores_are_those_of_one_adapter_while_adapters_are_exchanged(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Eight threads, one graph: each text gets exactly what its version gives it alone."""
    text, store = "free vodka and a casino bet", AdapterStore(tmp_path / "store")
    served = ServedModel(ModelFolders(tiny_bundle.path, store, policy=load_policy()))
    own = served.current().moderator

    def scores(moderator: Any) -> tuple[str, NDArray[np.float32]]:
        [version] = [each.version for each in moderator.adapters if each.name == "region:ID"]
        return version, moderator.probabilities([text], region="ID")[0]

    known = dict([scores(own)])
    sources = [retrained(tiny_bundle, tmp_path / str(factor), factor=factor) for factor in (2.0, -2.0)]
    for source in sources:
        store.add(source)
        version, found = scores(served.current().moderator)
        assert all(np.abs(found - other).max() > 0.01 for other in known.values())
        known[version] = found
    stop = threading.Event()

    def exchange() -> None:
        for source in itertools.takewhile(lambda _: not stop.is_set(), itertools.cycle((*sources, None))):
            if source is None:
                store.remove("region:ID")
            else:
                store.add(source)

    def read() -> set[str]:
        seen = set()
        for count in range(5_000):
            version, found = scores(served.current().moderator)
            np.testing.assert_allclose(found, known[version], atol=1e-5)
            seen.add(version)
            if count >= 20 and len(seen) == 3:
                break
        return seen

    with ThreadPoolExecutor(9) as pool:
        writer = pool.submit(exchange)
        readers = [pool.submit(read) for _ in range(8)]
        wait(readers)
        stop.set()
    writer.result()
    assert [reader.result() for reader in readers] == [set(known)] * 8
    assert served.refused == ()


def test_a_regions_adapter_over_one_with_a_curve_of_its_own_is_warned_of(tiny_bundle: Bundle, tmp_path: Path) -> None:
    folder, store = tmp_path / "bundle", AdapterStore(tmp_path / "store")
    shutil.copytree(tiny_bundle.path, folder)
    curve = {"scale": 0.5, "offset": 0.0}
    curves = dict.fromkeys(tiny_bundle.manifest.heads, curve)
    document = {"heads": curves, "slots": {"region:ID": {"political": curve}}}
    (folder / CALIBRATION).write_text(json.dumps(document), encoding="utf-8")
    write_manifest(folder, tiny_bundle.manifest)
    served = ServedModel(ModelFolders(folder, store, policy=load_policy()))
    before = served.current().readiness
    store.add(retrained(tiny_bundle, tmp_path / "more", factor=2.0))
    warnings = served.current().readiness.warnings
    assert warnings == (
        *before.warnings, "region:ID is not the bundle's own, to which its calibration curve was fitted"
    )  # fmt: skip
    store.remove("region:ID")
    assert served.current().readiness == before


def test_a_bundle_is_exchanged_with_its_graph_and_a_damaged_one_is_not(tiny_bundle: Bundle, tmp_path: Path) -> None:
    link, next_one = tmp_path / "bundle", tmp_path / "next"
    link.symlink_to(tiny_bundle.path)
    store = AdapterStore(tmp_path / "store")
    store.add(retrained(tiny_bundle, tmp_path / "more", factor=2.0))
    served = ServedModel(ModelFolders(link, store, policy=load_policy()))
    before = served.current()
    shutil.copytree(tiny_bundle.path, next_one)
    write_manifest(next_one, replace(tiny_bundle.manifest, version="2"))
    turning = tmp_path / "turning"
    turning.symlink_to(next_one)
    turning.replace(link)
    after = served.current()
    assert (before.name, after.name, served.refused) == ("tiny@1", "tiny@2", ())
    assert [(each.name, each.version) for each in after.moderator.adapters] == [
        (each.name, each.version) for each in before.moderator.adapters
    ]
    assert after.added == {"region:ID"}
    np.testing.assert_allclose(after.moderator.probabilities(["tea"]), before.moderator.probabilities(["tea"]))
    weights = next_one / BASE_WEIGHTS
    weights.with_suffix(".new").write_bytes(weights.read_bytes()[:-1] + b"?")
    weights.with_suffix(".new").replace(weights)
    after = served.reload().after
    assert (after.name, served.refused) == ("tiny@2", ())  # nothing that is watched has changed
    (next_one / MANIFEST).touch()
    assert served.current() is after
    assert "base.int8.bin has sha256" in served.refused[0].reason
