"""Region codes: the countries of ISO 3166-1 and the form of their sub-regions (ISO 3166-2)."""

from __future__ import annotations

import re

DEFAULT_REGION = "default"
"""Stands where no rule of the region, nor of its country, decided; not a region that can be asked for."""

COUNTRIES: frozenset[str] = frozenset(
    """
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ
    CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR
    GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP
    KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT
    MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW
    SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ
    UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW
    """.split()  # noqa: SIM905 - a table can be checked by eye
)
"""The 249 officially assigned alpha-2 codes of ISO 3166-1; GB, not UK."""

_FORM = re.compile(r"(?P<country>[A-Z]{2})(-[A-Z0-9]{1,3})?")


def check_region(code: str) -> None:
    """Return quietly for a code such as `DE` or `IN-GJ`.

    The country must be one of ISO 3166-1; of a sub-region only the form is checked (ISO 3166-2 changes every year).

    Raises:
        ValueError: the form is wrong or the country is unknown.
    """
    form = _FORM.fullmatch(code) if isinstance(code, str) else None
    if form is None:
        raise ValueError(
            f"region: found {code!r}, allowed a code of ISO 3166-1 alpha-2 ('DE') or ISO 3166-2 ('IN-GJ') in capitals"
        )
    if form["country"] not in COUNTRIES:
        raise ValueError(f"region: found {code!r}, allowed a country of ISO 3166-1 alpha-2, such as 'DE', 'GB', 'US'")


def parent_region(code: str) -> str | None:
    """Return the country of a sub-region (`IN-GJ` -> `IN`), None for a country."""
    country, dash, _ = code.partition("-")
    return country if dash else None
