"""The rules of one's own in the database: any number of sets, each with its versions and the one in force."""

from __future__ import annotations

from moderation.database import Database
from moderation.rule_set import RuleSet, read_rule_set
from moderation.tables import RulePublicationRow, RuleSetRow
from moderation.version_store import VersionStore


class RuleStore(VersionStore[RuleSet]):
    """The versions and publications of rule sets in one database; every set that is published is in force."""

    def __init__(self, database: Database) -> None:
        """Take a database."""
        super().__init__(database, read=read_rule_set, rows=RuleSetRow, publications=RulePublicationRow, kind="rules")
