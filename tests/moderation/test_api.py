"""The API as a plain class: the probe, and the way from a body to an answer."""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy.exc import OperationalError

from moderation.api import MAX_WAITING, ModerationApi
from moderation.decision import Decision, decide, decide_failed
from moderation.item import Item
from moderation.pipeline import Moderated
from moderation.policy import Policy
from moderation.policy_api import PolicyApi
from moderation.policy_document import POLICIES, load_policy
from moderation.policy_store import PolicyStore
from moderation.problem import Problem
from moderation.review.store import Store
from moderation.served_model import ServedModel
from moderation.settings import Settings
from moderation.signal_sources import NO_SOURCES, SignalSources
from moderation.thresholds import HeadThreshold, Thresholds
from retrieval_shared.adapter_store import AdapterStore
from retrieval_shared.adapters import Adapter
from retrieval_shared.bundle import ADAPTERS, Bundle, Manifest, Probe
from retrieval_shared.errors import ScoringError
from retrieval_shared.language import Language

if TYPE_CHECKING:
    from tests.moderation.conftest import Folders

AT = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)
POLICY = load_policy("ads-default@1")
HEADS = tuple(head.name for head in POLICY.heads)
ITEMS = [Item(id="a", fields={"body": "x"}, regions=("US",))]


def bundle(recorded: float = 0.1) -> Bundle:
    """A bundle whose probe had this probability for every head."""
    manifest = Manifest(
        name="tiny",
        version="1",
        heads=HEADS,
        slots=("base",),
        languages=("en", "de"),
        max_tokens=256,
        files={},
        probe=Probe("probe", dict.fromkeys(HEADS, recorded)),
    )
    return Bundle(Path("nowhere"), manifest)


DOCUMENT = (POLICIES / "ads-default@1.yaml").read_text(encoding="utf-8")


def policies() -> PolicyApi:
    """The policies of a database of their own."""
    store = Store(f"sqlite:///{tempfile.mkdtemp()}/policies.db")
    versions = PolicyStore(store.database, [POLICY])
    return PolicyApi(versions, store, served=POLICY, follow=True, thresholds=FakeModerator.thresholds)


class FakeModerator:
    """Decides with the real policy on made-up probabilities: a head named in the text has 0.99."""

    heads = HEADS
    policy: Policy = POLICY
    adapters: tuple[Adapter, ...] = ()
    thresholds = Thresholds.of(
        prevalence=0.02, heads={head: HeadThreshold(0.3, 0.6, "made up", 150 + i, 900) for i, head in enumerate(HEADS)}
    )

    def __init__(self, *, recorded: float = 0.1, fails: bool = False) -> None:
        self.bundle = bundle(recorded)
        self.fails = fails
        self.explained: list[bool] = []
        self.policies: list[Policy | None] = []
        self.sources: list[SignalSources] = []
        self.gate: threading.Event | None = None

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """0.1 for every head."""
        if self.fails:
            raise ScoringError("no session")
        return np.full((len(texts), len(HEADS)), 0.1, dtype=np.float32)

    def moderate_and_count(
        self,
        items: Sequence[Item],
        *,
        explain: bool,
        policy: Policy | None = None,
        sources: SignalSources = NO_SOURCES,
    ) -> Moderated:
        """One decision per item, words for tokens; with `fails`, each is what a scoring failure comes to."""
        if self.gate is not None:
            self.gate.wait(10)
        self.explained.append(explain)
        self.policies.append(policy)
        self.sources.append(sources)
        words = sum(len(text.split()) for item in items for text in item.fields.values())
        return Moderated([self._decide(item) for item in items], words)

    def _decide(self, item: Item) -> Decision:
        text = " ".join(item.fields.values())
        scores = {head: 0.99 if head in text else 0.01 for head in HEADS}
        if self.fails:
            regions = tuple(decide_failed(region=r, policy=POLICY, reason="no session") for r in item.regions)
        else:
            regions = tuple(
                decide(scores, region=r, policy=POLICY, thresholds=self.thresholds, context=item.context, at=AT)
                for r in item.regions
            )
        return Decision(
            id=item.id,
            status="ok",
            error=None,
            language=Language("en", 1.0, True),
            decisions=regions,
            probabilities={} if self.fails else scores,
            obfuscation=None,
            versions={"policy_set": POLICY.ref},
            degraded=self.fails,
        )


