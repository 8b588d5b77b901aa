"""A model bundle on disk: its files, their hashes, and loading only what is whole."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval_shared.errors import BundleError

MANIFEST = "bundle.json"
FORMAT = 2
DEFAULT_BUNDLE = Path(__file__).resolve().parent.parent / "models" / "default"
"""The bundle that ships with Wardline."""

GRAPH, BASE_WEIGHTS, TOKENIZER = "encoder.onnx", "base.int8.bin", "tokenizer.json"
CALIBRATION, THRESHOLDS, CONFIG = "calibration.json", "thresholds.json", "training.json"
ADAPTERS, HEADS = "adapters", "heads"
"""Folders of a bundle: a folder per adapter slot, and the pooling block with a folder per head."""
ENCODER_RECORD = "encoder.json"
"""How the encoder of a bundle was trained; older bundles have none."""
PERSPECTIVE = "perspective.json"
"""Fitted to a finished bundle and laid in its folder: it names the bundle's digest and is no part of it."""
REQUIRED = (GRAPH, BASE_WEIGHTS, TOKENIZER, CALIBRATION, THRESHOLDS, CONFIG)
"""Files every bundle holds; adapters and the model card come on top."""


@dataclass(frozen=True)
class Probe:
    """A text with the probabilities it had when the bundle was made: a machine that disagrees computes otherwise."""

    text: str
    probabilities: Mapping[str, float]


@dataclass(frozen=True)
class Manifest:
    """What `bundle.json` says."""

    name: str
    """Name of the bundle."""
    version: str
    """Version of the bundle, the maker's word."""
    heads: tuple[str, ...]
    """Heads in the order of the logits."""
    slots: tuple[str, ...]
    """Adapter slots in their order; slot 0 is "base", each other one has a folder in `ADAPTERS`."""
    languages: tuple[str, ...]
    """Language codes the model was measured to read well enough."""
    max_tokens: int
    """Longest token sequence of one pass, special tokens included; longer texts are chunked."""
    files: Mapping[str, str]
    """File name, relative to the bundle -> sha256."""
    probe: Probe
    """A self-test."""
    format: int = FORMAT
    """Layout version."""

    @property
    def digest(self) -> str:
        """Return a sha256 over all files' hashes: the bundle's identity."""
        return hashlib.sha256(json.dumps(dict(sorted(self.files.items()))).encode()).hexdigest()


@dataclass(frozen=True)
class Bundle:
    """A verified bundle."""

    path: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        """Return the path of a file of the bundle."""
        return self.path / name

    def sha256(self, name: str) -> str:
        """Return the recorded hash of a file of the bundle."""
        return self.manifest.files[name]


def load_bundle(path: Path | str | None = None) -> Bundle:
    """Return the bundle at `path` after checking every file against its hash.

    Args:
        path: the bundle's folder; None takes `WARDLINE_BUNDLE` from the environment, else the shipped bundle.

    Raises:
        BundleError: the folder, the manifest or a file is missing, malformed or has another hash.
    """
    folder = Path(path or os.environ.get("WARDLINE_BUNDLE") or DEFAULT_BUNDLE)
    manifest = read_manifest(folder)
    missing = [name for name in REQUIRED if name not in manifest.files]
    if missing:
        raise BundleError(f"bundle {folder}: {MANIFEST} lists no {', '.join(missing)}")
    for name, expected in manifest.files.items():
        file = folder / name
        if not file.resolve().is_relative_to(folder.resolve()):
            raise BundleError(f"bundle {folder}: {MANIFEST} names {name!r}, which lies outside the bundle")
        if not file.is_file():
            raise BundleError(f"bundle {folder}: {name} is missing")
        found = sha256_of(file)
        if found != expected:
            raise BundleError(
                f"bundle {folder}: {name} has sha256 {found}, {MANIFEST} expects {expected}; "
                "the file is damaged or belongs to another bundle"
            )
    return Bundle(path=folder, manifest=manifest)


def read_manifest(folder: Path) -> Manifest:
    """Return what `bundle.json` in a folder says; no file is checked against it.

    Raises:
        BundleError: it is missing or malformed.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(
            f"no model bundle at {folder}: {MANIFEST} is missing; train one (`make train`) "
            "or name another with WARDLINE_BUNDLE"
        )
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if document.get("format") != FORMAT:
            raise BundleError(f"bundle {folder}: format {document.get('format')!r}, this version reads {FORMAT}")
        return Manifest(
            name=document["name"],
            version=document["version"],
            heads=tuple(document["heads"]),
            slots=tuple(document["slots"]),
            languages=tuple(document["languages"]),
            max_tokens=int(document["max_tokens"]),
            files=dict(document["files"]),
            probe=Probe(**document["probe"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"bundle {folder}: {MANIFEST} cannot be read: {error!r}") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `bundle.json`, hashing the files of the bundle as they lie in `folder`.

    Not hashed are the model card and what is fitted to the bundle later (`PERSPECTIVE`).
    """
    names = sorted(
        file.relative_to(folder).as_posix()
        for file in folder.rglob("*")
        if file.is_file() and file.name not in (MANIFEST, PERSPECTIVE) and file.suffix != ".md"
    )
    hashed = dataclasses.replace(manifest, files={name: sha256_of(folder / name) for name in names})
    document = dataclasses.asdict(hashed)
    (folder / MANIFEST).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
