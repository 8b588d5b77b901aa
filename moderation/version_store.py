"""Versions of documents in the database: every one that was ever added, and which of them is in force."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from sqlalchemy import Connection, func, select
from sqlalchemy.orm import Session

from moderation.database import Database, now, order_commits
from moderation.document import DocumentError
from moderation.tables import DocumentColumns, PublicationColumns

_VERSION = re.compile("[1-9][0-9]{0,8}")


class VersionConflictError(ValueError):
    """What is asked for stands against what is there: a version of other content, or nothing to go back to."""


class UnknownVersionError(LookupError):
    """There is no version of that reference."""


class Versioned(Protocol):
    """A document in one immutable version."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def version(self) -> int:
        """Its version."""

    @property
    def ref(self) -> str:
        """Name and version, such as `ads-default@1`."""

    @property
    def digest(self) -> str:
        """sha256 of its values."""


D = TypeVar("D", bound=Versioned)


@dataclass(frozen=True)
class Publication:
    """One change of the version in force."""

    ref: str
    action: str
    """`publish`, `rollback` or `withdraw`."""
    published_by: str
    created_at: datetime


@dataclass(frozen=True)
class _InForce:
    """What is in force after a publication."""

    last: int | None
    """Its number; None: nothing was ever published."""
    refs: Mapping[str, str]
    """Name -> reference."""


