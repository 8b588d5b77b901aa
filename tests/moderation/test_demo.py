"""The demonstration: the table it draws, and that the service it starts is always stopped."""

from __future__ import annotations

import io
import json
import signal
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from moderation import demo
from moderation.demo import DemoError, check_port, decision_table, printable, running, summary, wait_until_ready
from moderation.schema import parse_item

# A stand-in for the service: answers /readyz and the moderation route, and has a child as BentoML has workers.
SERVICE = """
import http.server, json, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def reply(self, answer):
        body = json.dumps(answer).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.reply({"status": "ready", "warnings": ["the probe differs"], "child": child.pid})
    def do_POST(self):
        items = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["items"]
        self.reply({"results": [{"id": item["id"], "status": "error", "error": {"code": "stub"}} for item in items]})
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def entry(policy: str, probability: float, *evidence: dict[str, Any]) -> dict[str, Any]:
    """An entry as the service answers it, cut down to what is shown."""
    return {"policy": policy, "probability": probability, "evidence": list(evidence)}


def result(*decisions: tuple[str, str, list[dict[str, Any]]], supported: bool = True) -> dict[str, Any]:
    """A result as the service answers it, cut down to what is shown."""
    regions = [{"region": region, "action": action, "entries": entries} for region, action, entries in decisions]
    return {"status": "ok", "language": {"code": "de", "supported": supported}, "decisions": regions}


def ad(title: str, identifier: str = "a") -> dict[str, Any]:
    """An example ad."""
    return {"id": identifier, "fields": {"title": title}, "regions": ["DE"]}


def drawn(ads: list[dict[str, Any]], results: list[dict[str, Any]]) -> str:
    """The table as text, wide enough not to wrap."""
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(decision_table(ads, results))
    return console.export_text()


@pytest.fixture
def port() -> Iterator[int]:
    """A free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
    yield number


def test_the_table_shows_title_language_actions_policies_and_the_strongest_evidence() -> None:
    """One row; a policy touched in two regions is shown once, with its highest probability."""
    weak = {"field": "title", "text": "Bier", "weight": 0.1}
    strong = {"field": "body", "text": "Freibier", "weight": 0.9}
    hit = [entry("alcohol_tobacco", 0.91, weak), entry("scam", 0.4)]
    text = drawn(
        [ad("Bier [bold]")], [result(("DE", "limit", hit), ("AE", "reject", [entry("alcohol_tobacco", 0.93, strong)]))]
    )
    for shown in (
        "a: Bier [bold]",
        "de",
        "DE limit",
        "AE reject",
        "alcohol_tobacco 0.93",
        "scam 0.40",
        "body: “Freibier”",
    ):
        assert shown in text
    assert "0.91" not in text
    assert "“Bier”" not in text


def test_the_table_says_what_it_leaves_out_and_what_went_wrong() -> None:
    """More than three policies are counted; an unsupported language and an item's error are named."""
    many = [entry(f"policy{i}", i / 10) for i in range(5)]
    failed = {"status": "error", "error": {"code": "empty_text"}}
    text = drawn([ad("x"), ad("", "b")], [result(("DE", "reject", many), supported=False), failed])
    for shown in ("policy4 0.40", "policy2 0.20", "and 2 more", "de (unsupported)", "error: empty_text"):
        assert shown in text
    assert "policy1" not in text


def test_the_summary_counts_ads_and_decisions() -> None:
    """Actions without a decision are shown as 0; unreadable ads are told."""
    results = [result(("DE", "approve", []), ("AE", "reject", [])), result(("DE", "approve", []))]
    assert summary(results).plain == "2 ads, 3 decisions: 2 approve, 0 limit, 0 escalate, 1 reject"
    assert summary([{"status": "error"}]).plain.endswith("0 reject; 1 ads could not be read")


