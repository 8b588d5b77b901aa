from __future__ import annotations

import pytest

from moderation.classifier import SLOT
from moderation.regions import check_region
from training.regions import AREAS, REGION_OF_SOURCE, REGION_OF_TAG, parent_slot, region_of


@pytest.mark.parametrize(
    ("tag", "source", "region"),
    [
        ("en-CA", "ads_propublica", "CA"),
        ("BR", "told_br", "BR"),
        ("México", "clickbait_es", "MX"),
        (None, "germeval18", "DE"),
        ("", "kmhas", "KR"),
        ("de-AT", "gahd", "AT"),  # what the row says goes before where its set was collected
        # Several at once, a seller's place, a variety of a language, nothing at all.
        ("MX/ES", "fake_es", ""),
        ("USA", "agora_listing", ""),
        ("Levantine", "rtplx_prompts", ""),
        (None, "clickbait_en", ""),
        ("Narnia", "no_such_set", ""),
    ],
)
def test_a_rows_region_is_what_it_says_else_where_its_set_was_collected(
    tag: str | None, source: str, region: str
) -> None:
    assert region_of(tag, source) == region


def test_a_tag_nobody_knows_leaves_the_sets_country() -> None:
    assert region_of("Hessen", "gahd") == "DE"


@pytest.mark.parametrize("region", sorted({*REGION_OF_TAG.values(), *REGION_OF_SOURCE.values(), *AREAS}))
def test_every_region_is_one_that_a_policy_may_name(region: str) -> None:
    check_region(region)  # raises where it is none


@pytest.mark.parametrize(
    ("slot", "parent"),
    [
        ("region:AT", "area:de"),
        ("region:MX", "area:es"),
        ("region:ID", SLOT),
        ("region:IN-GJ", SLOT),
        ("area:de", SLOT),
        ("area:es", SLOT),
        (SLOT, SLOT),
    ],
)
def test_a_regions_parent_is_its_language_area_and_an_areas_the_moderation_adapter(slot: str, parent: str) -> None:
    assert parent_slot(slot) == parent
