"""Where a service finds what it works with: the variables WARDLINE_*."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from moderation.auth import KEYS_VARIABLE
from moderation.database import DEFAULT_URL
from moderation.policy_document import is_file
from moderation.rate_limit import RateLimit, rate_limit_from
from moderation.regions import check_region

ADAPTERS_VARIABLE = "WARDLINE_ADAPTERS"
DEFAULT_ADAPTERS = Path("var/adapters")


@dataclass(frozen=True)
class Settings:
    """Where a service finds what it works with."""

    bundle: Path | None = None
    """Folder of the model bundle; None is the shipped one."""
    policy: str = "ads-default"
    """Reference of the policy set that decides."""
    database: str = DEFAULT_URL
    """SQLAlchemy URL of the decision log and the review queue."""
    keys: Path | None = None
    """The keys file; None serves this machine alone."""
    keep_text: bool = False
    """Whether texts are stored beside the decisions, for reviewers to read."""
    region: str = "US"
    """Region of requests in a dialect that knows none."""
    rate_limit: RateLimit | None = None
    """Requests of one API key, over all workers."""
    adapters: Path = DEFAULT_ADAPTERS
    """Folder of the adapters that are added at run time; it need not exist."""

    @property
    def follows_publications(self) -> bool:
        """Whether a published version takes the policy's place: it is named without a version, and is no file."""
        return "@" not in self.policy and not is_file(self.policy)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """The settings that the variables WARDLINE_* name, relative paths counted from the working folder.

        Raises:
            ValueError: when a variable has a value that is not allowed; the message names both.
        """
        keep_text = environment.get("WARDLINE_KEEP_TEXT") or "0"
        if keep_text not in {"0", "1"}:
            raise ValueError(f"WARDLINE_KEEP_TEXT is {keep_text!r}; allowed: 0, 1")
        bundle, keys = environment.get("WARDLINE_BUNDLE"), environment.get(KEYS_VARIABLE)
        region = environment.get("WARDLINE_REGION") or cls.region
        try:
            check_region(region)
        except ValueError as error:
            raise ValueError(f"WARDLINE_REGION: {error}") from error
        return cls(
            bundle=Path(bundle).absolute() if bundle else None,
            policy=_policy_reference(environment.get("WARDLINE_POLICY") or cls.policy),
            database=database_url(environment.get("WARDLINE_DATABASE") or cls.database),
            keys=Path(keys).absolute() if keys else None,
            keep_text=keep_text == "1",
            region=region,
            rate_limit=rate_limit_from(environment),
            adapters=Path(environment.get(ADAPTERS_VARIABLE) or cls.adapters).absolute(),
        )

    def environment(self) -> dict[str, str]:
        """The variables that name these settings from any working folder."""
        paths = {"WARDLINE_BUNDLE": self.bundle, KEYS_VARIABLE: self.keys, ADAPTERS_VARIABLE: self.adapters}
        named = {"WARDLINE_DATABASE": self.database, "WARDLINE_POLICY": self.policy}
        return {name: str(path) for name, path in paths.items() if path} | named


def _policy_reference(named: str) -> str:
    return str(Path(named).absolute()) if is_file(named) else named


def database_url(named: str) -> str:
    """The URL of a database that is named by its URL or by its file, the file counted from here.

    Raises:
        ValueError: the URL is none.
    """
    given = named if "://" in named else f"sqlite:///{named}"
    try:
        url = make_url(given)
    except ArgumentError as error:
        raise ValueError(f"WARDLINE_DATABASE: found {named!r}, expected a file or a database URL") from error
    if url.get_backend_name() != "sqlite" or url.query or url.database in {None, "", ":memory:"}:
        return given
    return f"{url.drivername}:///{Path(str(url.database)).absolute()}"
