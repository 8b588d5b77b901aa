"""Adapters that come and go while services run: immutable folders, and one manifest that is only ever replaced whole.

    var/adapters/
    ├── adapters.json                {"format": 1, "adapters": [{"name": "region:ID", "folder": ..., "sha256": ...}]}
    └── region-ID@1a2b3c4d5e6f/      adapter_config.json, adapter_model.safetensors, as PEFT saves them

A folder is named by its content and never written to again, so a reader that holds an older manifest reads what that
manifest says. Whoever changes something holds the lock file; a crash leaves the old manifest or the new one, and at
worst a folder that nobody lists, which the next change sweeps away.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from retrieval_shared.adapters import CONFIG, WEIGHTS, Adapter, folder_of, read_adapter
from retrieval_shared.bundle import sha256_of
from retrieval_shared.errors import AdapterError

MANIFEST = "adapters.json"
FORMAT = 1
FILES = (CONFIG, WEIGHTS)
"""What is kept of an adapter's folder."""
DIGITS = 12
"""Of an adapter's sha256, in the name of its folder."""
LOCK = ".lock"
_INCOMING, _OUTGOING = ".incoming-", ".outgoing-"
_NAME = re.compile(r"[a-z]{1,16}:[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_KEPT = re.compile(rf"[A-Za-z0-9_-]+@[0-9a-f]{{{DIGITS}}}")

Stamp = tuple[int, int, int]
"""Modification time in ns, size in bytes and inode of a file: another after every replacement."""


def stamp_of(path: Path) -> Stamp | None:
    """Return the stamp of a file, the target's of a link; None where it cannot be looked at."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


@dataclass(frozen=True)
class StoredAdapter:
    """One line of the manifest.

    Raises:
        ValueError: the name is none of a slot, or the folder is not the one of this name and content.
    """

    name: str
    """The slot: `region:ID`, `task:moderation`."""
    folder: str
    """Its folder in the store: `region-ID@1a2b3c4d5e6f`."""
    sha256: str
    """Over the hashes of its files."""

    def __post_init__(self) -> None:
        """Checks that the folder can be no other than its own, so that no path leads out of the store."""
        _check_name(self.name)
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"{self.name}: found sha256 {self.sha256!r}, allowed 64 lower-case hex digits")
        if self.folder != (expected := f"{folder_of(self.name)}@{self.sha256[:DIGITS]}"):
            raise ValueError(f"{self.name}: found folder {self.folder!r}, expected {expected!r}")


class AdapterStore:
    """The adapters in one folder, which need not exist; safe between threads and processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._manifest = folder / MANIFEST

    def stamp(self) -> Stamp | None:
        """Return a key that changes whenever something was added or removed; None where there is no manifest."""
        return stamp_of(self._manifest)

    def entries(self) -> tuple[StoredAdapter, ...]:
        """Return what the manifest lists, in the order in which the names came.

        Raises:
            AdapterError: it is malformed.
        """
        try:
            document = json.loads(self._manifest.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return ()
        except (OSError, ValueError) as error:
            raise AdapterError(f"adapters in {self.folder}: {MANIFEST} cannot be read: {error}") from error
        try:
            if document["format"] != FORMAT:
                raise ValueError(f"found format {document['format']!r}, this version reads {FORMAT}")
            found = tuple(StoredAdapter(**entry) for entry in document["adapters"])
            names = [entry.name for entry in found]
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{twice[0]} stands there twice")
        except (ValueError, KeyError, TypeError) as error:
            raise AdapterError(f"adapters in {self.folder}: {MANIFEST} is malformed: {error}") from error
        return found

    def load(self, entry: StoredAdapter) -> Adapter:
        """Return the adapter of a line of the manifest, every file checked.

        Raises:
            AdapterError: its files are missing, damaged, or of another name.
        """
        folder = self.folder / entry.folder
        if _digest(folder) != entry.sha256:
            raise AdapterError(
                f"adapter {entry.name!r}: the files in {folder} are not those that were added, they are missing or "
                "damaged: add it again, or remove it"
            )
        adapter = read_adapter(folder)
        if adapter.name != entry.name:
            raise AdapterError(f"adapter {entry.name!r}: the weights in {folder} are of {adapter.name!r}")
        return adapter

    def read(self) -> tuple[Adapter, ...]:
        """Return every adapter of the manifest as it is at one moment, each file checked against its hash.

        Raises:
            AdapterError: the manifest is malformed, or an adapter is damaged.
        """
        while True:
            before = self.stamp()
            try:
                return tuple(self.load(entry) for entry in self.entries())
            except AdapterError:
                if self.stamp() == before:  # else what was read was replaced meanwhile, and swept away
                    raise

    def add(self, folder: Path) -> Adapter:
        """Add the adapter in a folder, in place of an older one of its name, and return it.

        Raises:
            AdapterError: it is none (`read_adapter`), or the manifest is malformed.
            ValueError: its name is none of a slot.
            OSError: it could not be copied; nothing has changed.
        """
        _check_name(read_adapter(folder).name)
        with self._alone():
            entries = self.entries()
            incoming = self.folder / f"{_INCOMING}{uuid.uuid4().hex}"
            incoming.mkdir()
            for name in FILES:
                shutil.copyfile(folder / name, incoming / name)
                _sync(incoming / name)
            adapter = read_adapter(incoming)  # what was copied counts, whatever has become of the source meanwhile
            digest = _digest(incoming)
            entry = StoredAdapter(adapter.name, f"{folder_of(adapter.name)}@{digest[:DIGITS]}", digest)
            self._settle(incoming, entry)
            lines = {each.name: each for each in entries} | {entry.name: entry}
            self._replace(lines.values())
        return adapter

    def remove(self, name: str) -> None:
        """Remove the adapter of a name; of one that replaced a bundle's own, that comes back.

        Raises:
            AdapterError: the manifest is malformed.
            ValueError: there is none of this name.
        """
        with self._alone():
            entries = self.entries()
            names = [entry.name for entry in entries]
            if name not in names:
                raise ValueError(f"adapter: found {name!r}, allowed {', '.join(names) or 'none, nothing was added'}")
            self._replace(entry for entry in entries if entry.name != name)

    def touch(self) -> None:
        """Change the stamp alone, so that whoever follows it looks again."""
        with self._alone():
            stamp = self.stamp()
            if stamp is None:
                self._replace(())
            else:
                moment = max(time.time_ns(), stamp[0] + 1)
                os.utime(self._manifest, ns=(moment, moment))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep every other process and thread from changing the store; the system frees the lock of one that died."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder / LOCK, os.O_RDONLY | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _settle(self, incoming: Path, entry: StoredAdapter) -> None:
        """Give what was copied its name; the same content that is there already stays, unless it is damaged."""
        target = self.folder / entry.folder
        if target.exists():
            if _digest(target) == entry.sha256:
                return  # the copy is swept away
            target.rename(self.folder / f"{_OUTGOING}{uuid.uuid4().hex}")
        _sync(incoming)
        incoming.rename(target)
        _sync(self.folder)

    def _replace(self, entries: Iterable[StoredAdapter]) -> None:
        """Put a new manifest in the old one's place, then sweep away what it does not list."""
        lines = [asdict(entry) for entry in entries]
        new = self.folder / f"{_INCOMING}{MANIFEST}"
        new.write_text(json.dumps({"format": FORMAT, "adapters": lines}, indent=2) + "\n", encoding="utf-8")
        before, stamp = self.stamp(), stamp_of(new)
        if before is not None and stamp is not None and stamp[0] <= before[0]:
            # Within one tick of the file system's clock; an inode may come back, so the time has to differ.
            os.utime(new, ns=(before[0] + 1, before[0] + 1))
        _sync(new)
        new.replace(self._manifest)
        _sync(self.folder)
        self._sweep({line["folder"] for line in lines})

    def _sweep(self, listed: set[str]) -> None:
        for path in self.folder.iterdir():
            unlisted = _KEPT.fullmatch(path.name) and path.name not in listed
            if path.is_dir() and (unlisted or path.name.startswith((_INCOMING, _OUTGOING))):
                shutil.rmtree(path, ignore_errors=True)  # what is left takes room and nothing else


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"adapter: found the name {name!r}, allowed `region:<ISO 3166>` or `task:<name>`")


def _digest(folder: Path) -> str:
    """Return the sha256 over the hashes of an adapter's files; of a file that cannot be read there is none in it."""
    hashes = {}
    for name in FILES:
        try:
            hashes[name] = sha256_of(folder / name)
        except OSError:
            hashes[name] = ""
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()


def _sync(path: Path) -> None:
    """Write a file or the names in a folder to the disk itself."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