class FakeQueue:
    """Gives every escalation a review id and remembers what it was given."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, bool]] = []

    def record(self, decisions: Sequence[Decision], items: Sequence[Item], *, keep_text: bool) -> list[Decision]:
        """Files escalations."""
        assert [decision.id for decision in decisions] == [item.id for item in items]
        self.kept += [(item.id, keep_text) for item in items]
        return [
            replace(
                decision,
                decisions=tuple(
                    replace(region, review_id=f"rev_{decision.id}") if region.action == "escalate" else region
                    for region in decision.decisions
                ),
            )
            for decision in decisions
        ]


class BrokenQueue(FakeQueue):
    """A database that has gone away."""

    def record(self, *_: object, **__: object) -> list[Decision]:
        """Fails as SQLAlchemy does."""
        raise OperationalError("INSERT", {}, Exception("disk full"))


def body(*texts: str, region: str = "US", **changes: object) -> bytes:
    """A request of one ad per text."""
    items = [{"id": f"ad-{i}", "fields": {"body": text}, "regions": [region]} for i, text in enumerate(texts)]
    return json.dumps({"items": items, **changes}).encode()


def test_results_stand_in_the_order_of_the_request_with_errors_between() -> None:
    """The pipeline and the log see the good items only; every item is answered."""
    moderator, queue = FakeModerator(), FakeQueue()
    request = {
        "items": [
            {"id": "a", "fields": {"body": "shoes"}, "regions": ["US"]},
            {"id": "b", "fields": {"body": " "}, "regions": ["US"]},
            {"id": "c", "fields": {"body": "a scam"}, "regions": ["US", "DE"]},
            {"id": "a", "fields": {"body": "shoes again"}, "regions": ["US"]},
        ],
        "explain": "none",
    }
    api = ModerationApi(moderator, queue, policies())
    answer = api.answer(json.dumps(request).encode())
    api.close()
    assert [(result.id, result.status) for result in answer.results] == [
        ("a", "ok"),
        ("b", "error"),
        ("c", "ok"),
        ("a", "error"),
    ]
    assert queue.kept == [("a", False), ("c", False)]
    assert moderator.explained == [True, False]  # the first is the probe
    assert (answer.usage.items, answer.usage.tokens) == (2, 3)
    assert api.metrics.registry.get_sample_value("wardline_item_errors_total", {"code": "duplicate_id"}) == 1
    assert api.metrics.registry.get_sample_value("wardline_stage_seconds_count", {"stage": "record"}) == 1


def test_texts_are_kept_only_when_asked_for() -> None:
    """The setting reaches the queue."""
    queue = FakeQueue()
    api = ModerationApi(FakeModerator(), queue, policies(), keep_text=True)
    api.answer(body("x"))
    api.close()
    assert queue.kept == [("ad-0", True)]


def test_a_batch_without_one_good_item_is_answered_without_the_model() -> None:
    """All errors, HTTP-wise still a success."""
    moderator = FakeModerator()
    api = ModerationApi(moderator, FakeQueue(), policies())
    answer = api.answer(b'{"items": [1, null]}')
    api.close()
    assert [result.status for result in answer.results] == ["error", "error"]
    assert (moderator.explained, answer.usage.items, answer.usage.tokens) == ([True], 0, 0)  # the probe alone


def test_the_served_policy_set_may_be_named_with_or_without_its_version() -> None:
    """Another one is refused: it would be decided by rules the caller did not ask for."""
    api = ModerationApi(FakeModerator(), FakeQueue(), policies())
    for ref in (POLICY.ref, POLICY.id):
        assert api.answer(body("x", policy_set=ref)).results[0].status == "ok"
    for ref in ("ads-default@99", "other", "", "../x.yaml"):
        with pytest.raises(Problem, match="unknown_policy_set"):
            api.answer(body("x", policy_set=ref))
    api.close()


def test_when_the_log_cannot_be_written_nothing_is_answered() -> None:
    """An escalation that nobody would see must not look filed."""
    api = ModerationApi(FakeModerator(), BrokenQueue(), policies())
    with pytest.raises(Problem, match="queue_unavailable") as error:
        api.answer(body("x"))
    api.close()
    assert error.value.headers == {"Retry-After": "5"}


def test_when_what_is_in_force_cannot_be_read_nothing_is_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of an ad nor of a comment that somebody suggests."""
    queue = FakeQueue()
    api = ModerationApi(FakeModerator(), queue, policies())

    def unreadable() -> Policy:
        raise OperationalError("SELECT", {}, Exception("disk I/O error"))

    monkeypatch.setattr(api.policies, "in_force", unreadable)
    for ask in (
        lambda: api.answer(body("x")),
        lambda: api.suggest("x", {"TOXICITY": 0.9}, community="c", serving=api.current()),
    ):
        with pytest.raises(Problem, match="queue_unavailable: nothing was decided; send it again"):
            ask()
    api.close()
    assert queue.kept == []


