"""A model and what was fitted to it: what holds under other adapters, and what no longer does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from moderation.compat.perspective_scores import ScoreMapping
from moderation.serving import Serving

Maker = Callable[..., Serving]


@pytest.fixture
def serving(made_up_scores: type[Any]) -> Maker:
    """Makes a model with a mapping fitted to this bundle."""

    def make(fitted_to: str = "") -> Serving:
        made = Serving.of(made_up_scores())
        mapping = ScoreMapping({"TOXICITY": ((0.0, 0.5), (1.0, 1.0))}, fitted_to)
        return replace(made, perspective=replace(made.perspective, mapping=mapping))

    return make


def test_a_bundle_serves_with_its_own(made_up_scores: type[Any]) -> None:
    made = Serving.of(made_up_scores())
    assert (made.name, made.added, made.readiness.ready) == ("tiny@1", frozenset(), True)
    assert made.perspective.mapping == ScoreMapping()


def test_under_adapters_of_regions_all_holds(serving: Maker, made_up_scores: type[Any]) -> None:
    own, other = serving("5e" * 32), made_up_scores()
    under = own.under(other, ["region:ID", "region:IN"])
    assert under == replace(own, moderator=other, added=frozenset({"region:ID", "region:IN"}))
    assert own.added == frozenset()


def test_a_curve_that_was_fitted_to_a_regions_own_adapter_is_doubtful_under_another(
    serving: Maker, made_up_scores: type[Any]
) -> None:
    own, other = serving("5e" * 32), made_up_scores()
    other.calibrated_slots = frozenset({"region:US", "region:BR", "region:IT"})
    under = own.under(other, ["region:US", "region:ID", "region:BR"])
    assert under.readiness.warnings == (
        "region:BR is not the bundle's own, to which its calibration curve was fitted",
        "region:US is not the bundle's own, to which its calibration curve was fitted",
    )
    assert under.readiness.ready
    assert under.perspective == own.perspective
    both = own.under(other, ["region:US", "task:moderation"]).readiness.warnings
    assert [each.split()[0] for each in both] == ["region:US", "task:moderation"]
    assert own.under(other, ["region:ID"]).readiness == own.readiness


def test_under_another_adapter_of_the_task_what_was_fitted_is_doubtful(
    serving: Maker, made_up_scores: type[Any]
) -> None:
    """The mapping of comment scores is left out, as with another bundle; one for any bundle stays."""
    under = serving("5e" * 32).under(made_up_scores(), ["task:moderation"])
    assert under.perspective.mapping == ScoreMapping()
    [warning] = under.readiness.warnings
    assert "calibration and thresholds were fitted" in warning
    assert "perspective.json" in warning
    assert under.readiness.ready
    own = serving()
    under = own.under(made_up_scores(), ["task:moderation"])
    assert under.perspective == own.perspective
    [warning] = under.readiness.warnings
    assert "perspective.json" not in warning
