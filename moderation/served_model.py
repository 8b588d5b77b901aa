"""The model that a worker serves: it follows its folders, and is exchanged whole while requests run."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from moderation.model_folders import Loaded, ModelFolders, Refused, RefusedError, Stamps
from moderation.readiness import Readiness
from moderation.scorer import Scorer
from moderation.serving import Serving

log = structlog.get_logger()


@dataclass(frozen=True)
class Reloaded:
    """What a look by name has come to."""

    before: Serving
    after: Serving
    """The same where nothing could be loaded."""
    refused: tuple[Refused, ...]


class Served(Protocol):
    """What the API needs of a model that may be exchanged."""

    @property
    def serving(self) -> Serving:
        """What serves, without a look at the folders."""

    @property
    def refused(self) -> tuple[Refused, ...]:
        """What lies in the folders and does not serve."""

    def current(self) -> Serving:
        """What a request that comes now works with; it asks once, and may wait while something is loaded."""

    def reload(self) -> Reloaded:
        """Looks at the folders now, waits for what is loaded, and has every other worker look again."""


class Unchanging:
    """A moderator that serves for good, for a program that opens no folders."""

    refused: tuple[Refused, ...] = ()

    def __init__(self, moderator: Scorer) -> None:
        """Scores the probe text. Raises `ValueError` where what lies beside the bundle was fitted to another."""
        self.serving: Serving = Serving.of(moderator)

    def current(self) -> Serving:
        """What serves."""
        return self.serving

    def reload(self) -> Reloaded:
        """What serves, as it is."""
        return Reloaded(self.serving, self.serving, ())


@dataclass(frozen=True)
class _State:
    """What serves, and what was found in the folders; replaced whole."""

    loaded: Loaded
    read: Stamps
    """Of the folders when `loaded` was read from them."""
    looked: Stamps
    """Of the folders when they were last looked at, whatever came of it."""
    refused: tuple[Refused, ...] = ()


class ServedModel:
    """Serves what its folders hold; every worker has one, and they share nothing but the folders.

    A request asks `current` once. Where the folders have changed it loads what is new, and the other requests go on
    with the old; what cannot be used is refused, and the old goes on serving. A request that holds the old ends on it.
    """

    def __init__(self, folders: ModelFolders) -> None:
        """Loads what the folders hold.

        Raises:
            BundleError: the bundle cannot be used.
            ValueError: the policy or what lies beside the bundle does not fit it.
        """
        self._folders = folders
        self._loading = threading.Lock()
        stamps = folders.stamps()  # before the files: what changes while they are read is seen by the next request
        loaded = folders.open()
        self._state = _State(loaded, stamps, stamps, loaded.refused)
        _tell(loaded.refused)

    @property
    def serving(self) -> Serving:
        """What serves, without a look at the folders."""
        return self._state.loaded.serving

    @property
    def refused(self) -> tuple[Refused, ...]:
        """What lies in the folders and does not serve."""
        return self._state.refused

    def current(self) -> Serving:
        """What serves now; where the folders have changed, one thread loads what is new and the others do not wait."""
        if self._folders.stamps() != self._state.looked and self._loading.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._loading.release()
        return self._state.loaded.serving

    def reload(self) -> Reloaded:
        """Looks at the folders now, also where nothing changed, and has every other worker look at its next request."""
        with self._loading:
            before = self.serving
            try:
                self._folders.touch()
            except OSError as error:
                log.warning("the adapter store cannot be written to: other workers may not look", reason=str(error))
            self._look(anyway=True)
            return Reloaded(before, self.serving, self.refused)

    def _look(self, *, anyway: bool = False) -> None:
        before, stamps = self._state, self._folders.stamps()
        if stamps == before.looked and not anyway:  # another thread was faster
            return
        # First of all: a mistake of ours in what follows fails this request and not every one after it.
        self._state = replace(before, looked=stamps)
        try:
            loaded = self._folders.load(before.loaded, new_bundle=stamps.bundle != before.read.bundle)
        except RefusedError as error:
            self._state = replace(before, looked=stamps, refused=error.refused)
            _tell(error.refused)
            return
        self._state = _State(loaded, read=stamps, looked=stamps)
        adapters = {adapter.name: adapter.version for adapter in loaded.serving.moderator.adapters}
        log.info("model swapped", bundle=loaded.serving.name, adapters=adapters)


def readiness_of(served: Served) -> Readiness:
    """Whether what serves may get traffic; what is refused is a warning, whose reason is for those with a key."""
    found = served.serving.readiness
    told = (f"{each.name} is refused and does not serve: see GET /v1/adapters" for each in served.refused)
    return replace(found, warnings=(*found.warnings, *told))


def _tell(refused: tuple[Refused, ...]) -> None:
    for each in refused:
        log.error("refused, does not serve", name=each.name, reason=each.reason)
