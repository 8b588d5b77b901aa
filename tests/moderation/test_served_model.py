"""A model that is exchanged while requests run: each sees the old or the new whole, and every worker follows."""

from __future__ import annotations

import gc
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from moderation.item import Item
from moderation.served_model import ServedModel, Unchanging, readiness_of
from moderation.serving import Serving
from retrieval_shared.adapter_store import MANIFEST

if TYPE_CHECKING:
    from tests.moderation.conftest import Folders

ITEM = Item(id="a", fields={"text": "tea"}, regions=("ID",))


def versions(serving: Serving) -> dict[str, str]:
    """What a decision says of what made it."""
    [made] = serving.moderator.moderate_and_count([ITEM], explain=False).decisions
    return dict(made.versions)


def names(serving: Serving) -> list[str]:
    return [adapter.name for adapter in serving.moderator.adapters]


def test_a_request_after_a_change_is_decided_by_it_and_one_before_ends_as_it_began(folders: Folders) -> None:
    served = ServedModel(folders.models())
    before = served.current()
    assert served.current() is before
    added = folders.store.add(folders.adapter("region:ID"))
    assert served.serving is before  # a glance loads nothing
    after = served.current()
    assert versions(after)["region:ID"].startswith(added.version)
    assert "region:ID" not in versions(before)
    newer = folders.store.add(folders.adapter("region:ID", 2.0))
    assert versions(served.current())["region:ID"].startswith(newer.version)
    folders.store.remove("region:ID")
    assert names(served.current()) == ["task:moderation"]
    folders.turn(folders.write("2"))
    assert (served.current().name, before.name) == ("tiny@2", "tiny@1")


def test_two_workers_follow_one_store(folders: Folders) -> None:
    """They share nothing but the folders."""
    workers = [ServedModel(folders.models()) for _ in range(2)]
    for change in (
        lambda: folders.store.add(folders.adapter("region:ID")),
        lambda: folders.store.add(folders.adapter("task:moderation", 3.0)),
        lambda: folders.turn(folders.write("2")),
        lambda: folders.store.remove("region:ID"),
    ):
        change()
        told = workers[0].reload()
        assert (told.after, told.refused) == (workers[0].serving, ())
        first, second = (versions(worker.current()) for worker in workers)
        assert first == second
    assert first["bundle"] == "2"


def test_a_reload_through_one_has_the_others_try_again_what_they_refused(folders: Folders) -> None:
    """Here nothing they watch has changed: the bundle's list came before its files."""
    workers = [ServedModel(folders.models()) for _ in range(2)]
    new = folders.write("2")
    whole = (new / "encoder.onnx").read_bytes()
    (new / "encoder.onnx").unlink()
    folders.turn(new)
    assert [worker.current().name for worker in workers] == ["tiny@1"] * 2
    (new / "encoder.onnx").write_bytes(whole)
    assert [worker.current().name for worker in workers] == ["tiny@1"] * 2
    assert workers[0].reload().after.name == "tiny@2"
    assert [worker.current().name for worker in workers] == ["tiny@2"] * 2
    assert [worker.refused for worker in workers] == [(), ()]


# ---- what is refused


def test_what_is_refused_is_told_and_the_old_serves_on(folders: Folders) -> None:
    folders.store.add(folders.adapter("region:ID"))
    served = ServedModel(folders.models())
    before = served.current()
    with capture_logs() as logs:
        folders.store.add(folders.adapter("region:ID", encoder="two"))
        assert [served.current() for _ in range(3)] == [before] * 3
    [logged] = [entry for entry in logs if entry["log_level"] == "error"]  # once, not at every request
    [refused] = served.refused
    assert (logged["name"], logged["reason"]) == (refused.name, refused.reason)
    assert refused.name == "region:ID"
    assert "trained over base weights" in refused.reason
    readiness = readiness_of(served)
    assert readiness.ready
    assert readiness.warnings == ("region:ID is refused and does not serve: see GET /v1/adapters",)
    better = folders.store.add(folders.adapter("region:ID", 2.0))
    assert versions(served.current())["region:ID"].startswith(better.version)
    assert (served.refused, readiness_of(served).warnings) == ((), ())


