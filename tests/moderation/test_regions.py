"""Region codes: the list of countries, the form of sub-regions, the way up."""

from __future__ import annotations

import re

import pytest

from moderation.regions import COUNTRIES, check_region, parent_region


def test_the_list_has_the_249_countries_of_iso_3166_1() -> None:
    assert len(COUNTRIES) == 249
    assert {"US", "DE", "FR", "GB", "IN", "ID", "TR", "BR", "JP", "AE", "NO", "ZW"} <= COUNTRIES
    assert not {"UK", "EU", "XX"} & COUNTRIES


@pytest.mark.parametrize("code", ["DE", "IN-GJ", "US-CA", "FR-75", "GB-ENG", "NO"])
def test_countries_and_sub_regions_pass(code: str) -> None:
    check_region(code)  # raises for a region it does not know
    assert code.split("-")[0] in COUNTRIES


@pytest.mark.parametrize(
    "code",
    ["", "de", "D", "DEU", "IN_GJ", "IN-", "IN-GJXX", "IN-gj", " DE", "DE\n", "default", "UK", "XX", "XX-AA", None, 7],
)
def test_anything_else_is_refused_with_the_found_value(code: object) -> None:
    with pytest.raises(ValueError, match=f"region: found {re.escape(repr(code))}, allowed"):
        check_region(code)  # type: ignore[arg-type]


def test_the_parent_of_a_sub_region_is_its_country() -> None:
    assert parent_region("IN-GJ") == "IN"
    assert parent_region("IN") is None
