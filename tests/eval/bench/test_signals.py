"""The bench of the signals runs through on next to nothing; its figures are the machine's, so none is asserted."""

from __future__ import annotations

from dataclasses import asdict

from eval.bench.signals import measure


def test_every_figure_is_a_time() -> None:
    times = asdict(measure(terms=50, words=5, entries=20, ads=3))
    assert list(times) == ["compile_ms", "terms_ms", "patterns_ms", "signature_ms", "alike_ms"]
    assert all(0 <= value < 60_000 for value in times.values())
