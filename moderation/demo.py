"""The demonstration: starts the service, sends it the example ads, shows what it decided, and stops it again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from moderation.review.export import export_reviews
from moderation.review.store import Store
from retrieval_shared.errors import WardlineError
from retrieval_shared.records import read_records

ROOT = Path(__file__).resolve().parent.parent
ADS = ROOT / "examples" / "ads.jsonl"
FOLDER = Path("var") / "demo"
HOST = "127.0.0.1"
READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 15.0
COLOURS = {"approve": "green", "limit": "yellow", "escalate": "magenta", "reject": "red"}
_SHOWN_POLICIES = 3
_SHOWN_CHARACTERS = 44
_LOG_LINES = 12


class DemoError(WardlineError):
    """Why the demonstration could not be given, in words for the person at the terminal."""


def run_demo(*, port: int = 3000) -> None:
    """Gives the demonstration on the loopback port and returns when the service has stopped.

    Raises:
        SystemExit: with 1 when it could not be given, with 130 when it was broken off; the service is stopped first.
    """
    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else 120)
    try:
        with _terminated_as_interrupted():
            _demonstrate(console, port=port)
    except KeyboardInterrupt:
        console.print("broken off; the service is stopped")
        raise SystemExit(130) from None
    except DemoError as error:
        console.print(f"[red]The demo cannot go on:[/] {escape(str(error))}", soft_wrap=True)
        raise SystemExit(1) from error


def _demonstrate(console: Console, *, port: int) -> None:
    check_port(port)
    ads = list(read_records(ADS))
    folder = ROOT / FOLDER
    database = fresh_database(folder)
    url, log = f"http://{HOST}:{port}", folder / "service.log"
    with running(service_command(port), environment=service_environment(folder, database), log=log) as process:
        with console.status(f"Starting the service on {url} (log: {FOLDER / log.name})"):
            readiness = wait_until_ready(process, url=url, log=log)
        for warning in readiness.get("warnings", ()):
            console.print(f"[yellow]warning:[/] {escape(warning)}")
        with console.status(f"Sending {len(ads)} ads"):
            answer = send(url, ads)
    console.print(decision_table(ads, answer["results"]))
    console.print(summary(answer["results"]))
    with closing(Store(database)) as store:
        filed = export_reviews(store, folder / "reviews.csv", format="csv")
    console.print(f"{filed} decisions wait for a person; the review queue is in {FOLDER / 'reviews.csv'}")


# ---- what is shown


def decision_table(ads: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]]) -> Table:
    """A row per ad: its title, language, each region's action, the policies touched, a piece of evidence."""
    table = Table(title="What Wardline decided", show_lines=True, title_justify="left")
    table.add_column("ad", max_width=34)
    table.add_column("language")
    for name, width in (("per region", 22), ("policies", 24), ("evidence", 30)):
        table.add_column(name, max_width=width)
    for ad, result in zip(ads, results, strict=True):
        table.add_row(Text(printable(_headline(ad))), *_cells(result))
    return table


def _headline(ad: Mapping[str, Any]) -> str:
    fields = ad["fields"]
    return f"{ad['id']}: {next((text for text in fields.values() if text.strip()), '')}"


def _cells(result: Mapping[str, Any]) -> tuple[Text, Text, Text, Text]:
    if result["status"] == "error":
        return Text("-"), Text(f"error: {result['error']['code']}", "red"), Text("-"), Text("-")
    language = result["language"] or {"code": "und", "supported": False}
    regions = [
        Text(f"{decision['region']} ").append(decision["action"], COLOURS[decision["action"]])
        for decision in result["decisions"]
    ]
    return (
        Text(language["code"] if language["supported"] else f"{language['code']} (unsupported)"),
        Text("\n").join(regions),
        Text("\n".join(_policies(result)) or "-"),
        Text(_evidence(result) or "-"),
    )


def _policies(result: Mapping[str, Any]) -> list[str]:
    highest: dict[str, float] = {}
    for decision in result["decisions"]:
        for entry in decision["entries"]:
            highest[entry["policy"]] = max(entry["probability"], highest.get(entry["policy"], 0.0))
    ranked = sorted(highest.items(), key=lambda item: -item[1])
    more = [f"and {len(ranked) - _SHOWN_POLICIES} more"] if len(ranked) > _SHOWN_POLICIES else []
    return [f"{policy} {probability:.2f}" for policy, probability in ranked[:_SHOWN_POLICIES]] + more


