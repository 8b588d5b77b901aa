from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from eval import serving
from eval.bench.machine import Machine
from eval.bench.stacks import HTTP, STACKS, WARDLINE, Stack
from eval.bench.texts import BenchTexts
from eval.document import plain, write_json
from eval.serving import (
    GRACE_S,
    LOAD_GRACE_S,
    BenchOptions,
    build_report,
    check_peers,
    job_of,
    measure_rounds,
    run_bench,
    token_ends,
    write_bench,
)
from retrieval_shared.errors import BundleError, WardlineError

if TYPE_CHECKING:
    from retrieval_shared.bundle import Bundle

TEXTS = BenchTexts(ads=("one ad", "another"), batch=("some", "more", "texts"))
MACHINE = Machine("Some Processor", 2, ("avx2",), 24.0, "Linux x86_64", "3.11.7", None)


DECIDING = {
    "model_ms": [8.0, 9.0, 10.0],
    "policy_ms": [0.01, 0.02, 0.03],
    "regions": 10,
    "signals": {"compile_ms": 90.0, "terms_ms": 0.25, "patterns_ms": 0.5, "signature_ms": 1.0, "alike_ms": 2.0},
    "backtest": {"decisions": 100_000, "flips": 0, "wall_s": 6.0, "cpu_s": 5.0},
}


LOAD = {
    "levels": [
        {"key": key, "clients": 8, "wanted": len(late), "sent": len(late), "requests_per_s": 50.0,
         "outcomes": {"ok": 10, "status 503": len(late) - 10}, "latency_ms": [20.0] * 10, "late_ms": late,
         "client_cpu_ms": 0.4, "reopened": 0, "meanwhile": meanwhile, "swap": swap}
        for key, late, meanwhile, swap in (
            ("closed-8", [0.0] * 10, None, None),
            ("open", [0.0] * 11, None, None),
            ("open-meanwhile", [0.0] * 10, {"took_s": 0.5, "requests": 2, "latency_ms": [20.0] * 2},
             {"slot": "region:US", "version": "ab12", "instead_of": None, "workers": 2, "added_s": 0.3,
              "removed_s": 0.2}),
        )
    ],
    "capacity": 50.0,
    "rate": 35.0,
    "as_opened": {"8": [5, 3]},
    "memory_mb": {"loaded": [340.0, 341.0], "after": [360.0, 361.0]},
}  # fmt: skip


