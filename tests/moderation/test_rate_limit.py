"""Rate limits: how they are written, and the bucket that counts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.rate_limit import SECOND_NS, WINDOWS_S, Draw, RateLimit, draw, parse_rate_limit, rate_limit_from

AT = 1_795_000_000 * SECOND_NS
LIMIT = RateLimit(600, 60)


@given(st.integers(1, 1_000_000), st.sampled_from(sorted(WINDOWS_S)))
def test_every_limit_is_read_as_it_is_written(requests: int, unit: str) -> None:
    limit = RateLimit(requests, WINDOWS_S[unit])
    assert parse_rate_limit(f" {requests}/{unit} ") == parse_rate_limit(str(limit)) == limit
    assert str(RateLimit(5, 90)) == "5 per 90 s"


@given(st.one_of(st.text(), st.from_regex(r"[0-9]{1,8}\s?/?\s?[a-z]{0,4}", fullmatch=True)))
def test_whatever_else_is_written_is_refused_by_name_and_form(text: str) -> None:
    try:
        limit = parse_rate_limit(text)
    except ValueError as error:
        assert "allowed: " in str(error)  # noqa: PT017 - most texts are refused, the others are checked below
    else:
        number, _, unit = text.strip().partition("/")
        assert limit == RateLimit(int(number), WINDOWS_S[unit])


@pytest.mark.parametrize("text", ["600", "600/m", "600/MIN", "-1/s", "1.5/s", "10 /s", "10/s/s", "١/s", "10000000/s"])
def test_an_unusable_limit_names_itself_and_the_units(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"rate limit is .*; allowed: requests/unit such as 600/min, .* s, min, h, day"
    ):
        parse_rate_limit(text)


@pytest.mark.parametrize(("requests", "window_s"), [(0, 1), (1_000_001, 1), (1, 0), (1, 86_401)])
def test_a_limit_out_of_its_range_is_refused(requests: int, window_s: int) -> None:
    with pytest.raises(ValueError, match=r"(requests|window_s) is \d+; allowed: 1 to"):
        RateLimit(requests, window_s)


def test_the_environment_states_one_limit_or_none() -> None:
    assert rate_limit_from({}) is None
    assert rate_limit_from({"WARDLINE_RATE_LIMIT": ""}) is None
    assert rate_limit_from({"WARDLINE_RATE_LIMIT": "10/s"}) == RateLimit(10, 1)
    for wrong in ("many", "0/s"):
        with pytest.raises(ValueError, match="WARDLINE_RATE_LIMIT: "):
            rate_limit_from({"WARDLINE_RATE_LIMIT": wrong})


def test_a_bucket_by_hand() -> None:
    """600 in a minute, one every tenth of a second: 590 taken at once leave 10, three seconds later there are 40."""
    drawn = draw(LIMIT, 0, wanted=590, at_ns=AT)
    assert drawn == Draw(590, AT + 59 * SECOND_NS)
    assert LIMIT.tokens(drawn.full_at_ns, at_ns=AT) == 10
    assert LIMIT.tokens(drawn.full_at_ns, at_ns=AT + 3 * SECOND_NS) == 40
    assert LIMIT.tokens(drawn.full_at_ns, at_ns=AT + 3600 * SECOND_NS) == 600
    rest = draw(LIMIT, drawn.full_at_ns, wanted=60, at_ns=AT)
    assert rest == Draw(10, AT + 60 * SECOND_NS)
    assert draw(LIMIT, rest.full_at_ns, wanted=1, at_ns=AT) == Draw(0, rest.full_at_ns)
    due = LIMIT.first_token_at_ns(rest.full_at_ns)
    assert due == AT + SECOND_NS // 10
    assert [LIMIT.tokens(rest.full_at_ns, at_ns=at) for at in (due - 1, due)] == [0, 1]


def test_many_tokens_round_once() -> None:
    """A seventh of a second is no whole number of nanoseconds; seven of them are a second."""
    assert draw(RateLimit(7, 1), 0, wanted=7, at_ns=AT) == Draw(7, AT + SECOND_NS)


def test_a_bucket_that_could_never_be_so_empty_is_empty_and_no_more() -> None:
    """Another limit before, or a clock that was put back: after one window all is well."""
    drawn = draw(LIMIT, AT + 3600 * SECOND_NS, wanted=1, at_ns=AT)
    assert drawn == Draw(0, AT + 60 * SECOND_NS)


LIMITS = st.builds(RateLimit, st.integers(1, 1_000_000), st.integers(1, 86_400))
STEPS = st.lists(st.tuples(st.integers(0, 3 * SECOND_NS), st.integers(1, 1000)), max_size=50)


@given(LIMITS, STEPS)
def test_in_no_time_a_bucket_gives_more_than_its_limit_and_what_came_in_that_time(
    limit: RateLimit, steps: list[tuple[int, int]]
) -> None:
    """From any draw to any later one; rounding gives away less than a nanosecond's worth per draw."""
    at, full_at, given_at = AT, 0, []
    for pause, wanted in steps:
        at += pause
        drawn = draw(limit, full_at, wanted=wanted, at_ns=at)
        assert drawn.tokens <= wanted
        assert full_at <= drawn.full_at_ns <= at + limit.window_ns
        full_at = drawn.full_at_ns
        given_at.append((at, drawn.tokens))
    for i, (start, _) in enumerate(given_at):
        came = 0
        for end, tokens in given_at[i:]:
            came += tokens
            assert (came - limit.requests) * limit.window_ns <= (end - start + len(steps)) * limit.requests


@given(LIMITS, st.integers(0, 86_400 * SECOND_NS))
def test_the_first_token_comes_when_it_is_said_to_come(limit: RateLimit, missing_ns: int) -> None:
    full_at = AT + min(missing_ns, limit.window_ns)
    due = limit.first_token_at_ns(full_at)
    assert limit.tokens(full_at, at_ns=due) >= 1
    assert limit.tokens(full_at, at_ns=due - 1) == 0
