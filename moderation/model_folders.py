"""Where the model comes from: the bundle's folder and the store of added adapters, loaded whole or refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from moderation.item import Item
from moderation.pipeline import Moderator
from moderation.policy import Policy
from moderation.readiness import PROBE_REGION
from moderation.regions import check_region
from moderation.scorer import Adaptable
from moderation.serving import Serving
from retrieval_shared import bundle as bundles
from retrieval_shared.adapter_store import MANIFEST, AdapterStore, Stamp, stamp_of
from retrieval_shared.adapters import Adapter
from retrieval_shared.bundle import DEFAULT_BUNDLE
from retrieval_shared.errors import AdapterError, BundleError, WardlineError

BUNDLE = "bundle"
"""Stands where the bundle, and no adapter, is refused."""
REGION = "region:"
_UNUSABLE = (WardlineError, ValueError, LookupError, TypeError, OSError, MemoryError)
"""What a damaged file, a half-written folder or a model too large comes to."""


@dataclass(frozen=True)
class Stamps:
    """What lies in the folders, told apart by two looks at the file system."""

    bundle: Stamp | None
    adapters: Stamp | None


@dataclass(frozen=True)
class Refused:
    """Something in the folders that does not serve."""

    name: str
    """Of the adapter; `bundle`, or the store's manifest where that is what cannot be used."""
    reason: str
    """For the operator; it may name paths."""


class RefusedError(WardlineError):
    """What lies in the folders does not make a whole model; whatever serves goes on."""

    def __init__(self, refused: Sequence[Refused]) -> None:
        super().__init__("; ".join(f"{each.name}: {each.reason}" for each in refused))
        self.refused = tuple(refused)


@dataclass(frozen=True)
class Loaded:
    """A model as it was read from the folders."""

    serving: Serving
    """With the adapters that were added."""
    own: Serving
    """The bundle with its own alone, so that an adapter that is removed leaves no trace."""
    moderator: Adaptable
    """That of `own`."""
    refused: tuple[Refused, ...] = ()
    """Added adapters that are left out."""


def load_moderator(folder: Path, policy: Policy) -> Adaptable:
    """The moderator over a bundle."""
    return Moderator.load(folder, policy=policy)


class ModelFolders:
    """A bundle's folder and a store of adapters; holds no model."""

    def __init__(
        self,
        bundle: Path | None,
        store: AdapterStore,
        *,
        policy: Policy,
        load: Callable[[Path, Policy], Adaptable] = load_moderator,
    ) -> None:
        """Keep where to look.

        Args:
            bundle: the bundle's folder, or a link to it; None is the shipped one.
            store: the adapters that were added.
            policy: every bundle must have its heads.
            load: makes a moderator of a bundle's folder.
        """
        self._bundle = bundle or DEFAULT_BUNDLE
        self._bundle_manifest = self._bundle / bundles.MANIFEST
        self._store = store
        self._policy = policy
        self._load = load

    def stamps(self) -> Stamps:
        """What lies there now; two calls of the system."""
        return Stamps(stamp_of(self._bundle_manifest), self._store.stamp())

    def touch(self) -> None:
        """Has every worker look again. Raises `OSError` where the store cannot be written to."""
        self._store.touch()

    def open(self) -> Loaded:
        """The model to start with: the bundle, and of the added adapters those that can be used.

        Raises:
            BundleError: the bundle cannot be used.
            ValueError: the policy or what lies beside the bundle does not fit it.
        """
        bare = self._read_bundle()
        try:
            return _over(bare, self._store.read())
        except _UNUSABLE:
            usable, refused = self._sifted(bare)
            return replace(_over(bare, usable), refused=refused)

    def load(self, before: Loaded, *, new_bundle: bool) -> Loaded:
        """The model that the folders make now, with every added adapter.

        Args:
            before: what serves; its bundle stays loaded where it has not changed.
            new_bundle: whether the bundle has changed.

        Raises:
            RefusedError: something cannot be used; every adapter at fault is named.
        """
        bare = self._new_bundle() if new_bundle else before
        try:
            return _over(bare, self._store.read())
        except _UNUSABLE as error:
            refused = self._sifted(bare)[1] or (Refused(MANIFEST, _reason(error)),)
            if new_bundle:
                waits = f"{bare.own.name} waits until the added adapters fit it, or are removed"
                refused = (Refused(BUNDLE, waits), *refused)
            raise RefusedError(refused) from error

    def _new_bundle(self) -> Loaded:
        try:
            bare = self._read_bundle()
        except _UNUSABLE as error:
            raise RefusedError((Refused(BUNDLE, _reason(error)),)) from error
        if not bare.own.readiness.ready:
            raise RefusedError((Refused(BUNDLE, bare.own.readiness.warnings[0]),))
        return bare

    def _read_bundle(self) -> Loaded:
        folder = self._bundle.resolve()  # a link may be turned while files are read: all are read from one folder
        moderator = self._load(folder, self._policy)
        own = Serving.of(moderator)
        fitted_to = own.perspective.mapping.bundle
        if fitted_to and fitted_to != moderator.bundle.manifest.digest:
            raise BundleError(f"bundle {folder}: it was replaced while it was read")
        return Loaded(own, own, moderator)

    def _sifted(self, bare: Loaded) -> tuple[tuple[Adapter, ...], tuple[Refused, ...]]:
        """The adapters that can be used, each tried alone, and what is wrong with the others."""
        try:
            entries = self._store.entries()
        except AdapterError as error:
            return (), (Refused(MANIFEST, _reason(error)),)
        usable, refused = [], []
        for entry in entries:
            try:
                adapter = self._store.load(entry)
                _over(bare, (adapter,))
                usable.append(adapter)
            except _UNUSABLE as error:  # noqa: PERF203 - each is tried
                refused.append(Refused(entry.name, _reason(error)))
        return tuple(usable), tuple(refused)


def _over(bare: Loaded, adapters: Sequence[Adapter]) -> Loaded:
    """The bundle with adapters over its own, tried on its probe text in each of their regions.

    Raises:
        AdapterError: they do not fit, or give no score.
        ValueError: one names a region that is none.
    """
    if not adapters:
        return Loaded(bare.own, bare.own, bare.moderator)
    moderator = bare.moderator.with_adapters(adapters)
    regions = [each.name.removeprefix(REGION) for each in adapters if each.name.startswith(REGION)]
    for region in regions:
        check_region(region)
    text = moderator.bundle.manifest.probe.text
    item = Item(id="probe", fields={"text": text}, regions=tuple(dict.fromkeys((PROBE_REGION, *regions))))
    [made] = moderator.moderate_and_count([item], explain=False).decisions
    if made.degraded:
        raise AdapterError("under it the bundle's probe text gets no score")
    return Loaded(bare.own.under(moderator, [each.name for each in adapters]), bare.own, bare.moderator)


def _reason(error: BaseException) -> str:
    told = str(error)
    return told if isinstance(error, WardlineError | ValueError) else f"{type(error).__name__}: {told}"
