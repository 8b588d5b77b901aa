"""The serving bench: latency, throughput, memory, start-up and load of the service beside other stacks, in one run.

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

from eval.bench import branches, branches_graphs, branches_summary, load, load_summary, summary, throughput
from eval.bench.environment import ROOT
from eval.bench.machine import Machine, this_machine
from eval.bench.page import page
from eval.bench.preparation import MINILM, QUANTISED, export_peers, prepare_peers
from eval.bench.processes import Processes
from eval.bench.stacks import HTTP, STACKS, WARDLINE, Stack
from eval.bench.texts import BenchTexts, Ends, make_texts, read_ads
from eval.document import read_json
from eval.peers.measure import Figures, Job
from eval.report import ReportFiles, write_report
from retrieval_shared.bundle import BASE_WEIGHTS, TOKENIZER, Bundle, load_bundle
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
    "load_requests": (20, 20_000),
    "load_limit_s": (10, 600),
}
"""Least and greatest value of each count: a bench ends."""
GRACE_S = 20
"""Seconds a round may take longer than the longest before it; then its process is ended and the bench fails."""
DECIDING_TIMEOUT_S = 300
DECIDING = {"decisions": 100_000, "signals": {"terms": 10_000, "words": 60, "entries": 100_000, "ads": 500}}
"""Stored decisions of the backtest, and how much rules and the bank have to search."""
LOAD_GRACE_S = 120
"""Seconds that starting the service, warming up and the last answers of the load may take beyond its levels."""
LEAST_AGREEMENT = 0.999
"""Cosine of two peers' vectors of one text: they read the same weights in the same precision."""
LEAST_AGREEMENT_INT8 = 0.9
"""The same for a peer with int8 weights beside one with float32: it rounds, but reads the same texts."""
NAME = "serving"
LAYERS = ROOT / "eval" / "reports" / "layers.json"
"""What `train layers` wrote: adapters on more and fewer layers beside each other, not a measurement of the bundle."""


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
    limit_s: int = 1_200
    """Seconds after which no round starts that would not end in time; environments and load are not counted."""
    load_requests: int = 4_000
    """Requests of each level of the load."""
    load_limit_s: int = 120
    """Seconds after which a level sends no more."""
    peers: bool = True
    """Whether other stacks are measured, too."""
    load: bool = True
    """Whether the service is measured under load, too."""
    branches: bool = True
    """Whether what adapters cost is measured, too."""
    layers: Path = LAYERS
    """The comparison of numbers of adapted layers that the page shows; left out where there is none."""
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
        left_out = [f"--no-{name}" for name in ("peers", "load", "branches") if not getattr(self, name)]
        return " ".join(["python wardline.py eval serving", *given, *left_out])


