"""The section says what is timed, how, and that only ratios mean anything."""

from __future__ import annotations

from typing import Any

from eval.sections.speed import speed


def spread(value: float, least: float, most: float) -> dict[str, Any]:
    return {"median": value, "min": least, "max": most, "rounds": []}


def report(*, rounds: int = 5, load: float | None = 1.25) -> dict[str, Any]:
    encoders = [
        {
            "name": name,
            "tokens": 9000,
            "texts_per_s": spread(80.4, 1, 99),
            "tokens_per_s": spread(2412.2, 1, 9999),
            "ratio": spread(ratio, ratio - 0.1, ratio + 0.1),
        }
        for name, ratio in (("a & b", 1.0), ("c", 1.5))
    ]
    machine = {"processor": "a chip", "cores": 2, "load": load}
    lines = [{"line": line, "n": 300, "encoders": encoders} for line in ("32 varieties", "English")]
    return {"speed": {"machine": machine, "threads": 1, "rounds": rounds, "lines": lines}}


def test_every_line_and_encoder_has_a_row() -> None:
    built = "".join(speed(report()).parts)
    cells = [f"<td>{cell}</td>" for cell in ("c", "300", "9000", "80", "2412", "1.50", "1.40 to 1.60")]
    assert built.count("".join(cells)) == 2
    assert "a &amp; b" in built
    for said in ("Only the ratios mean anything", "each on 1 thread,", "the same 300", "5 rounds", "a chip, 2 cores"):
        assert said in built


def test_a_round_alone_and_a_system_that_does_not_tell_its_load() -> None:
    built = "".join(speed(report(rounds=1, load=None)).parts)
    assert "1 round after" in built
    assert "a core in the minute" not in built


def test_without_bundles_it_says_so() -> None:
    assert speed({"speed": None}).parts == ("<p>No bundle was timed in this run.</p>",)