def test_files_that_are_damaged_later_do_not_reach_what_serves(folders: Folders) -> None:
    folders.store.add(folders.adapter("region:ID"))
    served = ServedModel(folders.models())
    before = served.current()
    [entry] = folders.store.entries()
    (folders.store.folder / entry.folder / "adapter_model.safetensors").write_bytes(b"")
    assert served.reload().after is before
    [refused] = served.refused
    assert (refused.name, "not those that were added" in refused.reason) == ("region:ID", True)
    (folders.store.folder / MANIFEST).write_text("{", encoding="utf-8")
    assert served.current() is before
    assert [each.name for each in served.refused] == [MANIFEST]


def test_a_bundle_that_goes_and_comes_back_is_not_missed(folders: Folders) -> None:
    served = ServedModel(folders.models())
    before, folder = served.current(), folders.bundle.resolve()
    folders.bundle.unlink()
    assert served.current() is before
    assert "no model bundle" in served.refused[0].reason
    folders.turn(folder)
    assert served.current().moderator is before.moderator
    assert served.refused == ()


@pytest.mark.parametrize("bundle_first", [True, False])
def test_a_bundle_and_the_adapters_for_it_come_into_service_together(bundle_first: bool, folders: Folders) -> None:
    """Whichever is there first: never the new bundle with an old adapter, nor without it."""
    folders.store.add(folders.adapter("region:ID"))
    served = ServedModel(folders.models())
    before = served.current()
    steps: list[Callable[[], object]] = [
        lambda: folders.turn(folders.write("2", encoder="two")),
        lambda: folders.store.add(folders.adapter("region:ID", encoder="two")),
    ]
    first, second = steps if bundle_first else reversed(steps)
    first()
    assert served.current() is before
    assert served.refused
    second()
    after = served.current()
    assert (after.name, names(after), served.refused) == ("tiny@2", ["task:moderation", "region:ID"], ())


def test_a_worker_that_starts_while_something_is_refused_serves_the_rest(folders: Folders) -> None:
    folders.store.add(folders.adapter("region:DE"))
    folders.store.add(folders.adapter("region:ID", encoder="two"))
    served = ServedModel(folders.models())
    assert names(served.current()) == ["task:moderation", "region:DE"]
    assert [each.name for each in served.refused] == ["region:ID"]
    folders.store.remove("region:ID")
    assert names(served.current()) == ["task:moderation", "region:DE"]
    assert served.refused == ()


