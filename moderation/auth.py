"""API keys: random, stored as hashes, each with scopes; without keys only this machine is served."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import re
import secrets
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from moderation.problem import Problem
from moderation.rate_limit import WINDOWS_S, RateLimit, parse_rate_limit

KEY_PREFIX = "wl_"
KEY_BYTES = 32
KEYS_VARIABLE = "WARDLINE_KEYS"
_HASH = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HOW_TO = f"make one with `python wardline.py keys create NAME` and name the file in {KEYS_VARIABLE}"
# A proxy in front hides the caller: with one of these the peer's address says nothing about who is calling.
_PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})


class Scope(StrEnum):
    """What a key may do. `admin` includes the other two."""

    MODERATE = "moderate"
    REVIEW = "review"
    ADMIN = "admin"


@dataclass(frozen=True)
class ApiKey:
    """One caller as the keys file knows it; the key itself is not in it.

    Raises:
        ValueError: when the name, the hash, the scopes or the rate limit are not usable.
    """

    name: str
    """Who uses the key: letters, digits, dot, dash, underscore; 1 to 64 characters."""
    sha256: str = field(repr=False)
    """SHA-256 of the key, 64 lower-case hex digits. A key has 256 random bits, so a plain hash is enough."""
    scopes: frozenset[Scope]
    """What it may do; never empty."""
    rate_limit: RateLimit | None = None
    """How often it may ask, over all workers; None: as often as the service lets every key."""

    def __post_init__(self) -> None:
        """Checks name, hash and scopes, and that the limit can be written."""
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"name is {self.name!r}; allowed are 1 to 64 letters, digits, '.', '_', '-'")
        if not _HASH.fullmatch(self.sha256):
            raise ValueError(f"sha256 of key {self.name!r} is not 64 lower-case hex digits")
        if not self.scopes:
            raise ValueError(f"scopes of key {self.name!r} is empty; allowed: {', '.join(Scope)}")
        if self.rate_limit is not None and self.rate_limit.window_s not in WINDOWS_S.values():
            raise ValueError(f"rate limit of key {self.name!r} is {self.rate_limit}; allowed are per s, min, h or day")

    def allows(self, scope: Scope) -> bool:
        """Whether the key may be used for `scope`."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


@dataclass(frozen=True)
class CreatedKey:
    """A new key: the secret is shown once, the record is what the file keeps."""

    secret: str = field(repr=False)
    """`wl_` and 43 URL-safe characters."""
    record: ApiKey
    """Its name, hash, scopes and rate limit."""


# Who is served when no keys are configured: a person or program on this machine.
LOOPBACK = ApiKey(name="loopback", sha256="0" * 64, scopes=frozenset(Scope))


@dataclass(frozen=True)
class Caller:
    """What a request says about who sends it."""

    authorization: str | None
    """The Authorization header."""
    peer: str | None
    """Address of the other end of the connection."""
    host: str | None
    """The Host header; a name that somebody points at this machine (DNS rebinding) is no loopback name."""
    headers: Collection[str] = ()
    """Lower-case names of the request's headers."""
    origin: str | None = None
    """The Origin header: the page behind the request, where a browser sent it."""
    fetch_site: str | None = None
    """The Sec-Fetch-Site header: how a browser says that page stands to this service."""

    @property
    def is_local(self) -> bool:
        """Whether this is surely someone on this machine, not a proxy's or a web page's doing."""
        if any(name in self.headers for name in _PROXY_HEADERS) or self._is_of_a_foreign_page:
            return False
        name = re.sub(r":\d+$", "", self.host or "").lower()
        try:
            return ipaddress.ip_address(self.peer or "").is_loopback and name in _LOOPBACK_NAMES
        except ValueError:
            return False

    @property
    def _is_of_a_foreign_page(self) -> bool:
        """Whether a page from elsewhere sent it: any page can reach a loopback port, by its loopback name too."""
        if self.fetch_site not in {None, "same-origin", "none"}:
            return True
        return self.origin is not None and urlsplit(self.origin).hostname not in _LOOPBACK_NAMES


