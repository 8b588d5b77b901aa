"""The serving bench: latency, throughput, memory and start-up of the service beside other stacks, in one bounded run.

Every stack is a process of its own on one thread; rounds interleave them (A B C A B C ...), so that a machine that gets
slower gets slower for all. Figures are medians over rounds with the least and the greatest; ratios are taken
within rounds.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from eval.bench import summary
from eval.bench.environment import FOLDER, prepare
from eval.bench.machine import Machine, this_machine
from eval.bench.page import page
from eval.bench.processes import Processes
from eval.bench.stacks import HTTP, STACKS, WARDLINE, Stack
from eval.bench.texts import BenchTexts, Ends, make_texts, read_ads
from eval.peers.measure import Figures, Job
from eval.peers.minilm import GRAPH
from eval.report import ReportFiles, write_report
from retrieval_shared.bundle import TOKENIZER, Bundle, load_bundle
from retrieval_shared.errors import WardlineError

Progress = Callable[[str, int, int], None]
"""Called with what is measured, how many rounds of it are done, and how many there are."""
Measure = Callable[[Stack, Job, float], Figures]
"""Measures one stack within so many seconds."""

BOUNDS = {
    "texts": (8, 2_048),
    "requests": (10, 2_000),
    "explained": (10, 2_000),
    "rounds": (1, 9),
    "limit_s": (30, 1_800),
}
"""Least and greatest value of each count: a bench ends."""
MINILM = FOLDER / "minilm"
GRACE_S = 20
"""Seconds a round may take longer than the longest before it; then its process is ended and the bench fails."""
EXPORT_TIMEOUT_S = 900
DECIDING_TIMEOUT_S = 300
DECIDING = {"decisions": 100_000, "signals": {"terms": 10_000, "words": 60, "entries": 100_000, "ads": 500}}
"""Stored decisions of the backtest, and how much rules and the bank have to search."""
LEAST_AGREEMENT = 0.999
"""Cosine of two peers' vectors of one text: they read the same weights in the same precision."""
NAME = "serving"


@dataclass(frozen=True)
class BenchOptions:
    """How much is measured.

    Raises:
        ValueError: a count is outside `BOUNDS`, or the seed is negative.
    """

    bundle: Path | None = None
    """Folder of the bundle; None is the shipped one."""
    seed: int = 13
    """Of the texts."""
    texts: int = 512
    """Texts of the batch."""
    requests: int = 200
    """Single texts per stack and round."""
    explained: int = 100
    """Single texts with evidence, per round."""
    rounds: int = 3
    """Rounds, unless the time runs out before."""
    limit_s: int = 340
    """Seconds after which no round starts that would not end in time; making the peers' environment is not counted."""
    peers: bool = True
    """Whether other stacks are measured, too."""
    torch_index: str | None = None
    """Index to install the peers' torch from; None: pip's own."""

    def __post_init__(self) -> None:
        """Checks every count."""
        for name, (low, high) in BOUNDS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name}: found {value}, allowed {low} to {high}")
        if self.seed < 0:
            raise ValueError(f"seed: found {self.seed}, allowed 0 and up")

    @property
    def command(self) -> str:
        """Return the command line that measures this again; no bundle path, which says nothing elsewhere."""
        given = [
            f"--{field.name.replace('_', '-')} {getattr(self, field.name)}"
            for field in dataclasses.fields(self)
            if field.name in {*BOUNDS, "seed"} and getattr(self, field.name) != field.default
        ]
        return " ".join(["python wardline.py eval serving", *given, *([] if self.peers else ["--no-peers"])])


def run_bench(options: BenchOptions, *, progress: Progress | None = None) -> dict[str, Any]:
    """Return the serving report.

    Makes the peers' environment first where it is missing (minutes, a download). Listens on loopback only.

    Raises:
        BundleError: the bundle is missing or damaged.
        WardlineError: a process failed or the time ran out in the first round.
        ValueError: the training ads that the texts are made of are missing.
    """
    say: Progress = progress or _silent
    bundle, machine = load_bundle(options.bundle), this_machine()
    texts = make_texts(read_ads(), n=options.texts, seed=options.seed, ends=token_ends(bundle))
    stacks = [stack for stack in STACKS if options.peers or not stack.is_peer]
    with tempfile.TemporaryDirectory(prefix="wardline-bench-") as folder:
        python = _prepare_peers(options, say) if options.peers else None
        processes = Processes(bundle=bundle.path.resolve(), peers_python=python, folder=Path(folder))
        if options.peers and not (MINILM / GRAPH).is_file():
            processes.run("eval.peers.minilm", {"out": str(MINILM)}, timeout_s=EXPORT_TIMEOUT_S, peer=True)
        start = time.monotonic()
        rounds = measure_rounds(options, texts, stacks=stacks, measure=processes.measure, progress=say)
        took_s = time.monotonic() - start
        say("deciding", 0, 1)
        deciding = processes.run(
            "eval.bench.deciding",
            {**job_of(options, texts, single=True), **DECIDING, "bundle": str(processes.bundle),
             "database": f"sqlite:///{folder}/deciding.db"},
            timeout_s=DECIDING_TIMEOUT_S,
        )  # fmt: skip
        say("deciding", 1, 1)
    check_peers(rounds[0], stacks)
    return build_report(
        options, rounds, deciding, stacks=stacks, texts=texts, bundle=bundle, machine=machine, took_s=took_s
    )  # fmt: skip