def test_a_store_that_cannot_be_written_to_is_read_all_the_same(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = folders.models()
    served = ServedModel(models)
    new = folders.write("2")
    (new / "encoder.onnx").rename(new / "late.onnx")
    folders.turn(new)
    assert served.current().name == "tiny@1"
    (new / "late.onnx").rename(new / "encoder.onnx")

    def read_only() -> None:
        raise PermissionError("Read-only file system")

    monkeypatch.setattr(models, "touch", read_only)
    with capture_logs() as logs:
        assert served.reload().after.name == "tiny@2"
    assert [entry["reason"] for entry in logs if entry["log_level"] == "warning"] == ["Read-only file system"]


def test_a_mistake_of_ours_fails_one_request_and_not_every_one(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = folders.models()
    served = ServedModel(models)
    before = served.current()
    folders.store.add(folders.adapter("region:ID"))
    with monkeypatch.context() as patch:
        patch.setattr(models, "load", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            served.current()
        assert served.current() is before
    assert names(served.reload().after) == ["task:moderation", "region:ID"]


# ---- threads


@contextmanager
def held_load(models: Any) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Events of a load that has begun, and that may go on; whatever a test does, it goes on at the end."""
    begun, may_go_on, load = threading.Event(), threading.Event(), models.load

    def held(*given: object, **options: object) -> object:
        begun.set()
        assert may_go_on.wait(10)
        return load(*given, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load", held)
        try:
            yield begun, may_go_on
        finally:
            may_go_on.set()


def test_one_request_loads_and_the_others_do_not_wait(folders: Folders) -> None:
    models = folders.models()
    served = ServedModel(models)
    before = served.current()
    folders.store.add(folders.adapter("region:ID"))
    with ThreadPoolExecutor(1) as pool, held_load(models) as (begun, may_go_on):
        loads: Future[Serving] = pool.submit(served.current)
        assert begun.wait(10)
        assert [served.current() for _ in range(3)] == [before] * 3
        folders.store.add(folders.adapter("region:IN"))  # nor where there is more to load meanwhile
        assert [served.current() for _ in range(3)] == [before] * 3
        may_go_on.set()
        assert loads.result() is not before
    assert names(served.current()) == ["task:moderation", "region:ID", "region:IN"]


class WatchedLock:
    """A lock that says when somebody begins to wait for it."""

    def __init__(self, lock: threading.Lock) -> None:
        self.lock, self.waited_for = lock, threading.Event()
        self.acquire, self.release = lock.acquire, lock.release

    def __enter__(self) -> None:
        self.waited_for.set()
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def test_a_reload_waits_for_what_is_being_loaded_and_looks_once_more(folders: Folders) -> None:
    models = folders.models()
    served = ServedModel(models)
    lock = WatchedLock(served._loading)
    served._loading = lock  # type: ignore[assignment]
    folders.store.add(folders.adapter("region:ID"))
    with ThreadPoolExecutor(2) as pool, held_load(models) as (begun, may_go_on):
        loads = pool.submit(served.current)
        assert begun.wait(10)
        reloads = pool.submit(served.reload)
        assert lock.waited_for.wait(10)
        folders.store.add(folders.adapter("region:IN"))
        assert not reloads.done()
        may_go_on.set()
        wait((loads,))
    assert names(reloads.result().after) == ["task:moderation", "region:ID", "region:IN"]


def test_eight_threads_that_read_while_two_exchange_see_the_old_or_the_new_whole(folders: Folders) -> None:
    """The bundle's own adapter is always that of the bundle, and the added one always one of two."""
    bundles = [folders.bundle.resolve(), folders.write("2")]
    adapters = [folders.adapter("region:ID", value) for value in (1.0, 2.0)]
    folders.store.add(adapters[0])
    served = ServedModel(folders.models())
    own = {load.name: versions(load) for load in self_consistent(folders, bundles)}
    stop = threading.Event()

    def exchange(change: Any, given: list[Any]) -> int:
        for count, each in enumerate(itertools.cycle(given)):
            if stop.is_set():
                return count
            change(each)
        raise AssertionError("a cycle has no end")

    def read() -> set[tuple[str, str]]:
        seen: set[tuple[str, str]] = set()
        for count in range(20_000):
            serving = served.current()
            told = versions(serving)
            assert told == versions(serving)
            assert told["task:moderation"] == own[serving.name]["task:moderation"]
            assert served.refused == ()
            seen.add((told["bundle"], told["region:ID"]))
            if count >= 80 and all(len(set(each)) == 2 for each in zip(*seen, strict=True)):
                break
        return seen

    with ThreadPoolExecutor(10) as pool:
        writers = [pool.submit(exchange, folders.turn, bundles), pool.submit(exchange, folders.store.add, adapters)]
        readers = [pool.submit(read) for _ in range(8)]
        wait(readers)
        stop.set()
    assert all(writer.result() > 2 for writer in writers)
    seen = {pair for reader in readers for pair in reader.result()}
    assert {bundle for bundle, _ in seen} == {"1", "2"}
    assert len({adapter for _, adapter in seen}) == 2


def self_consistent(folders: Folders, bundles: list[Any]) -> Iterator[Serving]:
    """What each bundle serves alone."""
    for bundle in bundles:
        folders.turn(bundle)
        yield folders.models().open().own


def test_what_no_request_holds_any_more_is_let_go(folders: Folders) -> None:
    served = ServedModel(folders.models())
    before = served.current()
    gone = weakref.ref(before.moderator)
    folders.turn(folders.write("2"))
    served.current()
    gc.collect()
    assert gone() is before.moderator
    del before
    gc.collect()
    assert gone() is None


def test_a_moderator_that_stays_is_served_in_the_same_way(made_up_scores: type[Any]) -> None:
    served = Unchanging(made_up_scores())
    assert served.current() is served.serving
    told = served.reload()
    assert (told.before, told.after, told.refused) == (served.serving, served.serving, ())
    assert readiness_of(served) == served.serving.readiness
