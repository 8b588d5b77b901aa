"""API keys: creation, storage, and who is let in."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest
import yaml

from moderation.auth import LOOPBACK, ApiKey, Caller, KeyRing, Scope, add_key, create_key, load_keys
from moderation.problem import Problem
from moderation.rate_limit import RateLimit

GOOD = {"name": "a", "sha256": "0" * 64, "scopes": ["admin"]}


def caller(authorization: str | None = None, *, peer: str = "203.0.113.9", host: str = "ads.example") -> Caller:
    """A caller from elsewhere unless told otherwise."""
    return Caller(authorization=authorization, peer=peer, host=host)


def refused(ring: KeyRing, who: Caller, scope: Scope = Scope.MODERATE) -> Problem:
    """The problem with which the ring refuses the caller."""
    with pytest.raises(Problem) as error:
        ring.authorise(who, scope)
    return error.value


def test_a_key_is_random_prefixed_and_kept_as_its_hash() -> None:
    """32 random bytes are 43 URL-safe characters; the record holds only their SHA-256."""
    one, two = create_key("a", ["moderate"]), create_key("a", ["moderate"])
    assert one.secret != two.secret
    assert one.secret.startswith("wl_")
    assert len(one.secret) == 3 + 43
    assert one.record.sha256 == hashlib.sha256(one.secret.encode()).hexdigest()
    assert one.secret not in repr(one)
    assert one.record.sha256 not in repr(one)


def test_keys_survive_the_file_which_only_its_owner_can_read(tmp_path: Path) -> None:
    """What is added is found again by its secret, and the secret is not in the file."""
    path = tmp_path / "conf" / "keys.yaml"
    first, second = create_key("ads", ["moderate"]), create_key("desk", ["review", "moderate"])
    add_key(path, first.record)
    add_key(path, second.record)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert first.secret not in path.read_text()
    ring = load_keys(path)
    assert ring.find(first.secret) == first.record
    assert ring.find(second.secret) == second.record
    assert ring.find("wl_other") is None
    assert [child.name for child in path.parent.iterdir()] == ["keys.yaml"]


def test_a_key_may_have_a_rate_limit_of_its_own(tmp_path: Path) -> None:
    """It survives the file, beside keys without one, and is written as people write it."""
    path = tmp_path / "keys.yaml"
    limited, free = create_key("bulk", ["moderate"], rate_limit=RateLimit(60, 60)), create_key("ads", ["moderate"])
    for created in (limited, free, create_key("slow", ["review"], rate_limit=RateLimit(5, 86_400))):
        add_key(path, created.record)
    ring = load_keys(path)
    assert [key.rate_limit for key in ring.keys] == [RateLimit(60, 60), None, RateLimit(5, 86_400)]
    assert ring.find(limited.secret) == limited.record
    entries = yaml.safe_load(path.read_text())["keys"]
    assert [entry.get("rate_limit") for entry in entries] == ["60/min", None, "5/day"]
    assert set(entries[1]) == {"name", "sha256", "scopes"}
    with pytest.raises(ValueError, match="rate limit of key 'odd' is 5 per 90 s; allowed are per s, min, h or day"):
        create_key("odd", ["moderate"], rate_limit=RateLimit(5, 90))


def test_a_name_cannot_be_given_twice(tmp_path: Path) -> None:
    """The file is left as it was."""
    path = tmp_path / "keys.yaml"
    add_key(path, create_key("ads", ["moderate"]).record)
    before = path.read_text()
    with pytest.raises(ValueError, match="name 'ads' stands twice"):
        add_key(path, create_key("ads", ["admin"]).record)
    assert path.read_text() == before


def test_json_is_read_too(tmp_path: Path) -> None:
    """JSON is YAML, so a keys file may be either."""
    path = tmp_path / "keys.json"
    path.write_text('{"keys": [{"name": "a", "sha256": "%s", "scopes": ["admin"]}]}' % ("0" * 64))
    assert load_keys(path).keys == (ApiKey(name="a", sha256="0" * 64, scopes=frozenset({Scope.ADMIN})),)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("keys: [", "cannot be read"),
        ("[]", "must be a mapping"),
        ("keys: []", "has no keys"),
        ({"keys": [{"name": "a"}]}, "exactly: name, sha256, scopes"),
        ({"keys": ["wl_secret"]}, "exactly: name, sha256, scopes"),
        ({"keys": [{"name": "a", "sha256": 5, "scopes": ["admin"]}]}, "are strings"),
        ({"keys": [{"name": "a", "sha256": "xyz", "scopes": ["admin"]}]}, "not 64 lower-case hex digits"),
        ({"keys": [{"name": "a", "sha256": "0" * 64, "scopes": "admin"}]}, "must be a list"),
        ({"keys": [{"name": "a", "sha256": "0" * 64, "scopes": []}]}, "is empty"),
        ({"keys": [{"name": "a", "sha256": "0" * 64, "scopes": ["root"]}]}, "known scopes: moderate, review, admin"),
        (
            {"keys": [GOOD | {"limit": "60/min"}]},
            "exactly: name, sha256, scopes, and rate_limit where",
        ),
        (
            {"keys": [GOOD | {"rate_limit": "60"}]},
            "key 'a': rate limit is '60'; allowed: requests/unit",
        ),
        (
            {"keys": [GOOD | {"rate_limit": 60}]},
            "key 'a': rate limit is '60'; allowed: requests/unit",
        ),
        (
            {"keys": [GOOD | {"rate_limit": None}]},
            "key 'a': rate limit is 'None'",
        ),
        (
            {"keys": [GOOD | {"rate_limit": "0/s"}]},
            "key 'a': requests is 0; allowed: 1 to",
        ),
        ({"keys": [{"name": "a b", "sha256": "0" * 64, "scopes": ["admin"]}]}, "name is 'a b'"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, document: object, message: str) -> None:
    """A service does not start on a keys file that it half understands."""
    path = tmp_path / "keys.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    with pytest.raises(ValueError, match=message) as error:
        load_keys(path)
    assert "keys.yaml" in str(error.value)


def test_a_missing_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """The message names the command that makes a key."""
    with pytest.raises(ValueError, match="wardline.py keys create"):
        load_keys(tmp_path / "none.yaml")


def test_without_keys_this_machine_is_served() -> None:
    """IPv4 and IPv6 loopback, under a loopback name, with or without a port."""
    for peer, host in (("127.0.0.1", "localhost:3000"), ("127.8.8.8", "127.0.0.1"), ("::1", "[::1]:3000")):
        assert KeyRing().authorise(caller(peer=peer, host=host), Scope.ADMIN) is LOOPBACK


@pytest.mark.parametrize(
    "who",
    [
        caller(peer="203.0.113.9", host="localhost"),
        caller(peer="10.0.0.7", host="localhost"),
        caller(peer="127.0.0.1", host="evil.example"),  # a web page that had its name point to this machine
        caller(peer="127.0.0.1", host="localhost.evil.example"),
        Caller(authorization=None, peer=None, host="localhost"),
        Caller(authorization=None, peer="not an address", host="localhost"),
        Caller(authorization=None, peer="127.0.0.1", host=None),
        Caller(authorization=None, peer="127.0.0.1", host="localhost", headers={"x-forwarded-for"}),
        Caller(authorization=None, peer="127.0.0.1", host="localhost", headers={"forwarded"}),
        Caller(authorization=None, peer="127.0.0.1", host="localhost", origin="https://evil.example"),
        Caller(authorization=None, peer="127.0.0.1", host="localhost", origin="null"),
        Caller(authorization=None, peer="127.0.0.1", host="localhost", fetch_site="cross-site"),
        Caller(authorization=None, peer="127.0.0.1", host="localhost", fetch_site="same-site"),
    ],
)
def test_without_keys_nobody_else_is_served(who: Caller) -> None:
    """Elsewhere, behind a proxy, or under a foreign name: 401, with how to configure keys."""
    problem = refused(KeyRing(), who)
    assert (problem.code, int(problem.status)) == ("keys_not_configured", 401)
    assert "WARDLINE_KEYS" in problem.detail


def test_with_keys_a_caller_needs_one_wherever_it_is() -> None:
    """Loopback is no exception any more; a missing, unknown or malformed key is refused."""
    created = create_key("ads", ["moderate"])
    ring = KeyRing((created.record,))
    assert ring.authorise(caller(f"Bearer {created.secret}"), Scope.MODERATE) == created.record
    assert ring.authorise(caller(f"bearer  {created.secret} "), Scope.MODERATE) == created.record
    local = Caller(authorization=None, peer="127.0.0.1", host="localhost")
    assert refused(ring, local).code == "missing_key"
    assert refused(ring, caller(f"Basic {created.secret}")).code == "missing_key"
    assert refused(ring, caller("Bearer ")).code == "missing_key"
    assert refused(ring, caller("Bearer wl_wrong")).code == "invalid_key"
    assert refused(ring, caller(f"Bearer {created.record.sha256}")).code == "invalid_key"
    assert refused(ring, caller("Bearer wl_wrong")).headers["WWW-Authenticate"].startswith("Bearer")


def test_scopes_are_held_and_admin_holds_all() -> None:
    """403 names the scope that is missing and those that are there."""
    desk, root = create_key("desk", ["review"]), create_key("root", ["admin"])
    ring = KeyRing((desk.record, root.record))
    problem = refused(ring, caller(f"Bearer {desk.secret}"), Scope.MODERATE)
    assert (problem.code, int(problem.status)) == ("missing_scope", 403)
    assert "'moderate'" in problem.detail
    assert "review" in problem.detail
    for scope in Scope:
        assert ring.authorise(caller(f"Bearer {root.secret}"), scope) == root.record


def test_an_unknown_scope_makes_no_key() -> None:
    """The message lists the scopes there are."""
    with pytest.raises(ValueError, match="scope is 'write'; known scopes: moderate, review, admin"):
        create_key("a", ["write"])
