"""A whole API over made-up scores: real policies, real queue, real database, no model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from safetensors.numpy import save_file

from moderation.api import ModerationApi
from moderation.decision import Decision, decide
from moderation.item import Item
from moderation.model_folders import ModelFolders
from moderation.pipeline import Moderated
from moderation.policy import Policy
from moderation.policy_document import load_policy
from moderation.review.store import Store
from moderation.service import build_app
from moderation.settings import Settings
from moderation.signal_sources import NO_SOURCES, SignalSources
from moderation.thresholds import HeadThreshold, Thresholds
from retrieval_shared.adapter_store import AdapterStore
from retrieval_shared.adapters import (
    CONFIG,
    ENCODER_KEY,
    NAME_KEY,
    WEIGHTS,
    Adapter,
    Layout,
    check_adapter,
    overlay,
)
from retrieval_shared.bundle import BASE_WEIGHTS, REQUIRED, Bundle, Manifest, Probe, load_bundle, write_manifest
from retrieval_shared.language import Language

POLICY = load_policy("ads-default")
AT = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)
HEADS = tuple(head.name for head in POLICY.heads)
MODULE = "layer"
"""What an adapter of `Folders` adapts."""


class MadeUpScores:
    """Decides with the real policy: a head named in the text has 0.99, any other 0.01."""

    heads = HEADS
    policy: Policy = POLICY
    adapters: tuple[Adapter, ...] = (
        Adapter("task:moderation", "77aa01c9e3b2", None, "0c" * 32, {}),
        Adapter("region:ID", "1a2b3c4d5e6f", "task:moderation", "0c" * 32, {}),
    )
    calibrated_slots: frozenset[str] = frozenset()
    thresholds = Thresholds.of(
        prevalence=0.02, heads={head: HeadThreshold(0.3, 0.6, "made up", 900, 900) for head in HEADS}
    )
    bundle = Bundle(
        Path("nowhere"),
        Manifest(
            name="tiny",
            version="1",
            heads=HEADS,
            slots=("base", *(adapter.name for adapter in adapters)),
            languages=("en",),
            max_tokens=256,
            files={BASE_WEIGHTS: "0c" * 32},
            probe=Probe("probe", dict.fromkeys(HEADS, 0.01)),
        ),
    )

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        scores = [[0.99 if head in text else 0.01 for head in HEADS] for text in texts]
        return np.array(scores, dtype=np.float32).reshape(len(texts), len(HEADS))

    def language(self, text: str) -> Language:
        return Language("en" if any(map(str.isalpha, text)) else "und", 1.0, True)

    def moderate_and_count(
        self, items: Sequence[Item], *, explain: bool, policy: Policy | None = None, sources: SignalSources = NO_SOURCES
    ) -> Moderated:
        assert isinstance(explain, bool)
        assert isinstance(sources, SignalSources)
        return Moderated([self._decide(item, policy or POLICY) for item in items], len(items))

    def _decide(self, item: Item, policy: Policy) -> Decision:
        [row] = self.probabilities([" ".join(item.fields.values())]).tolist()
        scores = dict(zip(HEADS, row, strict=True))
        regions = [
            decide(scores, region=region, policy=policy, thresholds=self.thresholds, context=item.context, at=AT)
            for region in item.regions
        ]
        return Decision(
            id=item.id,
            status="ok",
            error=None,
            language=Language("en", 1.0, True),
            decisions=tuple(regions),
            probabilities=scores,
            obfuscation=None,
            versions={"policy_set": policy.ref, "thresholds": self.thresholds.id},
        )


@pytest.fixture(scope="module")
def made_up_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModerationApi]:
    """An API with a database of its own."""
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('database') / 'wardline.db'}")
    api = ModerationApi.over(MadeUpScores(), store, Settings())  # type: ignore[arg-type]  # all that it asks of one
    yield api
    api.close()
    store.close()


@pytest.fixture(scope="module")
def made_up_client(made_up_api: ModerationApi) -> Iterator[TestClient]:
    """A client of it on this machine."""
    app = build_app(lambda: made_up_api)
    with TestClient(
        app, base_url="http://localhost", client=("127.0.0.1", 1), raise_server_exceptions=False
    ) as connected:
        yield connected


@pytest.fixture(scope="session")
def made_up_scores() -> type[MadeUpScores]:
    """The class of the model behind `made_up_api`."""
    return MadeUpScores


# ---- models that are exchanged


class MadeUpModel(MadeUpScores):
    """As `MadeUpScores`, over a bundle's folder; an adapter whose one value is 13 gives no score.

    A decision names the bundle's version, and each adapter's with the weights it was trained over.
    """

    def __init__(self, bundle: Bundle, adapters: Sequence[Adapter] | None = None) -> None:
        self.bundle = bundle
        self.encoder = bundle.sha256(BASE_WEIGHTS)
        cuts = HeadThreshold(0.3 if bundle.manifest.version == "1" else 0.2, 0.6, "made up", 900, 900)
        self.thresholds = Thresholds.of(prevalence=0.02, heads=dict.fromkeys(HEADS, cuts))
        version = bundle.manifest.digest[:12]
        self.own = (Adapter("task:moderation", version, None, self.encoder, {}),)
        self.adapters = self.own if adapters is None else tuple(adapters)

    def with_adapters(self, adapters: Sequence[Adapter]) -> MadeUpModel:
        for adapter in adapters:
            check_adapter(adapter, Layout(self.encoder, {MODULE: (1, 1)}))
        return MadeUpModel(self.bundle, overlay(self.own, adapters))

    def moderate_and_count(self, items: Sequence[Item], **options: Any) -> Moderated:
        made = super().moderate_and_count(items, **options)
        failed = any(float(a[0, 0]) == 13 for each in self.adapters for a, _ in each.matrices.values())
        versions = {"bundle": self.bundle.manifest.version, "encoder": self.encoder}
        versions |= {each.name: f"{each.version} {each.encoder}" for each in self.adapters}
        decisions = [replace(each, versions={**each.versions, **versions}, degraded=failed) for each in made.decisions]
        return Moderated(decisions, made.tokens)


@dataclass(frozen=True)
class Folders:
    """A link to a bundle, bundles to turn it to, and a store of adapters; all files are real, the model is made up."""

    path: Path

    @property
    def bundle(self) -> Path:
        """The link."""
        return self.path / "bundle"

    @property
    def store(self) -> AdapterStore:
        return AdapterStore(self.path / "adapters")

    def models(self) -> ModelFolders:
        return ModelFolders(self.bundle, self.store, policy=POLICY, load=lambda path, _: MadeUpModel(load_bundle(path)))

    def write(self, version: str, *, encoder: str = "one", probability: float = 0.01) -> Path:
        """A bundle's folder."""
        folder = self.path / f"bundle-{version}"
        folder.mkdir()
        for name in REQUIRED:
            (folder / name).write_text(f"{name} {version}", encoding="utf-8")
        (folder / BASE_WEIGHTS).write_text(encoder, encoding="utf-8")
        probe = Probe("probe", dict.fromkeys(HEADS, probability))
        write_manifest(folder, Manifest("tiny", version, HEADS, ("base", "task:moderation"), ("en",), 256, {}, probe))
        return folder

    def turn(self, folder: Path) -> None:
        """Turn the link to a bundle's folder, whole."""
        new = self.path / "turning"
        new.symlink_to(folder)
        new.replace(self.bundle)

    def adapter(self, name: str, value: float = 1.0, *, encoder: str = "one") -> Path:
        """A folder as PEFT saves it: one matrix pair of one value, trained over the weights that `write` makes."""
        folder = self.path / "trained" / f"{name.replace(':', '-')} {value} {encoder}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).write_text('{"r": 1, "lora_alpha": 1}', encoding="utf-8")
        one = np.full((1, 1), value, dtype=np.float32)
        tensors = {f"base_model.model.{MODULE}.lora_{side}.weight": one for side in "AB"}
        weights = hashlib.sha256(encoder.encode()).hexdigest()
        save_file(tensors, folder / WEIGHTS, metadata={NAME_KEY: name, ENCODER_KEY: weights})
        return folder


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """With bundle 1 in service, over the encoder `one`."""
    made = Folders(tmp_path)
    made.turn(made.write("1"))
    return made
