"""What deciding costs beside the model, ad by ad in one process: the policy, rules and bank, and a backtest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.bench import signals
from eval.peers.measure import Figures, Job, run, time_calls, time_once
from moderation import Moderator
from moderation.decision import Context, Decision, decide
from moderation.item import Item
from moderation.replay import Backtest, backtest
from moderation.review.queue import ReviewQueue
from moderation.review.store import Store

REGIONS = ("US", "GB", "DE", "FR", "IN", "IN-GJ", "BR", "JP", "AE", "ID")
"""Every ad is decided in each of them."""
BACKTEST_REGION = "DE"
AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
_CHUNK = 2_000


def measure(job: Job) -> Figures:
    """Return milliseconds of one ad each, and seconds of a backtest.

    Args:
        job: `bundle`, `database`, `ads` (single texts), `requests` (calls to time), `decisions` (stored decisions of
            the backtest), `signals` (arguments of `signals.measure`).
    """
    moderator = Moderator.load(job["bundle"])
    probabilities = moderator.probabilities(job["ads"])  # [n, H]
    rows = [dict(zip(moderator.heads, map(float, row), strict=True)) for row in probabilities]
    per_ad = time_calls(lambda row: _decide(moderator, row), rows, calls=job["requests"])
    return {
        "model_ms": time_calls(lambda ad: moderator.probabilities([ad]), job["ads"], calls=job["requests"]),
        "policy_ms": [ms / len(REGIONS) for ms in per_ad],
        "signals": asdict(signals.measure(**job["signals"])),
        "backtest": _backtest(moderator, probabilities, job["database"], decisions=job["decisions"]),
        "regions": len(REGIONS),
    }


def _decide(moderator: Moderator, probabilities: dict[str, float]) -> None:
    for region in REGIONS:
        decide(
            probabilities, region=region, policy=moderator.policy, thresholds=moderator.thresholds,
            context=Context(), at=AT,
        )  # fmt: skip


def _backtest(moderator: Moderator, scored: NDArray[np.float32], database: str, *, decisions: int) -> dict[str, Any]:
    """Return how long stored decisions of one region take to be read and decided again, by one thread."""
    store = Store(database)
    queue = ReviewQueue(store)
    for chunk in _decisions(moderator, scored, decisions):
        queue.record(chunk, [Item(each.id, {"text": ""}, (BACKTEST_REGION,)) for each in chunk], keep_text=False)
    reports: list[Backtest] = []
    took = time_once(
        lambda: reports.append(
            backtest(
                store.decision_rows(region=BACKTEST_REGION), policy=moderator.policy, thresholds=moderator.thresholds
            )
        )
    )
    store.close()
    return {"decisions": reports[0].decisions, "flips": reports[0].flips, **took}


def _decisions(moderator: Moderator, scored: NDArray[np.float32], n: int) -> Iterator[Sequence[Decision]]:
    """Yield n decisions in chunks, about made-up ads: each takes every head's probability from an ad drawn for it."""
    rng = np.random.default_rng(0)
    versions = moderator.versions
    for start in range(0, n, _CHUNK):
        drawn = rng.integers(0, len(scored), (min(_CHUNK, n - start), scored.shape[1]))
        chunk = []
        for i, values in enumerate(np.take_along_axis(scored, drawn, axis=0)):
            probabilities = dict(zip(moderator.heads, map(float, values), strict=True))
            decided = decide(
                probabilities, region=BACKTEST_REGION, policy=moderator.policy, thresholds=moderator.thresholds,
                context=Context(), at=AT,
            )  # fmt: skip
            chunk.append(
                Decision(f"ad-{start + i}", "ok", None, None, (decided,), probabilities, None, versions, decided_at=AT)
            )
        yield chunk


if __name__ == "__main__":
    run(measure)
