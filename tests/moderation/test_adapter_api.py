"""What the service says of adapters, without HTTP: which serve, from where, and what a look has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from moderation.adapter_api import AdapterApi
from moderation.served_model import ServedModel, Unchanging
from retrieval_shared.bundle import load_bundle

if TYPE_CHECKING:
    from tests.moderation.conftest import Folders


@pytest.fixture
def api(folders: Folders) -> AdapterApi:
    return AdapterApi(ServedModel(folders.models()))


def listed(api: AdapterApi) -> list[tuple[int, str, str]]:
    return [(each["slot"], each["name"], each["source"]) for each in api.listing()["adapters"]]


def test_slots_are_listed_with_where_they_come_from(api: AdapterApi, folders: Folders) -> None:
    """At once after a change, and a bundle's own comes back when what was added in its place goes."""
    assert listed(api) == [(1, "task:moderation", "bundle")]
    version = folders.store.add(folders.adapter("region:ID")).version
    folders.store.add(folders.adapter("task:moderation"))
    assert listed(api) == [(1, "task:moderation", "added"), (2, "region:ID", "added")]
    assert api.listing()["adapters"][1] == {
        "slot": 2, "name": "region:ID", "version": version, "parent": None, "source": "added",
    }  # fmt: skip
    folders.store.remove("task:moderation")
    assert listed(api) == [(1, "task:moderation", "bundle"), (2, "region:ID", "added")]


def test_the_bundle_is_told_by_name_and_by_hashes(api: AdapterApi, folders: Folders) -> None:
    bundle = load_bundle(folders.bundle)
    assert api.listing()["bundle"] == {
        "ref": "tiny@1", "digest": bundle.manifest.digest, "encoder": bundle.sha256("base.int8.bin"),
    }  # fmt: skip


def test_what_is_refused_is_listed_with_its_reason(api: AdapterApi, folders: Folders) -> None:
    folders.store.add(folders.adapter("region:ID", encoder="two"))
    told = api.listing()
    [refused] = told["refused"]
    assert (refused["name"], "trained over base weights" in refused["reason"]) == ("region:ID", True)
    assert [each["name"] for each in told["adapters"]] == ["task:moderation"]
    assert api.reload(by="ann") == {**told, "changes": []}


def test_a_reload_tells_what_it_has_changed(api: AdapterApi, folders: Folders) -> None:
    first = folders.store.add(folders.adapter("region:ID")).version
    with capture_logs() as logs:
        assert api.reload(by="ann")["changes"] == [{"name": "region:ID", "before": None, "after": first}]
    assert [entry["by"] for entry in logs if entry["event"] == "adapters reloaded"] == ["ann"]
    assert api.reload(by="ann")["changes"] == []
    second = folders.store.add(folders.adapter("region:ID", 2.0)).version
    assert api.reload(by="ann")["changes"] == [{"name": "region:ID", "before": first, "after": second}]
    folders.store.remove("region:ID")
    assert api.reload(by="ann")["changes"] == [{"name": "region:ID", "before": second, "after": None}]


def test_a_new_bundle_is_a_change_and_so_are_its_adapters(api: AdapterApi, folders: Folders) -> None:
    folders.turn(folders.write("2"))
    bundle, adapter = api.reload(by="ann")["changes"]
    digests = [load_bundle(folders.path / f"bundle-{number}").manifest.digest[:12] for number in (1, 2)]
    assert bundle == {"name": "bundle", "before": f"tiny@1+{digests[0]}", "after": f"tiny@2+{digests[1]}"}
    assert adapter == {"name": "task:moderation", "before": digests[0], "after": digests[1]}


def test_a_moderator_that_stays_has_its_adapters_listed_too(made_up_scores: type[Any]) -> None:
    api = AdapterApi(Unchanging(made_up_scores()))
    assert listed(api) == [(1, "task:moderation", "bundle"), (2, "region:ID", "bundle")]
    assert api.reload(by="ann")["changes"] == []
