from __future__ import annotations

from typing import Any

from eval.bench.load_page import load_section

MACHINE = {"cores": 2}


def level(**more: Any) -> dict[str, Any]:
    return {
        "title": "open loop, 70% of the capacity",
        "clients": 32,
        "wanted": 2_000,
        "sent": 2_000,
        "errors": 0,
        "outcomes": {},
        "requests_per_s": 63.04,
        "p50_ms": 20.0,
        "p99_ms": 88.84,
        "max_ms": 120.0,
        "late_p99_ms": 1.25,
        "client_cpu_ms": 0.432,
        "curve": [[2.0, 10.0], [50.0, 20.0], [100.0, 120.0]],
        "meanwhile": None,
    } | more


def load(*levels: dict[str, Any]) -> dict[str, Any]:
    return {
        "workers": 2,
        "regions": ["US", "DE", "ID"],
        "capacity": 90.0,
        "share": 0.7,
        "rate": 63.0,
        "requests": 8_000,
        "errors": sum(each["errors"] for each in levels),
        "as_opened": {"8": [5, 3], "32": [31, 1]},
        "memory_mb": {"loaded": [340.0, 341.0], "after": [360.0, 361.0]},
        "levels": list(levels),
    }


def text_of(found: dict[str, Any] | None) -> str:
    return "".join(load_section({"load": found, "machine": MACHINE}).parts)


def test_every_level_has_its_row_and_its_curve() -> None:
    text = text_of(load(level(), level(title="closed loop, 8 clients")))
    assert "<td>32</td><td>2000</td><td>0</td><td>63.0</td><td>20.0</td><td>88.8</td><td>120.0</td>" in text
    assert text.count("<polyline") == 2
    assert "one process and share the machine&#x27;s 2 cores with the service" in text
    assert "left to the system they ended as 5 + 3 of 8, 31 + 1 of 32" in text
    assert "340 and 341 MB before, 360 and 361 MB after" in text
    assert "8,000 requests in all, 0 errors." in text


def test_errors_are_named_by_kind_over_all_levels() -> None:
    text = text_of(load(level(errors=2, outcomes={"status 503": 2}), level(errors=1, outcomes={"status 503": 1})))
    assert "3 errors (status 503: 3)." in text


def test_a_level_that_ran_out_of_time_says_how_many_it_wanted() -> None:
    assert "<td>1500 of 2000</td>" in text_of(load(level(sent=1_500)))


def test_a_swap_meanwhile_is_told() -> None:
    swap = {
        "slot": "region:US", "version": "ba8f95d6f4b1", "instead_of": "a7578bf5e4f7", "workers": 2, "added_s": 0.2,
        "removed_s": 0.038,
    }  # fmt: skip
    found = {"took_s": 0.254, "requests": 20, "errors": 1, "p99_ms": 95.0, "max_ms": 99.0, "swap": swap}
    text = text_of(load(level(meanwhile=found)))
    assert "region:US@ba8f95d6f4b1 was added in the place of region:US@a7578bf5e4f7 and removed again." in text
    assert "Until all 2 workers had looked and listed what they serve, adding took 0.20 s and removing 0.04 s." in text
    assert "20 requests were on their way during these 0.25 s, 1 errors, p99 95.0 ms, longest 99.0 ms." in text


def test_a_swap_that_nobody_met_and_that_took_no_place_is_told() -> None:
    swap = {
        "slot": "region:US", "version": "ba8f95d6f4b1", "instead_of": None, "workers": 2, "added_s": 0.2,
        "removed_s": 0.038,
    }  # fmt: skip
    nobody = {"took_s": 0.254, "requests": 0, "errors": 0, "p99_ms": None, "max_ms": None, "swap": swap}
    text = text_of(load(level(meanwhile=nobody)))
    assert "region:US@ba8f95d6f4b1 was added and removed again." in text
    assert "0 requests were on their way during these 0.25 s, 0 errors." in text


def test_without_load_it_says_so() -> None:
    assert "No load was measured in this run." in text_of(None)