@dataclass(frozen=True)
class KeyRing:
    """The keys that a service accepts; empty means that only this machine is served.

    Raises:
        ValueError: when two keys share a name or a hash.
    """

    keys: tuple[ApiKey, ...] = ()

    def __post_init__(self) -> None:
        """Checks that names and hashes are distinct."""
        for what in ("name", "sha256"):
            seen = [getattr(key, what) for key in self.keys]
            twice = sorted({value for value in seen if seen.count(value) > 1})
            if twice:
                raise ValueError(f"{what} {twice[0]!r} stands twice in the keys; each key has its own")

    def find(self, secret: str) -> ApiKey | None:
        """The key whose secret this is, or None. Takes the same time for every secret: no early exit."""
        digest = _digest(secret)
        found: ApiKey | None = None
        for key in self.keys:
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found

    def authorise(self, caller: Caller, scope: Scope) -> ApiKey:
        """The key under which `caller` may use `scope`.

        Raises:
            Problem: `keys_not_configured`, `missing_key`, `invalid_key` or `missing_scope`.
        """
        key = self.identify(caller)
        if not key.allows(scope):
            held = ", ".join(sorted(key.scopes))
            raise Problem("missing_scope", f"this needs the scope {scope.value!r}; key {key.name!r} has: {held}")
        return key

    def identify(self, caller: Caller) -> ApiKey:
        """The key that `caller` brings, whatever it may be used for.

        Raises:
            Problem: `keys_not_configured`, `missing_key` or `invalid_key`.
        """
        if not self.keys:
            if caller.is_local:
                return LOOPBACK
            raise _unauthorised(
                "keys_not_configured",
                f"without keys only direct requests from this machine to localhost are served; {_HOW_TO}",
            )
        scheme, _, secret = (caller.authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise _unauthorised("missing_key", "send the header `Authorization: Bearer wl_...`")
        key = self.find(secret.strip())
        if key is None:
            raise _unauthorised("invalid_key", f"the key is not in the file that {KEYS_VARIABLE} names")
        return key


def create_key(name: str, scopes: Collection[str], *, rate_limit: RateLimit | None = None) -> CreatedKey:
    """A new random key called `name` with `scopes`, and where it is given a rate limit of its own.

    Raises:
        ValueError: when the name is not usable or a scope does not exist.
    """
    secret = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    return CreatedKey(secret, ApiKey(name, _digest(secret), _scopes(scopes), rate_limit))


def load_keys(path: Path) -> KeyRing:
    """The keys of a YAML or JSON file `{keys: [{name, sha256, scopes, rate_limit}]}`, the limit left out or `60/min`.

    Raises:
        ValueError: when the file is missing, is not of that form, or has no keys.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"keys file {path} cannot be read: {type(error).__name__}; {_HOW_TO}") from error
    if not isinstance(document, dict) or set(document) != {"keys"} or not isinstance(document["keys"], list):
        raise ValueError(f"keys file {path} must be a mapping with the one key 'keys', a list")
    if not document["keys"]:
        raise ValueError(f"keys file {path} has no keys, so nobody could call; {_HOW_TO}")
    try:
        return KeyRing(tuple(_record(entry) for entry in document["keys"]))
    except ValueError as error:
        raise ValueError(f"keys file {path}: {error}") from error


def add_key(path: Path, record: ApiKey) -> KeyRing:
    """Writes `record` to the keys file, made when missing and readable by its owner alone; returns all its keys.

    Raises:
        ValueError: when the file is not a keys file or has a key of that name.
    """
    ring = KeyRing((*(load_keys(path).keys if path.exists() else ()), record))
    path.parent.mkdir(parents=True, exist_ok=True)
    # mkstemp makes the file with mode 0600; the replace is atomic, so a service never reads half a file.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        yaml.safe_dump({"keys": [_entry(key) for key in ring.keys]}, file)
    Path(temporary).replace(path)
    return ring


def _entry(key: ApiKey) -> dict[str, object]:
    entry: dict[str, object] = {"name": key.name, "sha256": key.sha256, "scopes": sorted(map(str, key.scopes))}
    return entry if key.rate_limit is None else entry | {"rate_limit": str(key.rate_limit)}


def _record(entry: object) -> ApiKey:
    if not isinstance(entry, Mapping) or set(entry) - {"rate_limit"} != {"name", "sha256", "scopes"}:
        raise ValueError("each key has exactly: name, sha256, scopes, and rate_limit where it has one of its own")
    if not isinstance(entry["name"], str) or not isinstance(entry["sha256"], str):
        raise ValueError(f"name and sha256 are strings; found {entry['name']!r} and a {type(entry['sha256']).__name__}")
    if not isinstance(entry["scopes"], list):
        raise ValueError(f"scopes of key {entry['name']!r} must be a list of: {', '.join(Scope)}")
    return ApiKey(entry["name"], entry["sha256"], _scopes(entry["scopes"]), _rate_limit(entry))


def _rate_limit(entry: Mapping[str, object]) -> RateLimit | None:
    if "rate_limit" not in entry:
        return None
    try:
        return parse_rate_limit(str(entry["rate_limit"]))
    except ValueError as error:
        raise ValueError(f"key {entry['name']!r}: {error}") from error


def _scopes(names: Collection[str]) -> frozenset[Scope]:
    unknown = [name for name in names if name not in tuple(Scope)]
    if unknown:
        raise ValueError(f"scope is {unknown[0]!r}; known scopes: {', '.join(Scope)}")
    return frozenset(Scope(name) for name in names)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _unauthorised(code: str, detail: str) -> Problem:
    return Problem(code, detail, {"WWW-Authenticate": 'Bearer realm="wardline"'})
