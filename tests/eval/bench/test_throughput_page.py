from __future__ import annotations

from typing import Any

from eval.bench.throughput_page import throughput_section


def spread(median: float) -> dict[str, Any]:
    return {"median": median, "min": median, "max": median, "rounds": [median]}


def record(title: str, rate: float, *, is_peer: bool) -> dict[str, Any]:
    return {
        "title": title,
        "weights": "int8",
        "batches": "32 sorted",
        "is_peer": is_peer,
        "texts_per_s": spread(rate),
        "ours_over": spread(120.0 / rate),
    }


RECORDS = [record("Ours", 120.0, is_peer=False), record("Slow", 40.0, is_peer=True), record("Fast", 80.0, is_peer=True)]


def test_the_fastest_peer_is_named_beside_every_stacks_figures() -> None:
    section = throughput_section({"throughput": RECORDS, "lead": spread(1.5), "n": 512})
    text = "".join(section.parts)
    assert "<td>Slow</td><td>int8</td><td>32 sorted</td><td>40.0</td><td>3.00</td>" in text
    assert "The fastest peer is Fast;" in text
    assert "reads 1.50 times as many texts" in text
    assert text.count("<rect") == 3
    assert section.figures == (
        "Texts per second in batch. Median over rounds, n = 512; the line spans least to greatest.",
    )


def test_without_peers_it_says_so() -> None:
    section = throughput_section({"throughput": RECORDS[:1], "lead": None, "n": 512})
    assert "No other stack was measured in this run." in section.parts[-1]