def run_bench(options: BenchOptions, *, progress: Progress | None = None) -> dict[str, Any]:
    """Return the serving report.

    Makes the peers' environments first where they are missing (minutes, a download). Listens on loopback only.

    Raises:
        BundleError: the bundle is missing or damaged.
        WardlineError: a process failed or the time ran out in the first round.
        ValueError: the training ads that the texts are made of are missing.
    """
    say: Progress = progress or _silent
    bundle, machine = load_bundle(options.bundle), this_machine()
    if options.branches:  # missed now, not after all the rounds
        branches_graphs.check_graphs(branches_graphs.FOLDER, encoder=bundle.sha256(BASE_WEIGHTS))
    texts = make_texts(read_ads(), n=options.texts, seed=options.seed, ends=token_ends(bundle))
    stacks = [stack for stack in STACKS if options.peers or not stack.is_peer]
    with tempfile.TemporaryDirectory(prefix="wardline-bench-") as folder:
        pythons = prepare_peers(options.torch_index, say) if options.peers else {}
        processes = Processes(bundle=bundle.path.resolve(), folder=Path(folder), pythons=pythons)
        if options.peers:
            export_peers(processes, machine)
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
        under_load = _measure_load(options, processes, texts, say) if options.load else None
        adapters = _measure_branches(processes, texts, say) if options.branches else None
    check_peers(rounds[0], stacks)
    return build_report(
        options, rounds, deciding, under_load=under_load, adapters=adapters, stacks=stacks, texts=texts, bundle=bundle,
        machine=machine,
        took_s=took_s,
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
    """Return when the peers gave the same vectors for the same texts, those with int8 weights nearly the same.

    Raises:
        WardlineError: they did not, so at least one of them does not do the work it is measured for.
    """
    for least, allowed, whose in (
        (summary.agreement(figures, stacks), LEAST_AGREEMENT, "the peers'"),
        (summary.agreement_int8(figures, stacks), LEAST_AGREEMENT_INT8, "the int8 peers'"),
    ):
        if least is not None and least < allowed:
            raise WardlineError(f"{whose} vectors differ: cosine {least:.4f}, allowed {allowed} and up")


def job_of(options: BenchOptions, texts: BenchTexts, *, single: bool) -> Job:
    """Return what a process is told: the same texts for all."""
    return {
        "ads": list(texts.ads),
        "texts": list(texts.batch),
        "requests": options.requests if single else 0,
        "explained": options.explained,
        "minilm": str(MINILM),
        "quantised": str(QUANTISED),
    }


def build_report(
    options: BenchOptions,
    rounds: Sequence[dict[str, Figures]],
    deciding: Figures,
    *,
    under_load: Figures | None = None,
    adapters: dict[str, Any] | None = None,
    stacks: Sequence[Stack],
    texts: BenchTexts,
    bundle: Bundle,
    machine: Machine,
    took_s: float,
) -> dict[str, Any]:
    """Return the report document; everything in it is JSON once `eval.document.plain` has passed over it."""
    loaded = load_summary.summary(under_load) if under_load is not None else None
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
        "settings": _settings(options, rounds=len(rounds), took_s=took_s),
        "texts": _texts(texts),
        "targets": [
            *summary.targets(rounds, deciding),
            *throughput.targets(rounds, stacks),
            *(load_summary.targets(loaded) if loaded is not None else ()),
            *(branches_summary.targets(adapters) if adapters is not None else ()),
        ],
        "branches": adapters,
        "layers": read_json(options.layers) if options.layers.is_file() else None,
        "stacks": summary.stack_records(rounds, stacks),
        "throughput": throughput.records(rounds, stacks),
        "lead": throughput.lead(rounds, stacks),
        "ratios": summary.ratio_records(rounds, stacks),
        "overhead": summary.overhead(rounds),
        "evidence": [summary.evidence(rounds, key) for key in (HTTP, WARDLINE)],
        "deciding": summary.deciding(deciding),
        "load": loaded,
        "connections": max(int(each[HTTP]["connections"]) for each in rounds),
        "peers_agree": summary.agreement(rounds[0], stacks),
        "peers_agree_int8": summary.agreement_int8(rounds[0], stacks),
    }


def _settings(options: BenchOptions, *, rounds: int, took_s: float) -> dict[str, Any]:
    """Return how the rounds were measured."""
    return {
        "threads": 1,
        "workers": 1,
        "clients": 1,
        "requests": options.requests,
        "explained": options.explained,
        "rounds": rounds,
        "rounds_wanted": options.rounds,
        "took_s": took_s,
    }


def _texts(texts: BenchTexts) -> dict[str, Any]:
    """Return what was read, the lengths of the batch in characters."""
    lengths = sorted(len(text) for text in texts.batch)
    characters = {"median": lengths[len(lengths) // 2], "max": lengths[-1], "sum": sum(lengths)}
    return {"digest": texts.digest, "ads": len(texts.ads), "characters": characters}


def write_bench(report: dict[str, Any], folder: Path) -> ReportFiles:
    """Write `serving.json` and `serving.html` into `folder` and return where they are."""
    return write_report(report, folder, name=NAME, draw=page)


def token_ends(bundle: Bundle) -> Ends:
    """Return the function that says where the bundle's tokens end in a text, special tokens left out."""
    tokenizer: Tokenizer = Tokenizer.from_file(str(bundle.file(TOKENIZER)))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return lambda text: [end for _, end in tokenizer.encode(text, add_special_tokens=False).offsets]


def _measure_load(options: BenchOptions, processes: Processes, texts: BenchTexts, progress: Progress) -> Figures:
    progress("under load", 0, 1)
    job = {
        "ads": list(texts.ads),
        "requests": options.load_requests,
        "limit_s": options.load_limit_s,
        "seed": options.seed,
    }
    timeout_s = load.LEVELS * (options.load_limit_s + LOAD_GRACE_S)
    figures = processes.measure_load(job, workers=load.WORKERS, timeout_s=timeout_s)
    progress("under load", 1, 1)
    return figures


def _measure_branches(processes: Processes, texts: BenchTexts, progress: Progress) -> dict[str, Any]:
    progress("adapters", 0, len(branches.MODULES))
    job = branches.job_of(texts.ads, texts.batch, bundle=processes.bundle)
    figures, peft = (processes.run(module, job, timeout_s=branches.TIMEOUT_S) for module in branches.MODULES)
    progress("adapters", len(branches.MODULES), len(branches.MODULES))
    return branches_summary.summarise(figures, peft)


def _silent(_what: str, _done: int, _total: int) -> None:
    return
