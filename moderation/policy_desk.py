"""What the commands of policies work on: a database and the policies, thresholds and decisions in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from moderation.command_line import open_store, progress_bar

if TYPE_CHECKING:
    from moderation.policy import Policy
    from moderation.policy_store import PolicyStore
    from moderation.review.store import LoggedDecision, Store
    from moderation.settings import Settings
    from moderation.thresholds import Thresholds
    from moderation.version_store import Publication

_BAR_ROWS = 100
"""Decisions between two moves of the bar."""


@dataclass(frozen=True)
class Desk:
    """A database, opened, with the policies that are shipped beside it."""

    store: Store
    policies: PolicyStore
    settings: Settings

    @cached_property
    def in_force(self) -> Policy:
        """The policy that a service decides by."""
        return self.policies.serve(self.settings.policy)

    def find(self, ref: str) -> Policy:
        """The policy of a reference or a file."""
        from moderation.policy_document import is_file, load_policy

        return load_policy(Path(ref)) if is_file(ref) else self.policies.get(ref)

    def latest(self, name: str) -> Publication | None:
        """The publication of a policy that is in force."""
        last = next(reversed(self.policies.publications(name)), None)
        return None if last is None or last.action == "withdraw" else last

    def thresholds(self, named: str | None) -> Thresholds:
        """The thresholds of a file or an id; the served ones where nothing is named."""
        from moderation.thresholds import load_thresholds

        if named is None:
            return served_thresholds()
        found = load_thresholds(named) if named.endswith(".json") else self.policies.thresholds(named)
        if found is None:
            raise ValueError(f"thresholds: found {named!r}, allowed a .json file or the id of some that decided here")
        return found

    @contextmanager
    def rows(self, what: str, *, region: str | None, since: datetime | None, limit: int | None) -> Iterator[StoredRows]:
        """Give the stored decisions, and show on stderr how many are read."""
        from moderation.regions import check_region

        if region is not None:
            check_region(region)
        if since is not None and since.tzinfo is None:
            since = since.replace(tzinfo=UTC)
        total = self.store.count_decisions(region=region, since=since)
        with progress_bar(what, total if limit is None else min(total, limit)) as progress:
            yield StoredRows(islice(self.store.decision_rows(region=region, since=since), limit), progress)


class StoredRows:
    """Stored decisions that are counted as they are read."""

    def __init__(self, rows: Iterable[LoggedDecision], progress: Callable[[int], None]) -> None:
        self.read = 0
        self._rows = rows
        self._progress = progress

    def __iter__(self) -> Iterator[LoggedDecision]:
        for row in self._rows:
            yield row
            self.read += 1
            if self.read % _BAR_ROWS == 0:
                self._progress(self.read)
        self._progress(self.read)


@contextmanager
def open_desk(db: str | None) -> Iterator[Desk]:
    """Give the desk over the database that `--db` names; a policy that is not known is a `ValueError`."""
    from moderation.policy_document import list_policies
    from moderation.policy_store import PolicyStore
    from moderation.settings import Settings
    from moderation.version_store import UnknownVersionError

    with open_store(db) as store:
        try:
            yield Desk(store, PolicyStore(store.database, list_policies()), Settings.from_environment(os.environ))
        except UnknownVersionError as error:
            raise ValueError(error.args[0]) from error


def served_thresholds() -> Thresholds:
    """Return the thresholds of the bundle that is served.

    Raises:
        BundleError: there is none.
    """
    from moderation.thresholds import load_thresholds
    from retrieval_shared.bundle import THRESHOLDS, load_bundle

    return load_thresholds(load_bundle().file(THRESHOLDS))
