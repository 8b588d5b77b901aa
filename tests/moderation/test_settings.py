"""The variables WARDLINE_*: what each may say, what is refused, and that a worker elsewhere reads the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from moderation.rate_limit import RateLimit
from moderation.settings import Settings, database_url


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_nothing_set_is_the_shipped_model_for_this_machine_alone(tmp_path: Path) -> None:
    nothing = Settings.from_environment({})
    assert nothing == Settings(
        bundle=None, policy="ads-default", database=f"sqlite:///{tmp_path}/var/wardline.db", keys=None, keep_text=False,
        region="US", rate_limit=None, adapters=tmp_path / "var/adapters",
    )  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "WARDLINE_BUNDLE",
        "WARDLINE_POLICY",
        "WARDLINE_DATABASE",
        "WARDLINE_KEYS",
        "WARDLINE_REGION",
        "WARDLINE_RATE_LIMIT",
        "WARDLINE_ADAPTERS",
    ],
)
def test_empty_counts_as_not_set(name: str) -> None:
    assert Settings.from_environment({name: ""}) == Settings.from_environment({})


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("WARDLINE_BUNDLE", "/models/b", "bundle", Path("/models/b")),
        ("WARDLINE_POLICY", "ads-default@1", "policy", "ads-default@1"),
        ("WARDLINE_POLICY", "/p/shop.yaml", "policy", "/p/shop.yaml"),
        ("WARDLINE_DATABASE", "sqlite:////x.db", "database", "sqlite:////x.db"),
        ("WARDLINE_DATABASE", "/x.db", "database", "sqlite:////x.db"),
        ("WARDLINE_DATABASE", "postgresql://u:p@host/w", "database", "postgresql://u:p@host/w"),
        ("WARDLINE_KEYS", "/k.yaml", "keys", Path("/k.yaml")),
        ("WARDLINE_KEEP_TEXT", "1", "keep_text", True),
        ("WARDLINE_KEEP_TEXT", "0", "keep_text", False),
        ("WARDLINE_REGION", "IN-GJ", "region", "IN-GJ"),
        ("WARDLINE_RATE_LIMIT", "600/min", "rate_limit", RateLimit(600, 60)),
        ("WARDLINE_ADAPTERS", "/a", "adapters", Path("/a")),
    ],
)
def test_every_variable_sets_one_thing(name: str, value: str, field: str, expected: object) -> None:
    assert Settings.from_environment({name: value}) == replace(Settings.from_environment({}), **{field: expected})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("WARDLINE_KEEP_TEXT", "yes", "WARDLINE_KEEP_TEXT is 'yes'; allowed: 0, 1"),
        ("WARDLINE_REGION", "UK", "WARDLINE_REGION: region: found 'UK', allowed a country of ISO 3166-1"),
        ("WARDLINE_REGION", "de", "WARDLINE_REGION: region: found 'de', allowed a code"),
        ("WARDLINE_DATABASE", "://", "WARDLINE_DATABASE: found '://', expected a file or a database URL"),
        ("WARDLINE_RATE_LIMIT", "600", "WARDLINE_RATE_LIMIT: rate limit is '600'; allowed: requests/unit"),
        ("WARDLINE_RATE_LIMIT", "0/s", "WARDLINE_RATE_LIMIT: requests is 0; allowed: 1 to 1000000"),
    ],
)
def test_what_a_variable_may_not_say_is_refused_by_its_name(name: str, value: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        Settings.from_environment({name: value})


def test_relative_paths_hold_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker runs elsewhere: what its parent hands down names the same files."""
    given = {
        "WARDLINE_BUNDLE": "b", "WARDLINE_KEYS": "k.yaml", "WARDLINE_DATABASE": "var/w.db", "WARDLINE_POLICY": "p.yaml",
        "WARDLINE_ADAPTERS": "a",
    }  # fmt: skip
    settings = Settings.from_environment(given)
    handed = settings.environment()
    assert handed == {
        "WARDLINE_BUNDLE": f"{tmp_path}/b",
        "WARDLINE_KEYS": f"{tmp_path}/k.yaml",
        "WARDLINE_ADAPTERS": f"{tmp_path}/a",
        "WARDLINE_DATABASE": f"sqlite:///{tmp_path}/var/w.db",
        "WARDLINE_POLICY": f"{tmp_path}/p.yaml",
    }
    monkeypatch.chdir("/")
    assert Settings.from_environment(handed) == settings


def test_what_is_not_set_is_not_handed_down(tmp_path: Path) -> None:
    assert Settings.from_environment({}).environment() == {
        "WARDLINE_DATABASE": f"sqlite:///{tmp_path}/var/wardline.db", "WARDLINE_POLICY": "ads-default",
        "WARDLINE_ADAPTERS": f"{tmp_path}/var/adapters",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "follows"),
    [("ads-default", True), ("ads-default@2", False), ("shop.yaml", False), ("shop.yml", False), ("shop", True)],
)
def test_a_policy_without_a_version_follows_what_is_published(policy: str, follows: bool) -> None:
    assert Settings.from_environment({"WARDLINE_POLICY": policy}).follows_publications is follows


def test_a_database_is_a_file_or_a_url(tmp_path: Path) -> None:
    """Passwords survive, memory stays memory, what has options is left as it is."""
    for url in (
        "postgresql://u:secret@db/wardline", "sqlite:////abs/w.db", "sqlite:///:memory:", "sqlite://",
        "sqlite:///w.db?timeout=3",
    ):  # fmt: skip
        assert database_url(url) == url
    for named in ("w.db", "sqlite:///w.db", "./w.db"):
        assert database_url(named) == f"sqlite:///{tmp_path}/w.db"
    with pytest.raises(ValueError, match="expected a file or a database URL"):
        database_url("://")
