"""Which region a training row is of, and which adapter a region's is trained from."""

from __future__ import annotations

from collections.abc import Mapping

from moderation.classifier import SLOT

REGION_OF_TAG: Mapping[str, str] = {
    "en-US": "US", "en-CA": "CA", "en-AU": "AU", "de-DE": "DE", "de-AT": "AT", "de-CH": "CH", "it-IT": "IT",
    "nl-BE": "BE", "ID": "ID", "BR": "BR", "TR": "TR", "TH": "TH", "VN": "VN", "España": "ES", "Argentina": "AR",
    "México": "MX", "Chile": "CL", "Colombia": "CO", "Perú": "PE",
}  # fmt: skip
"""What the data sets call a region -> ISO 3166-1 code. Sellers' places of the drug listings are no target regions."""

REGION_OF_SOURCE: Mapping[str, str] = {
    "gahd": "DE", "germeval18": "DE", "curse_ko": "KR", "beep": "KR", "apeach": "KR", "kmhas": "KR", "cold": "CN",
    "bn_hate": "BD", "dravidian_ml": "IN",
}  # fmt: skip
"""Sets without a region of their own, collected on the platforms of one country -> its code. A guess, row by row:
German posts are taken for Germany's, though some are Austrian or Swiss."""

AREAS: Mapping[str, str] = {
    "US": "area:en", "CA": "area:en", "AU": "area:en", "GB": "area:en", "DE": "area:de", "AT": "area:de",
    "CH": "area:de", "ES": "area:es", "AR": "area:es", "MX": "area:es", "CL": "area:es", "CO": "area:es",
    "PE": "area:es",
}  # fmt: skip
"""Region -> its language area, whose adapter stands between it and the moderation adapter."""


def region_of(tag: str | None, source: str) -> str:
    """Return the ISO 3166-1 code of a row's region, empty where nobody knows.

    Args:
        tag: what the row says of its region.
        source: the data set it comes from.
    """
    return REGION_OF_TAG.get(tag or "", REGION_OF_SOURCE.get(source, ""))


def parent_slot(slot: str) -> str:
    """Return the slot an adapter is trained from: region -> language area -> moderation."""
    kind, _, name = slot.partition(":")
    return AREAS.get(name, SLOT) if kind == "region" else SLOT