def test_the_event_loop_is_free_while_texts_are_scored() -> None:
    """The loop lets the scoring thread go; were it blocked, the gate would never open."""

    async def scenario() -> str:
        moderator = FakeModerator()
        api = ModerationApi(moderator, FakeQueue(), policies())
        moderator.gate = threading.Event()
        task = asyncio.create_task(api.moderate(body("x")))
        await asyncio.sleep(0)
        moderator.gate.set()
        answer = await task
        api.close()
        return answer.results[0].status

    assert asyncio.run(scenario()) == "ok"


def test_beyond_the_longest_queue_requests_are_turned_away_at_once() -> None:
    """And those that wait are all answered."""

    async def scenario() -> tuple[str, int]:
        moderator = FakeModerator()
        api = ModerationApi(moderator, FakeQueue(), policies())
        moderator.gate = threading.Event()
        tasks = [asyncio.create_task(api.moderate(body("x"))) for _ in range(MAX_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(Problem) as error:
            await api.moderate(body("x"))
        moderator.gate.set()
        answers = await asyncio.gather(*tasks)
        await api.moderate(body("x"))
        api.close()
        return error.value.code, len(answers)

    assert asyncio.run(scenario()) == ("overloaded", MAX_WAITING)


def test_a_request_may_name_any_version_that_is_known_and_fits() -> None:
    """What is in force decides the others, and a publication counts from the next request on."""
    known, moderator = policies(), FakeModerator()
    api = ModerationApi(moderator, FakeQueue(), known)
    known.add(DOCUMENT.replace("version: 1", "version: 2", 1), by="ann")
    moderator.policies.clear()
    for ref in (None, "ads-default@2", "ads-default@1"):
        asyncio.run(api.moderate(body("x", policy_set=ref)))
    known.publish("ads-default@2", by="ann")
    for ref in (None, "ads-default", "ads-default@1"):
        asyncio.run(api.moderate(body("x", policy_set=ref)))
    assert [policy.version for policy in moderator.policies if policy] == [1, 2, 1, 2, 2, 1]
    api.close()


def test_a_model_that_is_exchanged_decides_with_its_own_thresholds(folders: Folders) -> None:
    """From the next request on; they are listed, and kept so that what they decided can be decided again."""
    store = Store(f"sqlite:///{folders.path / 'wardline.db'}")
    api = ModerationApi.over(ServedModel(folders.models()), store, Settings())
    before = api.current()
    folders.turn(folders.write("2"))
    api.answer(body("x"))
    after = api.current()
    assert [each.moderator.bundle.manifest.version for each in (before, after)] == ["1", "2"]
    cuts = [each.moderator.thresholds.id for each in (before, after)]
    assert cuts[0] != cuts[1] == api.policies.listing()["thresholds"]["id"]
    kept = PolicyStore(store.database)
    assert all(kept.thresholds(name) is not None for name in cuts)
    [old] = api.decide(ITEMS, policy_set=None, explain=False, serving=before).decisions
    [new] = api.decide(ITEMS, policy_set=None, explain=False).decisions
    assert (old.versions["bundle"], new.versions["bundle"]) == ("1", "2")
    api.close()
    store.close()


def test_what_serves_tells_of_itself_without_a_look_at_the_folders(folders: Folders) -> None:
    """A question whether the service is ready loads nothing; what was refused is a warning."""
    store = Store(f"sqlite:///{folders.path / 'wardline.db'}")
    api = ModerationApi.over(ServedModel(folders.models()), store, Settings())
    folders.turn(folders.write("2"))
    assert api.readiness.bundle == "tiny@1"
    api.current()
    assert (api.readiness.bundle, api.readiness.warnings) == ("tiny@2", ())
    folders.store.add(folders.adapter("region:ID", encoder="two"))
    api.current()
    assert api.readiness.ready
    assert "region:ID is refused" in api.readiness.warnings[0]
    api.close()
    store.close()


def test_it_opens_over_the_folders_that_the_settings_name(tiny_bundle: Bundle, tmp_path: Path) -> None:
    settings = Settings(
        bundle=tiny_bundle.path, adapters=tmp_path / "adapters", database=f"sqlite:///{tmp_path / 'w.db'}"
    )
    api = ModerationApi.open(settings)
    own = api.adapters.listing()["adapters"]
    assert {each["source"] for each in own} == {"bundle"}
    added = AdapterStore(settings.adapters).add(tiny_bundle.path / ADAPTERS / "region-ID")
    now = {each["name"]: each for each in api.adapters.listing()["adapters"]}
    assert (now["region:ID"]["source"], now["region:ID"]["version"]) == ("added", added.version)
    api.close()
