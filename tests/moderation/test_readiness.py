"""The probe: what a model says of itself before it gets traffic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from moderation.readiness import probe
from moderation.scorer import Scorer
from retrieval_shared.errors import ScoringError


@pytest.fixture
def scorer(made_up_scores: type[Any]) -> Scorer:
    """Gives every head 0.1."""

    class Even(made_up_scores):  # type: ignore[misc]  # a class of conftest.py
        def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
            return np.full((len(texts), len(self.heads)), 0.1, dtype=np.float32)

    made: Scorer = Even()
    return made


def recorded(scorer: Any, probability: float) -> Scorer:
    """The scorer over a bundle whose probe had this probability for every head."""
    manifest = scorer.bundle.manifest
    known = replace(manifest.probe, probabilities=dict.fromkeys(scorer.heads, probability))
    scorer.bundle = replace(scorer.bundle, manifest=replace(manifest, probe=known))
    found: Scorer = scorer
    return found


def test_within_tolerance_it_is_ready_without_a_warning(scorer: Scorer) -> None:
    """The difference is reported all the same."""
    readiness = probe(recorded(scorer, 0.11))
    assert (readiness.ready, readiness.bundle, readiness.warnings) == (True, "tiny@1", ())
    assert readiness.probe_difference == pytest.approx(0.01, abs=1e-6)


def test_beyond_tolerance_it_is_ready_with_a_warning(scorer: Scorer) -> None:
    """The machine computes otherwise; an operator has to see it, callers are still served."""
    readiness = probe(recorded(scorer, 0.2))
    assert readiness.ready
    assert "differ by 0.100" in readiness.warnings[0]


def test_what_cannot_be_scored_is_not_ready(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """No traffic before one text was scored."""

    def fails(_: Sequence[str]) -> NDArray[np.float32]:
        raise ScoringError("no session")

    monkeypatch.setattr(scorer, "probabilities", fails)
    readiness = probe(scorer)
    assert (readiness.ready, readiness.probe_difference) == (False, None)
    assert "no session" in readiness.warnings[0]
