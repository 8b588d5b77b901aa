"""The policies in the database: every version that was ever added, and which of them is in force."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from moderation.database import Database, now
from moderation.policy import Policy
from moderation.policy_document import PolicyError, read_policy
from moderation.tables import PolicyRow, PublicationRow, ThresholdsRow
from moderation.thresholds import HeadThreshold, Thresholds


class PolicyConflictError(ValueError):
    """What is asked for stands against what is there: a version of other content, or nothing to go back to."""


class UnknownPolicyError(LookupError):
    """There is no policy of that reference."""


@dataclass(frozen=True)
class Publication:
    """One change of the version in force."""

    ref: str
    action: str
    """`publish` or `rollback`."""
    published_by: str
    created_at: datetime


class PolicyStore:
    """The versions and publications of one database, beside the shipped policies; workers share nothing else."""

    def __init__(self, database: Database, shipped: Iterable[Policy] = ()) -> None:
        """Take a database and the policies that need not be added."""
        self._database = database
        # Versions are immutable, so what was read once may be kept; what is in force is asked every time.
        self._read = {policy.ref: policy for policy in shipped}
        self._shipped = tuple(self._read)

    def add(self, text: str, *, by: str) -> Policy:
        """Add a version and return it; the same content a second time changes nothing.

        Args:
            text: a policy document, YAML or JSON.
            by: who adds it.

        Raises:
            PolicyError: it is none.
            PolicyConflictError: this version is there with other content.
        """
        policy = read_policy(text)
        known = self._find(policy.ref)
        if known is None:
            insert = self._database.insert("policies").on_conflict_do_nothing()
            row = {"id": policy.id, "version": policy.version, "digest": policy.digest, "text": text}
            with self._database.writer.begin() as connection:
                connection.execute(insert.values(**row, added_by=by, created_at=now()))
            known = self._find(policy.ref)  # another worker may have been first
        if known is None or known.digest != policy.digest:
            raise PolicyConflictError(
                f"{policy.ref} is there with other content; versions are never edited: make it {policy.version + 1}"
            )
        return known

    def get(self, ref: str) -> Policy:
        """Return the policy of a reference; of a name without a version the one in force, else the latest.

        Raises:
            UnknownPolicyError: there is none.
        """
        name, _, version = ref.partition("@")
        if version:
            found = self._find(ref)
        else:
            found = self.in_force(name) or max(
                (policy for policy in self.all() if policy.id == name), key=lambda policy: policy.version, default=None
            )
        if found is None:
            raise UnknownPolicyError(f"policy: found {ref!r}, known are {', '.join(each.ref for each in self.all())}")
        return found

    def all(self) -> tuple[Policy, ...]:
        """Return every version, by id and then version."""
        with Session(self._database.engine) as session:
            keys = session.execute(select(PolicyRow.id, PolicyRow.version)).all()
        refs = dict.fromkeys([*self._shipped, *(f"{name}@{version}" for name, version in keys)])
        found = (self._find(ref) for ref in refs)
        return tuple(sorted((each for each in found if each), key=lambda policy: (policy.id, policy.version)))

    def in_force(self, name: str) -> Policy | None:
        """Return the version of a policy that was published last, None where none ever was."""
        latest = (
            select(PublicationRow.version)
            .where(PublicationRow.policy == name)
            .order_by(PublicationRow.number.desc())
            .limit(1)
        )
        with self._database.engine.connect() as connection:
            version = connection.scalar(latest)
        return None if version is None else self._find(f"{name}@{version}")

    def publish(self, ref: str, *, by: str) -> Policy:
        """Put a version in force and return it; one that is in force already stays so, without a new entry.

        Raises:
            UnknownPolicyError: there is none.
        """
        policy = self.get(ref)
        if self.in_force(policy.id) != policy:
            self._note(policy, "publish", by)
        return policy

    def rollback(self, name: str, *, by: str) -> Policy:
        """Put the version in force that was before the present one, and return it.

        Going back twice goes back two versions, not there and back again.

        Raises:
            PolicyConflictError: nothing was in force before.
        """
        past: list[str] = []
        for each in self.publications(name):
            if each.action == "publish":
                past.append(each.ref)
            elif past:
                past.pop()
        if len(past) < 2:
            raise PolicyConflictError(f"{name}: no version was in force before, so there is none to go back to")
        policy = self.get(past[-2])
        self._note(policy, "rollback", by)
        return policy

    def publications(self, name: str) -> list[Publication]:
        """Return the publications of a policy, oldest first."""
        wanted = select(PublicationRow).where(PublicationRow.policy == name).order_by(PublicationRow.number)
        with Session(self._database.engine) as session:
            return [
                Publication(f"{row.policy}@{row.version}", row.action, row.published_by, row.created_at)
                for row in session.scalars(wanted)
            ]

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

    def _find(self, ref: str) -> Policy | None:
        """Return a version, shipped or added, None where there is none."""
        if ref in self._read:
            return self._read[ref]
        name, _, version = ref.partition("@")
        if not version.isdecimal() or len(version) > 9:
            return None
        with Session(self._database.engine) as session:
            row = session.get(PolicyRow, (name, int(version)))
        if row is None:
            return None
        policy = read_policy(row.text)
        if policy.digest != row.digest or policy.ref != ref:
            raise PolicyError(f"{ref}: its text in the database is not the one that was added")
        self._read[ref] = policy
        return policy

    def _note(self, policy: Policy, action: str, by: str) -> None:
        row = {"policy": policy.id, "version": policy.version, "action": action, "published_by": by}
        with self._database.writer.begin() as connection:
            connection.execute(self._database.insert("publications").values(**row, created_at=now()))


def _thresholds(document: Mapping[str, Any]) -> Thresholds:
    heads = {name: HeadThreshold(**values) for name, values in document["heads"].items()}
    return Thresholds.of(prevalence=document["prevalence"], heads=heads)
