"""Adapters that come and go: immutable folders, one manifest, and what a crash or a second process may leave."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from retrieval_shared import adapter_store
from retrieval_shared.adapter_store import DIGITS, FILES, LOCK, MANIFEST, AdapterStore, StoredAdapter, stamp_of
from retrieval_shared.adapters import WEIGHTS
from retrieval_shared.errors import AdapterError

ROOT = Path(__file__).resolve().parents[2]
PATH = "base_model.model.encoder.layer.1.query"


def adapter(folder: Path, name: str = "region:ID", *, value: float = 1.0, alpha: int = 4) -> Path:
    """A folder as PEFT saves it: one linear layer 3 -> 2 of rank 1, every weight `value`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": alpha}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    tensors = {
        f"{PATH}.lora_A.weight": np.full((1, 3), value, np.float32),
        f"{PATH}.lora_B.weight": np.full((2, 1), value, np.float32),
    }
    save_file(tensors, folder / WEIGHTS, metadata={"wardline.name": name, "wardline.encoder": "e" * 64})
    (folder / "README.md").write_text("of no use here", encoding="utf-8")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> AdapterStore:
    return AdapterStore(tmp_path / "var" / "adapters")


def versions(store: AdapterStore) -> dict[str, str]:
    return {each.name: each.version for each in store.read()}


def folders(store: AdapterStore) -> list[str]:
    return sorted(path.name for path in store.folder.iterdir() if path.is_dir())


def test_a_store_that_nobody_wrote_to_is_empty(store: AdapterStore) -> None:
    assert (store.stamp(), store.entries(), store.read()) == (None, (), ())
    assert not store.folder.exists()


def test_an_adapter_comes_in_and_goes_out(store: AdapterStore, tmp_path: Path) -> None:
    added = store.add(adapter(tmp_path / "a", value=2.0))
    [entry] = store.entries()
    assert entry == StoredAdapter("region:ID", f"region-ID@{entry.sha256[:DIGITS]}", entry.sha256)
    assert sorted(path.name for path in (store.folder / entry.folder).iterdir()) == sorted(FILES)
    [read] = store.read()
    assert (read.name, read.version, read.encoder) == (added.name, added.version, "e" * 64)
    a, b = read.matrices["encoder.layer.1.query"]
    assert (a.tolist(), b.tolist()) == ([[2.0]] * 3, [[8.0, 8.0]])  # scale 4 / 1 in B
    store.remove("region:ID")
    assert (store.read(), folders(store)) == ((), [])


def test_a_newer_one_takes_the_place_of_the_older(store: AdapterStore, tmp_path: Path) -> None:
    """In the manifest's order, and the older one's folder goes."""
    store.add(adapter(tmp_path / "a", "region:ID"))
    store.add(adapter(tmp_path / "b", "region:IN-GJ"))
    first = versions(store)
    store.add(adapter(tmp_path / "c", "region:ID", value=3.0))
    second = versions(store)
    assert list(second) == ["region:ID", "region:IN-GJ"]
    assert (second["region:ID"] != first["region:ID"], second["region:IN-GJ"]) == (True, first["region:IN-GJ"])
    assert folders(store) == sorted(entry.folder for entry in store.entries())


def test_the_configuration_is_content_too(store: AdapterStore, tmp_path: Path) -> None:
    """The scale stands in it, so equal weights under another one are another adapter."""
    store.add(adapter(tmp_path / "a", alpha=4))
    before = store.entries()
    store.add(adapter(tmp_path / "b", alpha=8))
    assert store.entries() != before
    assert store.read()[0].matrices["encoder.layer.1.query"][1].tolist() == [[8.0, 8.0]]


def test_every_change_has_another_stamp(store: AdapterStore, tmp_path: Path) -> None:
    """However fast one follows the other, and where the file's size and place on the disk are as they were."""
    one, other = adapter(tmp_path / "a", value=1.0), adapter(tmp_path / "b", value=2.0)
    stamps = [store.stamp()]
    for _ in range(5):
        for source in (one, other, other):
            store.add(source)
            stamps.append(store.stamp())
        store.touch()
        stamps.append(store.stamp())
    times = [stamp[0] for stamp in stamps if stamp is not None]
    assert (stamps[0], len(times)) == (None, 20)
    assert times == sorted(set(times))


def test_a_clock_that_went_back_gives_no_stamp_a_second_time(store: AdapterStore, tmp_path: Path) -> None:
    store.add(adapter(tmp_path / "a"))
    ahead = 2**62
    os.utime(store.folder / MANIFEST, ns=(ahead, ahead))
    changes: list[Callable[[], object]] = [
        lambda: store.add(tmp_path / "a"),
        store.touch,
        store.touch,
        lambda: store.remove("region:ID"),
    ]
    times = []
    for change in changes:
        change()
        stamp = store.stamp()
        assert stamp is not None
        times.append(stamp[0] - ahead)
    assert times == [1, 2, 3, 4]


