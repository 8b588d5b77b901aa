"""What the service counts: decisions, failures, seconds per stage, probabilities."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Histogram

from moderation.decision import Decision, RegionDecision

Stage = Literal["parse", "score", "record", "render"]
# One text takes some 5 ms, a full batch of long texts a minute.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_PROBABILITY = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1)


class ModerationMetrics:
    """The counters and histograms of one moderation API.

    Each holder has a registry of its own, so that two in one process do not clash. Under BentoML the values are
    kept in files shared by all workers and shown at `/metrics`, whatever the registry.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._decisions = Counter(
            "wardline_decisions",
            "Decisions per policy, region and action; policy 'none' where no policy was touched.",
            ["policy", "region", "action"],
            registry=self.registry,
        )
        self._item_errors = Counter(
            "wardline_item_errors", "Items without a decision, per error code.", ["code"], registry=self.registry
        )
        self._failures = Counter(
            "wardline_scoring_failures", "Items escalated because they could not be scored.", registry=self.registry
        )
        self._unsupported = Counter(
            "wardline_unsupported_language", "Items in a language the model was not made for.", registry=self.registry
        )
        self._seconds = Histogram(
            "wardline_stage_seconds",
            "Seconds per request and stage.",
            ["stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._probability = Histogram(
            "wardline_probability",
            "Calibrated probabilities per head, one per item: those of its first region.",
            ["head"],
            buckets=_PROBABILITY,
            registry=self.registry,
        )

    @contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        """Measures the seconds that its block takes, also when it raises."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds.labels(name).observe(time.perf_counter() - start)

    def count_item_error(self, code: str) -> None:
        """Counts an item that got an error instead of a decision."""
        self._item_errors.labels(code).inc()

    def count(self, decision: Decision) -> None:
        """Counts one decided item."""
        if decision.error is not None:
            self.count_item_error(decision.error.code)
            return
        if decision.degraded or any(region.degraded for region in decision.decisions):
            self._failures.inc()
        if decision.language is not None and not decision.language.supported:
            self._unsupported.inc()
        # Once per item, not per region: an item with 50 regions weighs no more than one with a single region.
        for head, probability in decision.probabilities.items():
            self._probability.labels(head).observe(probability)
        for region in decision.decisions:
            self._count_region(region)

    def _count_region(self, region: RegionDecision) -> None:
        # The region whose policy decided, not the one asked for: callers could otherwise make labels without end.
        if not region.entries:
            self._decisions.labels("none", region.policy_region, region.action.value).inc()
        for entry in region.entries:
            self._decisions.labels(entry.policy, region.policy_region, entry.action.value).inc()