class Clock:
    """Stands still unless told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def figures(stack: Stack, job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "latency_ms": [5.0] * job["requests"],
        "batch": {"texts": len(job["texts"]), "wall_s": 0.5, "cpu_s": None if stack.key == HTTP else 0.4},
        "memory_mb": {"loaded": 150.0, "after": 200.0},
        "ready_s": 3.0,
        "vectors": [[0.6, 0.8]] if stack.is_peer else None,
    }
    if not stack.is_peer:
        found |= {"spans_ms": [9.0] * 10, "flagged": [True, False], "answer_ms": [5.0] * 10, "connections": 1}
    return found


def measuring(clock: Clock, *, takes_s: float = 0.0) -> tuple[list[str], Callable[..., dict[str, Any]]]:
    order: list[str] = []

    def measure(stack: Stack, job: dict[str, Any], _left: float) -> dict[str, Any]:
        order.append(stack.key)
        clock.now += takes_s
        return figures(stack, job)

    return order, measure


def rounds_of(options: BenchOptions, *, takes_s: float = 0.0) -> tuple[list[str], list[dict[str, Any]]]:
    clock = Clock()
    order, measure = measuring(clock, takes_s=takes_s)
    rounds = measure_rounds(options, TEXTS, stacks=STACKS, measure=measure, progress=lambda *_: None, clock=clock)
    return order, rounds


def report_of(options: BenchOptions, under_load: dict[str, Any] | None = None) -> dict[str, Any]:
    bundle: Any = SimpleNamespace(manifest=SimpleNamespace(name="tiny", version="1", digest="ab" * 32))
    _, rounds = rounds_of(options)
    return build_report(
        options, rounds, DECIDING, under_load=under_load, stacks=STACKS, texts=TEXTS, bundle=bundle, machine=MACHINE,
        took_s=12.0,
    )  # fmt: skip


def test_rounds_interleave_the_stacks() -> None:
    order, rounds = rounds_of(BenchOptions(rounds=2))
    keys = [stack.key for stack in STACKS]
    assert order == keys + keys
    assert len(rounds) == 2


def test_a_round_that_would_not_end_in_time_does_not_start() -> None:
    """With 20 s a stack, two and a half rounds of all stacks leave no time for a third."""
    limit_s = int(2.5 * 20 * len(STACKS))
    _, rounds = rounds_of(BenchOptions(rounds=9, limit_s=limit_s), takes_s=20.0)
    assert len(rounds) == 2


def test_the_first_round_always_starts_and_processes_are_told_what_is_left() -> None:
    given: list[float] = []
    clock = Clock()

    def measure(stack: Stack, job: dict[str, Any], left: float) -> dict[str, Any]:
        given.append(left)
        clock.now += 10.0
        return figures(stack, job)

    measure_rounds(
        BenchOptions(limit_s=30), TEXTS, stacks=STACKS[:2], measure=measure, progress=lambda *_: None, clock=clock
    )
    assert given == [30.0 + GRACE_S, 20.0 + GRACE_S]


def test_progress_counts_the_rounds_of_each_stack() -> None:
    seen: list[tuple[str, int, int]] = []
    _, measure = measuring(Clock())
    measure_rounds(
        BenchOptions(rounds=2),
        TEXTS,
        stacks=STACKS[:1],
        measure=measure,
        progress=lambda *call: seen.append(call),
        clock=Clock(),
    )
    assert [call[1:] for call in seen] == [(0, 2), (1, 2), (1, 2), (2, 2)]


def test_every_stack_gets_the_same_texts_and_a_batch_only_stack_no_single_ones() -> None:
    options = BenchOptions()
    single, batch_only = job_of(options, TEXTS, single=True), job_of(options, TEXTS, single=False)
    assert single["texts"] == batch_only["texts"] == ["some", "more", "texts"]
    assert (single["requests"], batch_only["requests"]) == (200, 0)


def test_the_report_says_what_was_measured_where_and_on_what() -> None:
    report = plain(report_of(BenchOptions(rounds=2)))
    assert report["command"] == "python wardline.py eval serving --rounds 2"
    assert (report["n"], report["seed"]) == (3, 13)
    assert report["bundle"]["digest"] == "ab" * 32
    assert report["machine"]["processor"] == "Some Processor"
    assert report["settings"]["threads"] == 1
    assert [stack["key"] for stack in report["stacks"]] == [stack.key for stack in STACKS]
    assert {target["unit"] for target in report["targets"]} == {"ms", "MB", "s", "x"}
    assert report["load"] is None
    assert report["lead"]["rounds"] == [1.0, 1.0]
    assert report["peers_agree_int8"] == 1.0
    assert set(report["stacks"][0]["figures"]["p50_ms"]) == {"median", "min", "max", "rounds"}
    assert report["peers_agree"] == 1.0
    assert (report["deciding"]["model_ms"], report["deciding"]["policy_ms"]) == (9.0, 0.02)
    assert [part["stack"] for part in report["evidence"]] == [HTTP, WARDLINE]


def test_the_report_is_written_as_json_and_as_a_page_with_every_section(tmp_path: Path) -> None:
    files = write_bench(report_of(BenchOptions(rounds=2)), tmp_path / "reports")
    assert json.loads(files.json.read_text(encoding="utf-8"))["title"] == "Wardline: serving"
    html = files.html.read_text(encoding="utf-8")
    assert "Deciding beside the model" in html
    for heading in ("Every stack", "Ours over theirs", "One ad", "How it was measured", "built to stay within"):
        assert heading in html
    assert "Some Processor" in html
    assert sorted(path.name for path in files.html.parent.iterdir()) == ["serving.html", "serving.json"]


def test_the_load_is_in_the_report_with_its_targets_and_on_the_page(tmp_path: Path) -> None:
    report = report_of(BenchOptions(rounds=1), under_load=LOAD)
    assert (report["load"]["requests"], report["load"]["errors"]) == (31, 1)
    met = {target.name: target.met for target in report["targets"]}
    assert met["p99 under open load, 70% of the capacity"]
    assert not met["errors in 31 requests under load"]
    html = write_bench(report, tmp_path).html.read_text(encoding="utf-8")
    for told in ("Under load", "Throughput beside the peers", "at least 1 x", "at most 100 ms", "status 503: 1"):
        assert told in html
    assert "region:US@ab12 was added and removed again" in html


def test_the_load_is_given_time_for_each_of_its_levels() -> None:
    """Three closed loops and two open ones."""
    processes: Any = SimpleNamespace(measure_load=lambda job, **more: {"job": job, **more})
    options = BenchOptions(load_requests=50, load_limit_s=10)
    found = serving._measure_load(options, processes, TEXTS, lambda *_: None)
    assert found["job"] == {"ads": ["one ad", "another"], "requests": 50, "limit_s": 10, "seed": 13}
    assert (found["workers"], found["timeout_s"]) == (2, 5 * (10 + LOAD_GRACE_S))


def test_a_comparison_of_adapted_layers_is_taken_along_where_there_is_one(tmp_path: Path) -> None:
    compared = {
        "command": "train layers", "seed": 13, "rank": 8, "n": {"sample": 70, "held_out": 30},
        "layers": [
            {"layers": 2, **{side: {"macro_ap": 0.625, "low": 0.5, "high": 0.75} for side in ("ads", "public")}}
        ],
    }  # fmt: skip
    write_json(tmp_path / "layers.json", compared)
    report = report_of(BenchOptions(rounds=1, layers=tmp_path / "layers.json"))
    assert report["layers"] == compared
    (tmp_path / "layers.json").unlink()  # the page is of the document alone
    assert "<td>2</td><td>.625, 95% .50 to .75</td>" in write_bench(report, tmp_path).html.read_text(encoding="utf-8")
    assert report_of(BenchOptions(rounds=1, layers=tmp_path / "layers.json"))["layers"] is None


def test_peers_that_disagree_are_not_published() -> None:
    _, (figures,) = rounds_of(BenchOptions(rounds=1))
    check_peers(figures, STACKS)
    figures["sentence_transformers"]["vectors"] = [[0.8, 0.6]]
    with pytest.raises(WardlineError, match=r"cosine 0\.9600, allowed 0\.999"):
        check_peers(figures, STACKS)


def test_a_peer_with_int8_weights_may_differ_a_little() -> None:
    """Cosines .96 and .6 x .8 + .8 x -.6 = 0 to the float32 peers' vector."""
    _, (figures,) = rounds_of(BenchOptions(rounds=1))
    figures["sentence_transformers_int8"]["vectors"] = [[0.8, 0.6]]
    check_peers(figures, STACKS)
    figures["sentence_transformers_int8"]["vectors"] = [[0.8, -0.6]]
    with pytest.raises(WardlineError, match=r"int8 peers' vectors differ: cosine 0\.0000, allowed 0\.9"):
        check_peers(figures, STACKS)


