from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from eval.bench.inprocess import measure

if TYPE_CHECKING:
    from retrieval_shared.bundle import Bundle


def test_our_classes_give_every_figure(tiny_bundle: Bundle, tmp_path: Path) -> None:
    job = {
        "bundle": str(tiny_bundle.path),
        "database": f"sqlite:///{tmp_path / 'bench.db'}",
        "started": 0.0,
        "ads": ["free bet win cash now", "fresh bread every morning"],
        "texts": ["shop sale shoes", "tea and bread"],
        "requests": 3,
        "explained": 2,
    }
    figures = measure(job)
    assert [len(figures[name]) for name in ("latency_ms", "answer_ms", "spans_ms", "flagged")] == [3, 3, 2, 2]
    assert figures["batch"]["texts"] == 2
    assert figures["bundle_versions"]["policy_set"].startswith("ads-default@")
