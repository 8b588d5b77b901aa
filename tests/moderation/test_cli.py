"""The commands of moderation, as typed; the model is a fake."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from moderation import cli
from moderation.auth import Scope, load_keys
from moderation.bank import StoredBank
from moderation.decision import Action, Decision, RegionDecision
from moderation.item import Item
from moderation.pipeline import Moderator
from moderation.policy_document import POLICIES, list_policies
from moderation.policy_store import PolicyStore
from moderation.rate_limit import RateLimit
from moderation.review.store import Store
from moderation.rule_store import RuleStore
from moderation.thresholds import HeadThreshold, Thresholds
from retrieval_shared.adapter_store import AdapterStore
from retrieval_shared.adapters import Adapter

if TYPE_CHECKING:
    from tests.moderation.conftest import Folders

VERSIONS = {"policy_set": "fake@1"}


class FakeModerator:
    thresholds = Thresholds.of(prevalence=0.02, heads={"scam": HeadThreshold(0.3, 0.6, "made up", 1, 1)})
    adapters: Sequence[Adapter] = ()

    def with_adapters(self, adapters: Sequence[Adapter]) -> FakeModerator:
        made = FakeModerator()
        made.adapters = adapters
        return made

    def moderate(self, items: Sequence[Item]) -> list[Decision]:
        return [
            Decision(
                item.id,
                "ok",
                None,
                None,
                tuple(RegionDecision(code, code, Action.ESCALATE, (), (), degraded=False) for code in item.regions),
                {},
                None,
                VERSIONS | {each.name: each.version for each in self.adapters},
            )
            for item in items
        ]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(cli.DATABASE_VARIABLE, raising=False)
    monkeypatch.delenv("WARDLINE_KEYS", raising=False)
    monkeypatch.delenv("WARDLINE_DEBUG", raising=False)
    monkeypatch.delenv("WARDLINE_ADAPTERS", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(Moderator, "load", lambda *_, **__: FakeModerator())
    Path("ads.jsonl").write_text('{"id": "ad-1", "text": "one"}\n{"id": "ad-2", "text": "two"}\nbroken\n')


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments))


def moderated(*more: str) -> Result:
    return run("moderate", "--in", "ads.jsonl", "--out", "decisions.jsonl", "--regions", "DE, US", *more)


def test_files_are_decided_by_what_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a service over the same database decides; without one there is nothing published."""
    rules = (
        "{id: shop, version: 1, rules: [{name: a, head: scam, kind: terms, terms: [x], effect: reject, mode: active}]}"
    )
    with closing(Store("sqlite:///w.db")) as store:
        PolicyStore(store.database, list_policies()).publish("ads-default@1", by="ann")
        RuleStore(store.database).publish(RuleStore(store.database).add(rules, by="ann").ref, by="ann")
        StoredBank(store.database).add("free passports", "scam", by="ann")
    asked: list[dict[str, Any]] = []

    def load(*_: object, **told: Any) -> FakeModerator:
        asked.append(told)
        return FakeModerator()

    monkeypatch.setattr(Moderator, "load", load)
    assert moderated("--db", "w.db").exit_code == 0
    assert moderated("--no-queue").exit_code == 0
    assert asked[0]["policy"].ref == "ads-default@1"
    assert asked[0]["sources"].versions["rules"].startswith("shop@1+")
    assert [match.kind for match in asked[0]["sources"].bank.nearest("free passports")] == ["exact"]
    assert asked[1] == {"policy": "ads-default"}


