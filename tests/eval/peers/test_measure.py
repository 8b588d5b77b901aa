from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from eval.peers.measure import WARM_UP, Stack, measure_stack, resident_mb, run, time_calls, time_once, versions

JOB = {"started": 0.0, "ads": ["a", "b", "c"], "texts": ["x"] * 10, "requests": 5}


def stack_that_notes(seen: list[str], batches: list[int], *, vectors: bool = False) -> Stack:
    def many(texts: Sequence[str]) -> list[list[float]]:
        batches.append(len(texts))
        return [[1.0, 0.0]] * len(texts)

    return Stack(one=seen.append, many=many, packages=("numpy",), vectors=many if vectors else None)


def test_a_stack_reads_every_ad_in_turn_and_the_batch_once_after_a_warm_up() -> None:
    seen: list[str] = []
    batches: list[int] = []
    figures = measure_stack(stack_that_notes(seen, batches), JOB)
    assert seen[0] == "a"  # ready when it has read one
    assert seen[1 + WARM_UP :] == ["a", "b", "c", "a", "b"]
    assert batches == [WARM_UP, 10]
    assert len(figures["latency_ms"]) == 5
    assert figures["batch"]["texts"] == 10
    assert figures["vectors"] is None
    assert set(figures["memory_mb"]) == {"loaded", "after"}
    assert list(figures["versions"]) == ["numpy"]


def test_vectors_are_kept_where_a_stack_gives_them() -> None:
    figures = measure_stack(stack_that_notes([], [], vectors=True), JOB)
    assert figures["vectors"] == [[1.0, 0.0]] * 4


@pytest.mark.parametrize("fails", [False, True])
def test_a_stack_is_closed_once_measured_and_when_it_fails(fails: bool) -> None:
    order: list[str] = []

    def many(texts: Sequence[str]) -> None:
        order.append("many")
        if fails:
            raise RuntimeError(f"cannot read {len(texts)} texts")

    stack = Stack(one=lambda _: None, many=many, packages=(), close=lambda: order.append("closed"))
    if fails:
        with pytest.raises(RuntimeError, match="cannot read"):
            measure_stack(stack, JOB)
    else:
        measure_stack(stack, JOB)
    assert order[-1] == "closed"
    assert order.count("closed") == 1


def test_no_calls_means_no_warm_up_either() -> None:
    seen: list[str] = []
    assert time_calls(seen.append, ["a"], calls=0) == []
    assert seen == []


def test_times_are_not_negative() -> None:
    assert all(value >= 0 for value in time_once(lambda: None).values())
    assert all(value >= 0 for value in time_calls(len, ["a"], calls=3))


def test_memory_of_this_process_is_more_than_a_megabyte() -> None:
    assert resident_mb() > 1.0


def test_a_package_that_is_not_installed_has_no_version() -> None:
    assert list(versions(["numpy", "no-such-distribution-here"])) == ["numpy"]


def test_run_reads_the_job_and_writes_the_figures(tmp_path: Path) -> None:
    job, result = tmp_path / "job.json", tmp_path / "result.json"
    job.write_text(json.dumps({"n": 2}))
    run(lambda given: {"twice": 2 * given["n"]}, [str(job), str(result)])
    assert json.loads(result.read_text()) == {"twice": 4}


def test_run_refuses_other_than_two_arguments() -> None:
    with pytest.raises(ValueError, match="arguments: found 1"):
        run(lambda _: {}, ["job.json"])