def test_tokens_end_where_the_bundles_tokenizer_says(tiny_bundle: Bundle) -> None:
    assert token_ends(tiny_bundle)("Free bet, now") == [4, 8, 9, 13]


def test_the_command_line_names_what_differs_and_no_path() -> None:
    options = BenchOptions(
        bundle=Path("/somewhere/else"), texts=64, seed=7, peers=False, load=False, torch_index="https://x.example"
    )
    assert options.command == "python wardline.py eval serving --seed 7 --texts 64 --no-peers --no-load"
    assert BenchOptions(load_requests=5_000).command == "python wardline.py eval serving --load-requests 5000"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("texts", 7),
        ("texts", 100_000),
        ("requests", 0),
        ("explained", -1),
        ("rounds", 0),
        ("rounds", 10),
        ("limit_s", 5),
        ("load_requests", 19),
        ("load_requests", 20_001),
        ("load_limit_s", 601),
    ],
)
def test_it_refuses_counts_that_are_none_or_endless(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name}: found {value}, allowed"):
        BenchOptions(**{name: value})  # type: ignore[arg-type]


def test_it_refuses_a_negative_seed() -> None:
    with pytest.raises(ValueError, match="seed: found -1"):
        BenchOptions(seed=-1)


def test_without_a_bundle_nothing_starts(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no model bundle"):
        run_bench(BenchOptions(bundle=tmp_path / "none"))