def measure_rounds(
    options: BenchOptions,
    texts: BenchTexts,
    *,
    stacks: Sequence[Stack],
    measure: Measure,
    progress: Progress,
    clock: Callable[[], float] = time.monotonic,
) -> list[dict[str, Figures]]:
    """Return the figures of each round, every stack once per round in the same order.

    A round starts only when the longest one so far still fits into `options.limit_s`; the first always starts.
    """
    start, longest = clock(), 0.0
    rounds: list[dict[str, Figures]] = []
    while len(rounds) < options.rounds and clock() - start + longest <= options.limit_s:
        began = clock()
        figures: dict[str, Figures] = {}
        for stack in stacks:
            progress(stack.title, len(rounds), options.rounds)
            left = options.limit_s + GRACE_S - (clock() - start)
            figures[stack.key] = measure(stack, job_of(options, texts, single=stack.single), left)
            progress(stack.title, len(rounds) + 1, options.rounds)
        rounds.append(figures)
        longest = max(longest, clock() - began)
    return rounds


def check_peers(figures: dict[str, Figures], stacks: Sequence[Stack]) -> None:
    """Return when the peers gave the same vectors for the same texts.

    Raises:
        WardlineError: they did not, so at least one of them does not do the work it is measured for.
    """
    least = summary.agreement(figures, stacks)
    if least is not None and least < LEAST_AGREEMENT:
        raise WardlineError(f"the peers' vectors differ: cosine {least:.4f}, allowed {LEAST_AGREEMENT} and up")


def job_of(options: BenchOptions, texts: BenchTexts, *, single: bool) -> Job:
    """Return what a process is told: the same texts for all."""
    return {
        "ads": list(texts.ads),
        "texts": list(texts.batch),
        "requests": options.requests if single else 0,
        "explained": options.explained,
        "minilm": str(MINILM),
    }


def build_report(
    options: BenchOptions,
    rounds: Sequence[dict[str, Figures]],
    deciding: Figures,
    *,
    stacks: Sequence[Stack],
    texts: BenchTexts,
    bundle: Bundle,
    machine: Machine,
    took_s: float,
) -> dict[str, Any]:
    """Return the report document; everything in it is JSON once `eval.document.plain` has passed over it."""
    lengths = sorted(len(text) for text in texts.batch)
    return {
        "title": "Wardline: serving",
        "created": datetime.now(UTC).date().isoformat(),
        "command": options.command,
        "seed": options.seed,
        "n": len(texts.batch),
        "bundle": {
            "name": f"{bundle.manifest.name}@{bundle.manifest.version}",
            "digest": bundle.manifest.digest,
            "versions": rounds[0][WARDLINE].get("bundle_versions", {}),
        },
        "machine": machine,
        "settings": {
            "threads": 1,
            "workers": 1,
            "clients": 1,
            "requests": options.requests,
            "explained": options.explained,
            "rounds": len(rounds),
            "rounds_wanted": options.rounds,
            "took_s": took_s,
        },
        "texts": {
            "digest": texts.digest,
            "ads": len(texts.ads),
            "characters": {"median": lengths[len(lengths) // 2], "max": lengths[-1], "sum": sum(lengths)},
        },
        "targets": summary.targets(rounds, deciding),
        "stacks": summary.stack_records(rounds, stacks),
        "ratios": summary.ratio_records(rounds, stacks),
        "overhead": summary.overhead(rounds),
        "evidence": [summary.evidence(rounds, key) for key in (HTTP, WARDLINE)],
        "deciding": summary.deciding(deciding),
        "connections": max(int(each[HTTP]["connections"]) for each in rounds),
        "peers_agree": summary.agreement(rounds[0], stacks),
    }


def write_bench(report: dict[str, Any], folder: Path) -> ReportFiles:
    """Write `serving.json` and `serving.html` into `folder` and return where they are."""
    return write_report(report, folder, name=NAME, draw=page)


def token_ends(bundle: Bundle) -> Ends:
    """Return the function that says where the bundle's tokens end in a text, special tokens left out."""
    tokenizer: Tokenizer = Tokenizer.from_file(str(bundle.file(TOKENIZER)))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return lambda text: [end for _, end in tokenizer.encode(text, add_special_tokens=False).offsets]


def _prepare_peers(options: BenchOptions, progress: Progress) -> Path:
    progress("the peers' environment", 0, 1)
    python = prepare(torch_index=options.torch_index)
    progress("the peers' environment", 1, 1)
    return python


def _silent(_what: str, _done: int, _total: int) -> None:
    return
