"""Ads by hand: heads, false positives, regions, languages, co-occurrence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from eval.datasets import Row, Suite
from eval.suites.ads import ad_heads, ads_report, region_table

HEADS = ("scam", "gambling", "toxic")
THRESHOLDS = {"scam": 0.5, "gambling": 0.5, "toxic": 0.0}
SCORES = np.array([[0.9, 0.6, 1], [0.4, 0.9, 1], [0.8, 0.1, 1], [0.1, 0.1, 1]], dtype=np.float32)


def suite() -> Suite:
    """A scam that is also gambling, plain gambling, a hard negative that fires, a clean ad."""
    truth = [(1.0, 1.0), (0.0, 1.0), (0.0, 0.0), (0.0, 0.0)]
    kinds = ("multi", "positive", "hard_negative", "clean")
    regions = [("DE",), ("DE", "US"), ("DE",), ("US",)]
    return Suite("ads", tuple(
        Row(str(i), "t", {"scam": truth[i][0], "gambling": truth[i][1]}, lang="en" if i % 2 else "de", kind=kinds[i],
            regions=regions[i]) for i in range(4)
    ))  # fmt: skip


def act(probabilities: Mapping[str, float], region: str) -> str:
    """Reject any fired head in Germany, limit it in the United States."""
    fired = max(probabilities["scam"], probabilities["gambling"]) >= 0.5
    return "approve" if not fired else {"DE": "reject", "US": "limit"}[region]


@pytest.fixture
def report() -> dict[str, Any]:
    return ads_report(suite(), SCORES, None, heads=HEADS, thresholds=THRESHOLDS, decide=act, served=None, seed=1)


def test_the_auxiliary_head_is_not_judged(report: dict[str, Any]) -> None:
    assert ad_heads(suite(), HEADS) == ["scam", "gambling"]
    assert report["false_positives"]["all"]["benign"]["k"] == 1, "toxic fires everywhere and does not count"


def test_heads_by_hand(report: dict[str, Any]) -> None:
    scam, gambling = report["heads"]
    assert (scam["precision"], scam["recall"], scam["ap"]) == (0.5, 1.0, 1.0)
    assert (gambling["precision"], gambling["recall"], gambling["positives"]) == (1.0, 1.0, 2)
    assert report["macro"]["ap"] == 1.0
    assert np.isnan(scam["ap_english"]), "no English scam"


def test_false_positives_by_kind_and_language(report: dict[str, Any]) -> None:
    everything, english = report["false_positives"]["all"], report["false_positives"]["english"]
    assert (everything["benign"]["rate"], everything["hard_negative"]["rate"], everything["clean"]["rate"]) == (
        0.5,
        1,
        0,
    )
    assert everything["violating_caught"]["rate"] == 1.0
    assert (english["benign"]["k"], english["benign"]["n"]) == (0, 1)
    german = next(record for record in report["languages"] if record["lang"] == "de")
    assert german["false_alarms"]["k"] == 1
    assert german["ap_pooled"] == pytest.approx(1 / 2 + 2 / 3 / 2)


def test_actions_per_region_as_decided_and_as_served() -> None:
    served = [{"DE": "reject"}, {"DE": "escalate", "US": "limit"}, {"DE": "escalate"}, {"US": "escalate"}]
    germany, states = region_table(suite(), SCORES, heads=HEADS, decide=act, served=served)
    assert (germany["region"], germany["n"]) == ("DE", 3)
    assert germany["violating"] == {"approve": 0, "limit": 0, "escalate": 0, "reject": 2}
    assert germany["served_violating"] == {"approve": 0, "limit": 0, "escalate": 1, "reject": 1}
    assert states["benign"]["approve"] == 1
    assert states["false_alarms"]["rate"] == 0.0
    assert states["served_false_alarms"]["rate"] == 1.0


def test_what_fires_together(report: dict[str, Any]) -> None:
    rows = {row["truth"]: row for row in report["confusion"]["rows"]}
    assert rows["gambling"]["n"] == 2
    assert rows["gambling"]["fires"].tolist() == [0.5, 1.0]
    assert rows["gambling"]["also_true"].tolist() == [0.5, 1.0]
    assert rows["hard_negative"]["fires"].tolist() == [1.0, 0.0]
