"""How many requests an API key may send in a time: the limit, how it is written, and the bucket that counts it.

The bucket is the generic cell rate algorithm (ITU-T I.371, as virtual scheduling), in integers. A limit of n requests
per window of w nanoseconds is a bucket of n tokens that fills at n per w. All there is to know of it is when it will be
full, F, the algorithm's theoretical arrival time:

    tokens(t) = floor((w - max(F - t, 0)) * n / w)
    k tokens taken at t:  F <- max(F, t) + floor(k * w / n)

So in any time of length T a bucket gives at most n + T * n / w tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

RATE_LIMIT_VARIABLE = "WARDLINE_RATE_LIMIT"
MAX_REQUESTS = 1_000_000
WINDOWS_S: Mapping[str, int] = {"s": 1, "min": 60, "h": 3600, "day": 86_400}
SECOND_NS = 1_000_000_000
_LIMIT = re.compile(rf"([0-9]{{1,7}})/({'|'.join(WINDOWS_S)})")


@dataclass(frozen=True)
class RateLimit:
    """How many requests a caller may send in a time; all of them at once, too, after as long without any.

    Raises:
        ValueError: `requests` or `window_s` is out of its range.
    """

    requests: int
    """1 to 1,000,000. A request counts one, however many items it holds."""
    window_s: int
    """1 to 86,400 seconds."""

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if not 1 <= self.requests <= MAX_REQUESTS:
            raise ValueError(f"requests is {self.requests}; allowed: 1 to {MAX_REQUESTS}")
        if not 1 <= self.window_s <= WINDOWS_S["day"]:
            raise ValueError(f"window_s is {self.window_s}; allowed: 1 to {WINDOWS_S['day']}")

    def __str__(self) -> str:
        """Return it as `parse_rate_limit` reads it, such as `600/min`; in words where its window has no unit."""
        unit = next((unit for unit, seconds in WINDOWS_S.items() if seconds == self.window_s), None)
        return f"{self.requests} per {self.window_s} s" if unit is None else f"{self.requests}/{unit}"

    @property
    def window_ns(self) -> int:
        """The window in nanoseconds."""
        return self.window_s * SECOND_NS

    @property
    def interval_ns(self) -> int:
        """Time in which one token comes, rounded up."""
        return -(-self.window_ns // self.requests)

    def tokens(self, full_at_ns: int, *, at_ns: int) -> int:
        """Tokens at a time, 0 to `requests`, in the bucket that will be full at `full_at_ns`."""
        missing_ns = max(full_at_ns - at_ns, 0)
        return max(self.window_ns - missing_ns, 0) * self.requests // self.window_ns

    def first_token_at_ns(self, full_at_ns: int) -> int:
        """When the bucket that will be full at `full_at_ns` gets its first token."""
        return full_at_ns - self.window_ns + self.interval_ns


@dataclass(frozen=True)
class Draw:
    """What a bucket gave."""

    tokens: int
    full_at_ns: int
    """When the bucket will now be full."""


def draw(limit: RateLimit, full_at_ns: int, *, wanted: int, at_ns: int) -> Draw:
    """Take up to `wanted` tokens from the bucket that will be full at `full_at_ns`, by this module's formula."""
    # Full later than a window from now is no state of this bucket: its limit was another one, or a clock was put back.
    start_ns = min(max(full_at_ns, at_ns), at_ns + limit.window_ns)
    tokens = min(wanted, limit.tokens(start_ns, at_ns=at_ns))
    return Draw(tokens, start_ns + tokens * limit.window_ns // limit.requests)


def parse_rate_limit(text: str) -> RateLimit:
    """Return the limit that a text such as `600/min` or `10/s` states; the units are s, min, h and day.

    Raises:
        ValueError: it states none.
    """
    found = _LIMIT.fullmatch(text.strip())
    if found is None:
        units = ", ".join(WINDOWS_S)
        raise ValueError(f"rate limit is {text!r}; allowed: requests/unit such as 600/min, with the units {units}")
    return RateLimit(int(found[1]), WINDOWS_S[found[2]])


def rate_limit_from(environment: Mapping[str, str]) -> RateLimit | None:
    """Return the limit of every API key that WARDLINE_RATE_LIMIT states; None, no limit, where it is not set.

    Raises:
        ValueError: it states none.
    """
    text = environment.get(RATE_LIMIT_VARIABLE, "")
    try:
        return parse_rate_limit(text) if text else None
    except ValueError as error:
        raise ValueError(f"{RATE_LIMIT_VARIABLE}: {error}") from error
