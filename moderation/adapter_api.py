"""What the service answers about adapters, without HTTP: which serve, where they come from, what is refused and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import structlog

from moderation.model_folders import BUNDLE, Refused
from moderation.served_model import Served
from moderation.serving import Serving
from retrieval_shared.bundle import BASE_WEIGHTS

log = structlog.get_logger()


class AdapterApi:
    """The adapters of one service."""

    def __init__(self, served: Served) -> None:
        """Keep the model, which may be exchanged."""
        self._served = served

    def listing(self) -> dict[str, Any]:
        """Return what a request that comes now is decided by, and what lies in the folders and does not serve."""
        return _listing(self._served.current(), self._served.refused)

    def reload(self, *, by: str) -> dict[str, Any]:
        """Look at the folders now and return the listing, with what this has changed; other workers look as well."""
        found = self._served.reload()
        changes = _changes(_versions(found.before), _versions(found.after))
        log.info("adapters reloaded", by=by, changes=changes, refused=[each.name for each in found.refused])
        return {**_listing(found.after, found.refused), "changes": changes}


def _listing(serving: Serving, refused: tuple[Refused, ...]) -> dict[str, Any]:
    bundle = serving.moderator.bundle
    adapters = [
        {"slot": number, "name": each.name, "version": each.version, "parent": each.parent}
        | {"source": "added" if each.name in serving.added else BUNDLE}
        for number, each in enumerate(serving.moderator.adapters, start=1)
    ]
    return {
        "bundle": {"ref": serving.name, "digest": bundle.manifest.digest, "encoder": bundle.sha256(BASE_WEIGHTS)},
        "adapters": adapters,
        "refused": [asdict(each) for each in refused],
    }


def _versions(serving: Serving) -> dict[str, str]:
    """Return name -> version of the bundle and each adapter."""
    adapters = {each.name: each.version for each in serving.moderator.adapters}
    return {BUNDLE: f"{serving.name}+{serving.moderator.bundle.manifest.digest[:12]}", **adapters}


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[dict[str, str | None]]:
    """Return what differs between two maps of versions; None: it is not there."""
    names = dict.fromkeys((*before, *after))
    return [
        {"name": name, "before": before.get(name), "after": after.get(name)}
        for name in names
        if before.get(name) != after.get(name)
    ]