class VersionStore(Generic[D]):
    """The versions and publications of one kind of document in one database; workers share nothing else.

    What is in force is asked at every request, since any worker may publish; versions are immutable, so what was read
    once is kept.
    """

    def __init__(
        self,
        database: Database,
        *,
        read: Callable[[str], D],
        rows: type[DocumentColumns],
        publications: type[PublicationColumns],
        kind: str,
        shipped: Iterable[D] = (),
    ) -> None:
        """Take a database and say what is kept in it.

        Args:
            database: opened.
            read: makes a document of its text, or raises `ValueError`.
            rows: the table of versions.
            publications: the table of publications.
            kind: what the documents are called in errors.
            shipped: documents that need not be added.
        """
        self._database = database
        self._parse = read
        self._rows = rows
        self._publications = publications
        self._kind = kind
        self._read = {document.ref: document for document in shipped}
        self._shipped = tuple(self._read)
        self._known = _InForce(None, {})

    def add(self, text: str, *, by: str) -> D:
        """Add a version and return it; the same content a second time changes nothing.

        Args:
            text: a document, YAML or JSON.
            by: who adds it.

        Raises:
            DocumentError: it is none.
            VersionConflictError: this version is there with other content.
        """
        document = self._parse(text)
        known = self._find(document.ref)
        if known is None:
            insert = self._database.insert(self._rows.__tablename__).on_conflict_do_nothing()
            row = {"id": document.id, "version": document.version, "digest": document.digest, "text": text}
            with self._database.writer.begin() as connection:
                connection.execute(insert.values(**row, added_by=by, created_at=now()))
            known = self._find(document.ref)  # another worker may have been first
        if known is None or known.digest != document.digest:
            raise VersionConflictError(
                f"{document.ref} is there with other content; versions are never edited: make it {document.version + 1}"
            )
        return known

    def get(self, ref: str) -> D:
        """Return the document of a reference; of a name without a version the one in force, else the latest.

        Raises:
            UnknownVersionError: there is none.
        """
        name, _, version = ref.partition("@")
        if version:
            found = self._find(ref)
        else:
            found = self.in_force(name) or max(
                (each for each in self.all() if each.id == name), key=lambda each: each.version, default=None
            )
        if found is None:
            known = ", ".join(each.ref for each in self.all()) or "none"
            raise UnknownVersionError(f"{self._kind}: found {ref!r}, known are {known}")
        return found

    def all(self) -> tuple[D, ...]:
        """Return every version, by id and then version."""
        with Session(self._database.engine) as session:
            keys = session.execute(select(self._rows.id, self._rows.version)).all()
        refs = dict.fromkeys([*self._shipped, *(f"{name}@{version}" for name, version in keys)])
        found = (self._find(ref) for ref in refs)
        return tuple(sorted((each for each in found if each), key=lambda each: (each.id, each.version)))

    def in_force(self, name: str) -> D | None:
        """Return the version of a document that was published last; None where none was, or it was withdrawn."""
        ref = self._in_force().get(name)
        return None if ref is None else self._find(ref)

    def all_in_force(self) -> tuple[D, ...]:
        """Return the version in force of every document, by name."""
        found = (self._find(ref) for _, ref in sorted(self._in_force().items()))
        return tuple(each for each in found if each is not None)

    def _in_force(self) -> Mapping[str, str]:
        """Return name -> reference in force.

        Asked at every request, so only the number of the last publication is, on the driver's own connection: a tenth
        of what a query of SQLAlchemy's takes.
        """
        with self._database.outside_transactions() as raw:
            cursor = raw.cursor()
            cursor.execute(f"SELECT max(number) FROM {self._publications.__tablename__}")
            [last] = cursor.fetchone()
            cursor.close()
        if last != self._known.last:
            self._known = self._read_in_force()
        return self._known.refs

    def _read_in_force(self) -> _InForce:
        table = self._publications
        latest = select(func.max(table.number)).group_by(table.name)
        wanted = select(table.number, table.name, table.version, table.action).where(table.number.in_(latest))
        with self._database.engine.connect() as connection:
            rows = connection.execute(wanted).all()
        refs = {row.name: f"{row.name}@{row.version}" for row in rows if row.action != "withdraw"}
        return _InForce(max((row.number for row in rows), default=None), refs)

    def publish(self, ref: str, *, by: str) -> D:
        """Put a version in force and return it; one that is in force already stays so, without a new entry.

        Raises:
            UnknownVersionError: there is none.
        """
        document = self.get(ref)
        with self._publishing(document.id) as (connection, past):
            if _refs(past)[-1:] != [document.ref]:
                self._note(connection, document.ref, "publish", by)
        return document

    def withdraw(self, name: str, *, by: str) -> D:
        """Put no version of a document in force any more, and return the one that was.

        Raises:
            VersionConflictError: none is in force.
        """
        with self._publishing(name) as (connection, past):
            ref = next(iter(_refs(past)[-1:]), None)
            if ref is None:
                raise VersionConflictError(f"{name}: no version is in force, so there is none to withdraw")
            self._note(connection, ref, "withdraw", by)
        return self.get(ref)

    def rollback(self, name: str, *, by: str) -> D:
        """Put the version in force that was before the present one, or before it was withdrawn, and return it.

        Going back twice goes back two versions, not there and back again. Where a name is shipped, its latest shipped
        version was in force before the first that was published.

        Raises:
            VersionConflictError: nothing was in force before.
        """
        with self._publishing(name) as (connection, past):
            before = next(iter(_refs([self._first(name), *past])[-2:-1]), None)
            if before is None:
                raise VersionConflictError(f"{name}: no version was in force before, so there is none to go back to")
            self._note(connection, before, "rollback", by)
        return self.get(before)

    def shipped(self, name: str) -> D | None:
        """Return the latest shipped version of a document."""
        own = (document for document in map(self._find, self._shipped) if document is not None and document.id == name)
        return max(own, key=lambda document: document.version, default=None)

    def _first(self, name: str) -> tuple[str, str | None]:
        """Return what was in force before anything was published, as if it had been."""
        shipped = self.shipped(name)
        return "publish", shipped.ref if shipped is not None else None

    @contextmanager
    def _publishing(self, name: str) -> Iterator[tuple[Connection, list[tuple[str, str | None]]]]:
        """Give a connection that alone may publish, and action and reference of what was published, oldest first."""
        table = self._publications
        with self._database.writer.begin() as connection:
            order_commits(connection, table.__tablename__)
            wanted = select(table.action, table.version).where(table.name == name).order_by(table.number)
            yield connection, [(row.action, f"{name}@{row.version}") for row in connection.execute(wanted)]

    def publications(self, name: str) -> list[Publication]:
        """Return the publications of a document, oldest first."""
        table = self._publications
        with Session(self._database.engine) as session:
            return [
                Publication(f"{row.name}@{row.version}", row.action, row.published_by, row.created_at)
                for row in session.scalars(select(table).where(table.name == name).order_by(table.number))
            ]

    def _find(self, ref: str) -> D | None:
        """Return a version, shipped or added, None where there is none."""
        if ref in self._read:
            return self._read[ref]
        name, _, version = ref.partition("@")
        if not _VERSION.fullmatch(version):
            return None
        with Session(self._database.engine) as session:
            row = session.get(self._rows, (name, int(version)))
        if row is None:
            return None
        document = self._parse(row.text)
        if document.digest != row.digest or document.ref != ref:
            raise DocumentError(f"{ref}: its text in the database is not the one that was added")
        self._read[ref] = document
        return document

    def _note(self, connection: Connection, ref: str, action: str, by: str) -> None:
        name, _, version = ref.partition("@")
        row = {"name": name, "version": int(version), "action": action, "published_by": by}
        insert = self._database.insert(self._publications.__tablename__)
        connection.execute(insert.values(**row, created_at=now()))


def _refs(past: Iterable[tuple[str, str | None]]) -> list[str | None]:
    """Return what was in force one after the other, what was rolled back left out; None: nothing was."""
    found: list[str | None] = []
    for action, ref in past:
        if action == "rollback":
            del found[-1:]
        else:
            found.append(ref if action == "publish" else None)
    return found