def test_a_touch_changes_the_stamp_alone(store: AdapterStore, tmp_path: Path) -> None:
    store.touch()
    assert store.stamp() is not None
    assert store.entries() == ()
    store.add(adapter(tmp_path / "a"))
    before = store.stamp(), store.entries()
    store.touch()
    assert store.stamp() != before[0]
    assert store.entries() == before[1]


def test_a_stamp_follows_links_and_names_what_is_not_there(tmp_path: Path) -> None:
    """A link that is turned to another file of the same size is another stamp."""
    for name in ("a", "b"):
        (tmp_path / name).write_text("same", encoding="utf-8")
    link = tmp_path / "link"
    link.symlink_to("a")
    before = stamp_of(link)
    link.unlink()
    link.symlink_to("b")
    assert before == stamp_of(tmp_path / "a")
    assert stamp_of(link) == stamp_of(tmp_path / "b") != before
    assert stamp_of(tmp_path / "none") is None


# ---- what is refused


def test_what_is_no_adapter_changes_nothing(store: AdapterStore, tmp_path: Path) -> None:
    store.add(adapter(tmp_path / "a"))
    before = store.stamp(), versions(store)
    (tmp_path / "empty").mkdir()
    with pytest.raises(AdapterError, match="adapter empty: cannot be read"):
        store.add(tmp_path / "empty")
    for name in ("base", "region:", "region:../x", "region:a/b", "Region:ID", "region:" + "x" * 65, "a-b:c"):
        with pytest.raises(ValueError, match="adapter: found the name"):
            store.add(adapter(tmp_path / "b", name))
    assert (store.stamp(), versions(store)) == before


def test_only_what_is_there_can_be_removed(store: AdapterStore, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="adapter: found 'region:IN', allowed none, nothing was added"):
        store.remove("region:IN")
    store.add(adapter(tmp_path / "a"))
    with pytest.raises(ValueError, match="adapter: found 'region:IN', allowed region:ID"):
        store.remove("region:IN")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [lambda file: file.write_bytes(file.read_bytes() + b" "), Path.unlink])
def test_a_damaged_file_is_found_and_mended_by_adding_again(
    name: str, damage: Callable[[Path], object], store: AdapterStore, tmp_path: Path
) -> None:
    source = adapter(tmp_path / "a")
    store.add(source)
    [entry] = store.entries()
    damage(store.folder / entry.folder / name)
    with pytest.raises(AdapterError, match="adapter 'region:ID': the files in .* are not those that were added"):
        store.read()
    before = store.stamp()
    store.add(source)
    assert [each.name for each in store.read()] == ["region:ID"]
    assert store.stamp() != before  # whoever refused it looks again
    assert folders(store) == [entry.folder]


def test_a_line_under_another_name_is_refused(store: AdapterStore, tmp_path: Path) -> None:
    store.add(adapter(tmp_path / "a"))
    [entry] = store.entries()
    folder = f"region-IN@{entry.sha256[:DIGITS]}"
    shutil.copytree(store.folder / entry.folder, store.folder / folder)
    lines = [{"name": "region:IN", "folder": folder, "sha256": entry.sha256}]
    (store.folder / MANIFEST).write_text(json.dumps({"format": 1, "adapters": lines}), encoding="utf-8")
    with pytest.raises(AdapterError, match="adapter 'region:IN': the weights in .* are of 'region:ID'"):
        store.read()


def line(**changes: object) -> dict[str, object]:
    return {"name": "region:ID", "folder": f"region-ID@{'a' * 12}", "sha256": "a" * 64, **changes}


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("{", "cannot be read"),
        ("[]", "malformed"),
        ("{}", "malformed: 'format'"),
        ({"format": 2, "adapters": []}, "malformed: found format 2, this version reads 1"),
        ({"format": 1, "adapters": [line(more=1)]}, "malformed"),
        ({"format": 1, "adapters": [line(name=1)]}, "malformed"),
        ({"format": 1, "adapters": [line(name="base")]}, "malformed: adapter: found the name 'base'"),
        ({"format": 1, "adapters": [line(folder="../region-ID@" + "a" * 12)]}, "malformed: region:ID: found folder"),
        ({"format": 1, "adapters": [line(sha256="A" * 64)]}, "malformed: region:ID: found sha256"),
        ({"format": 1, "adapters": [line(), line()]}, "malformed: region:ID stands there twice"),
    ],
)
def test_a_malformed_manifest_is_refused_and_not_written_over(
    document: object, reason: str, store: AdapterStore, tmp_path: Path
) -> None:
    store.folder.mkdir(parents=True)
    text = document if isinstance(document, str) else json.dumps(document)
    (store.folder / MANIFEST).write_text(text, encoding="utf-8")
    source = adapter(tmp_path / "a")
    for ask in (store.read, lambda: store.add(source), lambda: store.remove("region:ID")):
        with pytest.raises(AdapterError, match=reason):
            ask()
    assert (store.folder / MANIFEST).read_text(encoding="utf-8") == text


