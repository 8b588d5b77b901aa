"""The bench of deciding runs through on next to nothing; its figures are the machine's, so none is asserted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from eval.bench.deciding import REGIONS, measure

if TYPE_CHECKING:
    from retrieval_shared.bundle import Bundle


def test_every_figure_is_there_and_nothing_flips_under_what_decided(tiny_bundle: Bundle, tmp_path: Path) -> None:
    job = {
        "bundle": str(tiny_bundle.path),
        "database": f"sqlite:///{tmp_path / 'bench.db'}",
        "ads": ["free bet win cash now", "fresh bread every morning"],
        "requests": 3,
        "decisions": 30,
        "signals": {"terms": 50, "words": 5, "entries": 20, "ads": 3},
    }
    figures = measure(job)
    assert [len(figures[name]) for name in ("model_ms", "policy_ms")] == [3, 3]
    assert (figures["backtest"]["decisions"], figures["backtest"]["flips"]) == (30, 0)
    assert figures["signals"]["terms_ms"] >= 0
    assert figures["regions"] == len(REGIONS) == 10