def rows(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_file_is_moderated_and_its_escalations_filed() -> None:
    result = moderated()
    assert result.exit_code == 0, result.output
    assert "3 lines, 1 failed; decisions per region: escalate 4" in result.output
    assert "escalations in the review queue: 4" in result.output
    assert [row["status"] for row in rows("decisions.jsonl")] == ["ok", "ok", "error"]
    assert Path("var/wardline.db").exists()


@pytest.mark.parametrize("more", [(), ("--no-queue",)])
def test_adapters_that_were_added_serve_here_too(more: tuple[str, ...], folders: Folders) -> None:
    """With a database and without; one that is damaged stops the command before it writes anything."""
    store = AdapterStore(Path("var/adapters"))
    version = store.add(folders.adapter("region:ID")).version
    assert moderated(*more).exit_code == 0
    assert [row["versions"].get("region:ID") for row in rows("decisions.jsonl")[:2]] == [version] * 2
    Path("decisions.jsonl").unlink()
    assert moderated("--adapters", "none", *more).exit_code == 0
    assert "region:ID" not in rows("decisions.jsonl")[0]["versions"]
    Path("decisions.jsonl").unlink()
    (store.folder / store.entries()[0].folder / "adapter_config.json").unlink()
    refused = moderated(*more)
    assert (refused.exit_code, Path("decisions.jsonl").exists()) == (2, False)
    assert "they are missing or damaged" in refused.output


def test_what_decided_is_kept_so_that_it_can_be_decided_again() -> None:
    """The thresholds, and a policy of one's own; a version of it that has another content is refused before."""
    text = (POLICIES / "ads-default@1.yaml").read_text(encoding="utf-8").replace("id: ads-default", "id: shop", 1)
    Path("shop.yaml").write_text(text, encoding="utf-8")
    assert moderated("--policy", "shop.yaml", "--db", "w.db").exit_code == 0
    store = Store("sqlite:///w.db")
    kept = PolicyStore(store.database, list_policies())
    assert kept.thresholds(FakeModerator.thresholds.id) == FakeModerator.thresholds
    assert kept.get("shop@1").rule("gambling", "DE")[0].severity == 2
    store.close()
    Path("shop.yaml").write_text(text.replace("severity: 4", "severity: 3"), encoding="utf-8")
    Path("decisions.jsonl").unlink()
    refused = moderated("--policy", "shop.yaml", "--db", "w.db")
    assert (refused.exit_code, Path("decisions.jsonl").exists()) == (2, False)
    assert "shop@1 is there with other content" in refused.output


def test_no_queue_leaves_no_database() -> None:
    result = moderated("--no-queue")
    assert result.exit_code == 0, result.output
    assert not Path("var").exists()
    assert "review queue" not in result.output


def test_database_is_a_file_or_a_url_or_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert moderated("--db", "a/b.db").exit_code == 0
    assert moderated("--db", "sqlite:///c.db").exit_code == 0
    monkeypatch.setenv(cli.DATABASE_VARIABLE, "sqlite:///d.db")
    assert moderated().exit_code == 0
    assert [Path(name).exists() for name in ("a/b.db", "c.db", "d.db", "var")] == [True, True, True, False]


def test_reviews_are_listed_exported_decided_and_listed_again() -> None:
    moderated("--keep-text")
    assert run("reviews", "list", "--limit", "3").output.count("rev_") == 3
    assert "4 reviews written" in run("reviews", "export", "--out", "reviews.jsonl").output
    exported = rows("reviews.jsonl")
    assert {row["text"]["text"] for row in exported} == {"one", "two"}
    verdict = {"review_id": exported[0]["review_id"], "action": "reject", "reviewer": "ann"}
    Path("verdicts.jsonl").write_text(json.dumps(verdict) + "\n")
    result = run("reviews", "import", "verdicts.jsonl")
    assert (result.exit_code, result.output.splitlines()[0]) == (
        0,
        "1 verdicts added, 0 there already, 0 rows not filled in, 0 unusable",
    )
    assert "0 verdicts added, 1 there already" in run("reviews", "import", "verdicts.jsonl").output
    assert "reject" in run("reviews", "list", "--state", "decided").output
    assert "1 reviews written" in run("reviews", "export", "--out", "done.csv", "--state", "decided").output
    assert run("reviews", "export", "--out", "x.bin", "--format", "parquet").exit_code == 0


def test_unusable_verdicts_are_listed_and_the_rest_is_taken() -> None:
    moderated()
    run("reviews", "export", "--out", "reviews.jsonl")
    good = {"review_id": rows("reviews.jsonl")[0]["review_id"], "action": "reject", "reviewer": "ann"}
    Path("verdicts.jsonl").write_text("{\n" * 25 + json.dumps(good) + "\n")
    result = run("reviews", "import", "verdicts.jsonl")
    assert result.exit_code == 1
    assert "1 verdicts added" in result.output
    assert "line 1: not JSON" in result.output
    assert "and 5 more" in result.output


def test_empty_queue_says_so() -> None:
    assert "no pending reviews" in run("reviews", "list").output


def test_key_is_shown_once_and_kept_as_a_hash() -> None:
    result = run("keys", "create", "shop", "--scope", "moderate", "--scope", "review", "--file", "keys.yaml")
    assert result.exit_code == 0, result.output
    secret = result.output.splitlines()[0]
    found = load_keys(Path("keys.yaml")).find(secret)
    assert found is not None
    assert (found.name, found.scopes) == ("shop", {Scope.MODERATE, Scope.REVIEW})
    assert secret not in Path("keys.yaml").read_text()


def test_key_may_have_a_rate_limit_of_its_own() -> None:
    arguments = ("keys", "create", "bulk", "--scope", "moderate", "--file", "keys.yaml")
    assert run(*arguments, "--rate-limit", "60/min").exit_code == 0
    assert [key.rate_limit for key in load_keys(Path("keys.yaml")).keys] == [RateLimit(60, 60)]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("moderate", "--in", "none.jsonl", "--out", "o.jsonl", "--regions", "DE"), "no such file: none.jsonl"),
        (("moderate", "--in", "ads.txt", "--out", "o.jsonl", "--regions", "DE"), "path: found 'ads.txt', allowed"),
        (("moderate", "--in", "ads.jsonl", "--out", "o.jsonl", "--regions", "de"), "region: found 'de'"),
        (("moderate", "--in", "ads.jsonl", "--out", "ads.jsonl", "--regions", "DE"), "which is the source"),
        (("reviews", "export", "--out", "reviews.xlsx"), "path: found 'reviews.xlsx'"),
        (("reviews", "import", "none.csv"), "no such file"),
        (("reviews", "list", "--db", "mysql://x/y"), "url: found 'mysql'"),
        (("reviews", "list", "--db", "ads.jsonl"), "cannot be opened"),
        (("keys", "create", "shop", "--scope", "all"), "scope is 'all'"),
        (("keys", "create", "shop", "--scope", "admin", "--rate-limit", "60"), "rate limit is '60'; allowed: requests"),
    ],
)
def test_mistake_is_one_line_and_exit_code_2(arguments: tuple[str, ...], reason: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.output.startswith("Error: ")
    assert len(result.output.splitlines()) == 1
    assert reason in result.output
    assert not Path("o.jsonl").exists()


def test_debug_shows_where_an_error_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARDLINE_DEBUG", "1")
    assert isinstance(run("reviews", "export", "--out", "reviews.xlsx").exception, ValueError)


def test_error_nobody_expects_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("a mistake of ours")

    monkeypatch.setattr(Moderator, "load", broken)
    assert isinstance(moderated().exception, KeyError)


@pytest.mark.parametrize(
    "arguments", [(), ("moderate",), ("reviews",), ("reviews", "import"), ("policies",), ("keys",)]
)
def test_help_helps(arguments: tuple[str, ...]) -> None:
    result = run(*arguments, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.output
