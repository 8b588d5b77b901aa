"""The front door without a server: the service class, its settings, and the application it becomes."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from bentoml._internal.utils.analytics.usage_stats import do_not_track
from bentoml.exceptions import BentoMLException
from fastapi.testclient import TestClient

from retrieval_shared.bundle import Bundle
from service import Wardline

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def client(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client of the whole application, BentoML's own layers included; it can be made once in a process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WARDLINE_BUNDLE", str(tiny_bundle.path))
        patch.setenv("WARDLINE_DATABASE", str(tmp_path_factory.mktemp("database") / "wardline.db"))
        patch.setenv("WARDLINE_ADAPTERS", str(tmp_path_factory.mktemp("adapters")))
        for name in ("WARDLINE_KEYS", "WARDLINE_POLICY", "WARDLINE_KEEP_TEXT"):
            patch.delenv(name, raising=False)
        with TestClient(Wardline.to_asgi(), base_url="http://localhost", client=("127.0.0.1", 1)) as connected:
            yield connected


def test_the_service_listens_on_loopback_with_one_worker_and_sends_nothing_home() -> None:
    """What an operator gets without saying anything."""
    assert (Wardline.name, Wardline.config["workers"], Wardline.config["http"]["host"]) == ("wardline", 1, "127.0.0.1")
    assert do_not_track()


def test_an_ad_goes_through_the_whole_service(client: TestClient) -> None:
    """Real tiny bundle, real queue: HTTP in, decision out, and what a person must see is filed."""
    items = [
        {"id": str(i), "fields": {"body": text}, "regions": ["US", "AE"]} for i, text in enumerate(("vodka", "tea"))
    ]
    answer = client.post("/v1/ads:moderate", json={"items": items}, headers={"x-request-id": "r1"})
    assert answer.status_code == 200
    assert answer.headers["x-request-id"] == "r1"
    results = answer.json()["results"]
    assert [result["status"] for result in results] == ["ok", "ok"]
    for decision in (decision for result in results for decision in result["decisions"]):
        assert (decision["review_id"] is not None) == (decision["action"] == "escalate")
    assert answer.json()["usage"]["tokens"] > 0


def test_readyz_tells_what_is_loaded_and_livez_answers(client: TestClient, tiny_bundle: Bundle) -> None:
    """BentoML's own /readyz has no body; ours stands before it."""
    ready = client.get("/readyz")
    manifest = tiny_bundle.manifest
    assert (ready.status_code, ready.json()["bundle"]) == (200, f"{manifest.name}@{manifest.version}")
    assert ready.json()["probe_difference"] <= 0.02
    assert client.get("/livez").status_code == 200


def test_the_routes_stand_beside_bentomls_own(client: TestClient) -> None:
    """Mounted at the root without hiding BentoML's pages; listed in its document."""
    assert client.get("/v1/limits").json()["max_items"] == 256
    assert "/v1/ads:moderate" in client.get("/docs.json").json()["paths"]
    assert client.get("/").headers["content-type"].startswith("text/html")


def test_a_damaged_bundle_stops_the_start(tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One changed byte; the hook that BentoML runs before any worker raises what it prints."""
    damaged = tmp_path / "bundle"
    shutil.copytree(tiny_bundle.path, damaged)
    weights = damaged / "base.int8.bin"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    monkeypatch.setenv("WARDLINE_BUNDLE", str(damaged))
    monkeypatch.setenv("WARDLINE_DATABASE", f"sqlite:///{tmp_path}/wardline.db")
    monkeypatch.setenv("WARDLINE_ADAPTERS", str(tmp_path / "adapters"))
    with pytest.raises(BentoMLException, match="Wardline cannot start: .*base.int8.bin has sha256"):
        Wardline.inner.check_start()
    with pytest.raises(Exception, match="base.int8.bin has sha256"):
        Wardline.inner()


def test_the_bento_is_built_from_the_front_door_and_the_base_requirements() -> None:
    """Serving code and model only; the requirements are those of pyproject.toml, which names no torch."""
    bento = yaml.safe_load((ROOT / "bentofile.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert bento["python"]["packages"] == project["dependencies"]
    assert not any("torch" in package for package in project["dependencies"])
    assert bento["service"] == "service:Wardline"
    packed = ["service.py", "moderation/", "retrieval_shared/", "models/default/", "LICENSE", "NOTICE"]
    assert bento["include"] == packed
    assert "retrieval_shared/torch_*.py" in bento["exclude"]
    assert {"name": "BENTOML_DO_NOT_TRACK", "value": "True"} in bento["envs"]


def test_the_example_ads_are_answered_one_by_one(client: TestClient) -> None:
    """The demonstration's request, as a whole, through the whole service."""
    ads = [json.loads(line) for line in (ROOT / "examples" / "ads.jsonl").read_text(encoding="utf-8").splitlines()]
    results = client.post("/v1/ads:moderate", json={"items": ads}).json()["results"]
    assert [result["id"] for result in results] == [ad["id"] for ad in ads]
    assert {result["status"] for result in results} == {"ok"}
    assert [len(result["decisions"]) for result in results] == [len(ad["regions"]) for ad in ads]
