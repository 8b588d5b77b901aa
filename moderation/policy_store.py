"""The policies in the database, beside the shipped ones, and the thresholds that ever decided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from moderation.database import Database, now
from moderation.document import read_file
from moderation.policy import Policy
from moderation.policy_document import is_file, read_policy
from moderation.tables import PolicyRow, PublicationRow, ThresholdsRow
from moderation.thresholds import HeadThreshold, Thresholds
from moderation.version_store import VersionStore


class PolicyStore(VersionStore[Policy]):
    """The versions and publications of policies in one database."""

    def __init__(self, database: Database, shipped: Iterable[Policy] = ()) -> None:
        """Take a database and the policies that need not be added."""
        super().__init__(
            database, read=read_policy, rows=PolicyRow, publications=PublicationRow, kind="policy", shipped=shipped
        )

    def serve(self, named: str) -> Policy:
        """Return the policy that a service decides by.

        Args:
            named: a file, which is added; a reference; or a name: its version in force, else the latest shipped one.

        Raises:
            ValueError: there is none, or the file is none.
        """
        if is_file(named):
            return read_file(Path(named), lambda text: self.add(text, by="file"), what="policy")
        found = self._find(named) if "@" in named else self.in_force(named) or self.shipped(named)
        if found is None:
            known = ", ".join(policy.ref for policy in self.all())
            raise ValueError(f"policy: found {named!r}, allowed a file, one of {known}, or a name that is published")
        return found

    def remember(self, thresholds: Thresholds) -> None:
        """Keep thresholds, so that what they decided can be decided again."""
        document = {"prevalence": thresholds.prevalence, "heads": {k: asdict(v) for k, v in thresholds.heads.items()}}
        insert = self._database.insert("thresholds").on_conflict_do_nothing()
        with self._database.writer.begin() as connection:
            connection.execute(insert.values(id=thresholds.id, document=document, created_at=now()))

    def thresholds(self, name: str) -> Thresholds | None:
        """Return the thresholds of an id, None where they never decided here."""
        with Session(self._database.engine) as session:
            row = session.get(ThresholdsRow, name)
        return None if row is None else _thresholds(row.document)


def _thresholds(document: Mapping[str, Any]) -> Thresholds:
    heads = {name: HeadThreshold(**values) for name, values in document["heads"].items()}
    return Thresholds.of(prevalence=document["prevalence"], heads=heads)