def _evidence(result: Mapping[str, Any]) -> str:
    parts = [part for decision in result["decisions"] for entry in decision["entries"] for part in entry["evidence"]]
    if not parts:
        return ""
    best = max(parts, key=lambda part: float(part["weight"]))
    return f"{best['field']}: “{printable(best['text'])}”"


def printable(text: str) -> str:
    """The text in one line and not too long, without what a terminal obeys or cannot show (category C)."""
    shown = "".join(c for c in " ".join(text.split()) if not unicodedata.category(c).startswith("C"))
    return shown if len(shown) <= _SHOWN_CHARACTERS else shown[: _SHOWN_CHARACTERS - 1] + "…"


def summary(results: Sequence[Mapping[str, Any]]) -> Text:
    """One line: how many ads, and how many decisions of each kind."""
    actions = Counter(decision["action"] for result in results for decision in result.get("decisions", ()))
    failed = sum(result["status"] == "error" for result in results)
    line = Text(f"{len(results)} ads, {actions.total()} decisions: ")
    line.append_text(Text(", ").join([Text(f"{actions[name]} {name}", colour) for name, colour in COLOURS.items()]))
    return line.append(f"; {failed} ads could not be read") if failed else line


# ---- the service that is started


def check_port(port: int) -> None:
    """Returns when the port is free on loopback.

    Raises:
        DemoError: it is in use.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise DemoError(
                f"port {port} on {HOST} is in use ({error.strerror}); name another: make demo PORT={port % 65535 + 1}"
            ) from error


def fresh_database(folder: Path) -> str:
    """The URL of an empty database in `folder`; what an earlier demonstration left there is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("wardline.db*"):
        left.unlink()
    return f"sqlite:///{folder / 'wardline.db'}"


def service_command(port: int) -> list[str]:
    """The command that serves the front door on loopback."""
    return [
        *(sys.executable, "-m", "bentoml", "serve", "service:Wardline"),
        *("--working-dir", str(ROOT), "--host", HOST, "--port", str(port)),
    ]


def service_environment(folder: Path, database: str) -> dict[str, str]:
    """The environment of the service: database, adapters and a BentoML home of its own, no keys, example texts kept."""
    kept = {name: value for name, value in os.environ.items() if name not in {"WARDLINE_KEYS", "BENTOML_CONFIG"}}
    return kept | {
        # A home of its own: BentoML empties the metrics folder in its home at each start, another service's too.
        "BENTOML_HOME": str(folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "WARDLINE_ADAPTERS": str(folder / "adapters"),
        "WARDLINE_DATABASE": database,
        "WARDLINE_KEEP_TEXT": "1",
    }


@contextmanager
def running(command: Sequence[str], *, environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command for the length of the block, its output in `log`; it and its children never outlive the block."""
    with log.open("wb") as output:
        # A session of its own: Ctrl-C at the terminal reaches this process alone, which then stops the service.
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield process
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    family: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    process.terminate()
    _, alive = psutil.wait_procs(family, timeout=STOP_TIMEOUT_S)
    for member in alive:
        member.kill()
    process.wait()


def wait_until_ready(process: subprocess.Popen[bytes], *, url: str, log: Path) -> dict[str, Any]:
    """What the service says of itself once it is ready.

    Raises:
        DemoError: it ended, or did not become ready in time; the message holds the end of its log.
    """
    deadline = time.monotonic() + READY_TIMEOUT_S
    with httpx.Client(base_url=url, timeout=2.0, trust_env=False) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise DemoError(f"the service ended with code {process.returncode}\n{_tail(log)}")
            try:
                answer = client.get("/readyz")
            except httpx.TransportError:
                time.sleep(0.1)
                continue
            if answer.status_code == 200:
                readiness: dict[str, Any] = answer.json()
                return readiness
            time.sleep(0.1)
    raise DemoError(f"the service is not ready after {READY_TIMEOUT_S:.0f} s\n{_tail(log)}")


def send(url: str, ads: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The service's answer to the ads.

    Raises:
        DemoError: it refused the request or could not be reached.
    """
    try:
        with httpx.Client(base_url=url, timeout=READY_TIMEOUT_S, trust_env=False) as client:
            response = client.post("/v1/ads:moderate", json={"items": ads})
    except httpx.TransportError as error:
        raise DemoError(f"the service cannot be reached: {error}") from error
    if response.status_code != 200:
        raise DemoError(f"the service answered {response.status_code}: {response.text[:500]}")
    answer: dict[str, Any] = response.json()
    return answer


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-_LOG_LINES:])


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Lets a termination signal end the block as Ctrl-C does, so that nothing it started is left behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