# ---- crashes, threads and processes

CRASH = """
import os, pkgutil, sys
from pathlib import Path
from retrieval_shared.adapter_store import AdapterStore
owner, _, name = sys.argv[1].rpartition(".")
setattr(pkgutil.resolve_name(owner), name, lambda *_, **__: os._exit(9))
AdapterStore(Path(sys.argv[2])).add(Path(sys.argv[3]))
"""
MOMENTS = {
    "while files are copied": "retrieval_shared.adapter_store._sync",
    "before the copy has its name": "os.rename",
    "between copy and manifest": "retrieval_shared.adapter_store:AdapterStore._replace",
    "before the manifest is replaced": "os.replace",
    "before what is old is swept away": "retrieval_shared.adapter_store:AdapterStore._sweep",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_crash_leaves_the_old_or_the_new_whole(moment: str, store: AdapterStore, tmp_path: Path) -> None:
    """And no lock; the next change sweeps away what was left."""
    store.add(adapter(tmp_path / "a", value=1.0))
    old = versions(store)
    newer = adapter(tmp_path / "b", value=2.0)
    arguments = (MOMENTS[moment], str(store.folder), str(newer))
    done = subprocess.run([sys.executable, "-c", CRASH, *arguments], cwd=ROOT, check=False)
    assert done.returncode == 9
    assert (versions(store) == old) == ("swept" not in moment)
    store.add(newer)
    store.add(adapter(tmp_path / "c", "region:IN"))
    assert versions(store)["region:ID"] != old["region:ID"]
    assert folders(store) == sorted(entry.folder for entry in store.entries())
    assert {path.name for path in store.folder.iterdir() if path.is_file()} == {LOCK, MANIFEST}


ADD_MANY = """
import sys
from pathlib import Path
from retrieval_shared.adapter_store import AdapterStore
store = AdapterStore(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for folder in sys.argv[2:]:
    store.add(Path(folder))
"""


def test_two_processes_that_add_at_once_lose_nothing(store: AdapterStore, tmp_path: Path) -> None:
    """Twenty names each, begun at one word; in between a reader never meets a store that is not whole."""
    names = {who: [f"region:{who}-{i}" for i in range(20)] for who in ("A", "B")}
    started = []
    for who, own in names.items():
        given = [str(adapter(tmp_path / who / str(i), name, value=float(i))) for i, name in enumerate(own)]
        command = [sys.executable, "-c", ADD_MANY, str(store.folder), *given]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        started.append(subprocess.Popen(command, cwd=ROOT, text=True, **pipes))  # type: ignore[call-overload]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    counts = [0]
    while any(process.poll() is None for process in started):
        counts.append(len(store.read()))
    for process in started:
        process.communicate()
    assert [process.returncode for process in started] == [0, 0]
    assert counts == sorted(counts)
    assert sorted(versions(store)) == sorted(names["A"] + names["B"])


def test_a_reader_between_two_writers_reads_one_of_their_versions(store: AdapterStore, tmp_path: Path) -> None:
    """Never none, never a mixture, though each change sweeps the other's folder away."""
    sources = [adapter(tmp_path / str(value), value=float(value)) for value in (1, 2)]
    store.add(sources[0])
    stop = threading.Event()

    def write(source: Path) -> None:
        while not stop.is_set():
            store.add(source)

    def read() -> set[float]:
        seen = set()
        for _ in range(60):
            [found] = store.read()
            a, b = found.matrices["encoder.layer.1.query"]
            [value] = {*a.ravel().tolist(), b[0, 0] / 4}
            seen.add(value)
        return seen

    with ThreadPoolExecutor(5) as pool:
        writers = [pool.submit(write, source) for source in sources]
        readers = [pool.submit(read) for _ in range(3)]
        wait(readers)
        stop.set()
    assert [writer.result() for writer in writers] == [None, None]
    assert all(reader.result() <= {1.0, 2.0} for reader in readers)


def test_what_is_written_reaches_the_disk_before_it_is_named(
    store: AdapterStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files, then their folder, then the manifest: a machine that loses its power keeps the old or the new."""
    order: list[str] = []
    steps = {"synced": (adapter_store, "_sync"), "named": (Path, "rename"), "replaced": (Path, "replace")}

    def noted(step: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(path: Path, *to: Path) -> object:
            order.append(f"{step} {path.name.partition('-')[0]}")
            return real(path, *to)

        return call

    for step, (owner, name) in steps.items():
        monkeypatch.setattr(owner, name, noted(step, getattr(owner, name)))
    store.add(adapter(tmp_path / "a"))
    assert order == [
        *(f"synced {name}" for name in FILES),
        "synced .incoming",
        "named .incoming",
        "synced adapters",
        "synced .incoming",
        "replaced .incoming",
        "synced adapters",
    ]