def test_what_is_printed_cannot_steer_the_terminal() -> None:
    """Escape sequences, zero-width and bidi controls are dropped, lines joined, long text cut."""
    assert printable("a\x1b[31mb\u200bc\u202ed\ne") == "a[31mbcd e"
    assert printable("x" * 100) == "x" * 43 + "…"


def test_the_example_ads_are_valid_varied_and_distinct() -> None:
    """30 ads that the service accepts, half English, at least 12 languages' worth, several regions."""
    ads = [json.loads(line) for line in demo.ADS.read_text(encoding="utf-8").splitlines()]
    assert len(ads) == 30
    assert [parse_item(ad).error for ad in ads] == [None] * 30
    assert max(Counter(ad["id"] for ad in ads).values()) == 1
    assert max(Counter(ad["fields"]["title"] for ad in ads).values()) == 1
    assert len({region for ad in ads for region in ad["regions"]}) >= 9
    assert sum(len(ad["regions"]) > 1 for ad in ads) >= 15


def test_a_port_in_use_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback, exit code 1, and the next port as the way out."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit) as end:
            demo.run_demo(port=port)
    assert end.value.code == 1
    assert f"port {port} on 127.0.0.1 is in use" in capsys.readouterr().out
    check_port(port)


def test_the_service_and_its_children_never_outlive_the_block(port: int, tmp_path: Path) -> None:
    """Also when the block is broken off as by Ctrl-C."""
    log, url = tmp_path / "service.log", f"http://127.0.0.1:{port}"
    command = [sys.executable, "-c", SERVICE, str(port)]
    with pytest.raises(KeyboardInterrupt), running(command, environment={}, log=log) as process:  # noqa: PT012
        readiness = wait_until_ready(process, url=url, log=log)
        raise KeyboardInterrupt
    assert readiness["status"] == "ready"
    for pid in (process.pid, readiness["child"]):
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_service_that_does_not_start_is_told_with_the_end_of_its_log(port: int, tmp_path: Path) -> None:
    """The reason stands in the message; nobody has to look for a log."""
    log = tmp_path / "service.log"
    command = [sys.executable, "-c", "import sys; sys.exit('Wardline cannot start: encoder.onnx has another hash')"]
    with pytest.raises(DemoError) as error, running(command, environment={}, log=log) as process:
        wait_until_ready(process, url=f"http://127.0.0.1:{port}", log=log)
    assert "ended with code 1" in str(error.value)
    assert "encoder.onnx has another hash" in str(error.value)


def test_the_whole_demonstration_with_a_service_that_stands_in(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every ad is sent, the table is drawn, the queue exported; the termination signal's handler is put back."""
    monkeypatch.setattr(demo, "FOLDER", tmp_path)
    monkeypatch.setattr(demo, "service_command", lambda number: [sys.executable, "-c", SERVICE, str(number)])
    before = signal.getsignal(signal.SIGTERM)
    (tmp_path / "wardline.db-wal").write_text("left over")
    demo.run_demo(port=port)
    assert signal.getsignal(signal.SIGTERM) is before
    shown = capsys.readouterr().out
    assert "the probe differs" in shown
    assert "30 ads could not be read" in shown
    assert "0 decisions wait for a person" in shown
    assert (tmp_path / "reviews.csv").is_file()
    check_port(port)


def test_the_service_of_the_demonstration_is_apart_from_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own database and BentoML home, no keys, loopback only, nothing sent home."""
    monkeypatch.setenv("WARDLINE_KEYS", "keys.yaml")
    environment = demo.service_environment(tmp_path, "sqlite:///x.db")
    assert "WARDLINE_KEYS" not in environment
    assert environment["BENTOML_HOME"] == str(tmp_path / "bentoml")
    assert environment["WARDLINE_ADAPTERS"] == str(tmp_path / "adapters")
    assert (environment["WARDLINE_DATABASE"], environment["BENTOML_DO_NOT_TRACK"]) == ("sqlite:///x.db", "True")
    command = demo.service_command(3017)
    assert command[-4:] == ["--host", "127.0.0.1", "--port", "3017"]
