"""The encoders that a report sets side by side: those of bundles, and the float32 one that a bundle was made from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tokenizers import Tokenizer

from eval.suites.fertility import TokenSource
from eval.suites.speed import THREADS, Timed
from eval.vectors import SentenceEncoder
from retrieval_shared import Encoder
from retrieval_shared.bundle import CONFIG, TOKENIZER, Bundle, load_bundle, sha256_of
from retrieval_shared.onnx_encoder import OnnxEncoder


@dataclass(frozen=True)
class Float32:
    """The float32 encoder whose int8 form the first encoder is."""

    name: str
    """Its name among the encoders."""
    sha256: str
    """Of its transformer's weights."""
    same: bool | None
    """Whether the first encoder's bundle was made from these weights; None where the bundle does not say."""


@dataclass(frozen=True)
class Compared:
    """Encoders in the order of the columns, and what is known of them."""

    encoders: Mapping[str, SentenceEncoder]
    """Name -> encoder; the report is about the first."""
    tokens: Mapping[str, TokenSource] = field(default_factory=dict)
    """Name -> tokenizer, or token counter, of those whose fertility is asked."""
    served: Mapping[str, Timed] = field(default_factory=dict)
    """Name -> what is timed, of those that are bundles."""
    bundle: Bundle | None = None
    """The bundle the first encoder is of; None where it is of none."""
    float32: Float32 | None = None
    """What the first encoder is held against to see what int8 costs."""

    def __post_init__(self) -> None:
        """Raise `ValueError` when there is no encoder, or something is known of one that is not there."""
        if not self.encoders:
            raise ValueError("encoders: found none, expected at least one")
        known = {"tokens": set(self.tokens), "served": set(self.served)}
        known["float32"] = {self.float32.name} if self.float32 else set()
        for what, names in known.items():
            if unknown := sorted(names - set(self.encoders)):
                raise ValueError(f"{what}: found {', '.join(unknown)}, allowed {', '.join(self.encoders)}")


def load_compared(bundles: Sequence[Path | None], *, paths: Path | None = None) -> Compared:
    """Return the encoders of bundles, named after bundle, version and folder, and those of a float32 folder.

    Args:
        bundles: folders of bundles; None is the shipped one.
        paths: folder of the float32 encoder with two paths that the first bundle was made from.

    Raises:
        ValueError: no bundle is given, two paths name one bundle, or a file of the float32 folder is missing.
        BundleError: a bundle is missing or damaged.
    """
    found = {_name(bundle): bundle for bundle in map(load_bundle, bundles)}
    if not found or len(found) < len(bundles):
        raise ValueError(
            f"bundles: found {len(bundles)}, {len(found)} different, expected different ones, at least one"
        )
    tokenizers = {name: Tokenizer.from_file(str(bundle.file(TOKENIZER))) for name, bundle in found.items()}
    compared = Compared(
        encoders={name: Encoder.load(bundle.path) for name, bundle in found.items()},
        tokens=tokenizers,
        # Apart from those above, whose number of threads is the caller's choice.
        served={name: Timed(_timed(bundle), tokenizers[name]) for name, bundle in found.items()},
        bundle=next(iter(found.values())),
    )
    return compared if paths is None else _with_float32(compared, paths)


def _with_float32(compared: Compared, folder: Path) -> Compared:
    from eval.path_encoders import BOTH, WEIGHTS, load_paths  # loads torch, which bundles alone do not need

    encoders = {**compared.encoders, **load_paths(folder)}
    digest = sha256_of(folder / WEIGHTS)
    made_from = _made_from(compared.bundle)
    same = None if made_from is None else made_from == digest
    return replace(compared, encoders=encoders, float32=Float32(name=BOTH, sha256=digest, same=same))


def _made_from(bundle: Bundle | None) -> str | None:
    """Return the sha256 of the weights a bundle was made from, where it says."""
    if bundle is None:
        return None
    return json.loads(bundle.file(CONFIG).read_text(encoding="utf-8")).get("base_sha256") or None


def _timed(bundle: Bundle) -> Encoder:
    return Encoder(OnnxEncoder(bundle, threads=THREADS))


def _name(bundle: Bundle) -> str:
    return f"{bundle.manifest.name}@{bundle.manifest.version} ({bundle.path.name})"
