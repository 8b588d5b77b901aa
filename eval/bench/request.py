"""The requests of the bench: the same bytes over HTTP and in process."""

from __future__ import annotations

import json
from collections.abc import Sequence

REGION = "DE"
"""Target region of every ad: one region, as most ads have."""
MAX_ITEMS = 256
"""Items of one request: what the service takes at most."""


def single_bodies(
    ads: Sequence[str], *, n: int, explain: str, run: str, regions: Sequence[str] = (REGION,)
) -> list[bytes]:  # fmt: skip
    """Return n requests of one ad each, the ads in turn, every item under an id of its own."""
    return [_body([ads[i % len(ads)]], first=i, explain=explain, run=run, regions=regions) for i in range(n)]


def batch_bodies(texts: Sequence[str], *, run: str) -> list[bytes]:
    """Return the requests that hold all texts, `MAX_ITEMS` each, without evidence."""
    return [_body(texts[i : i + MAX_ITEMS], first=i, explain="none", run=run) for i in range(0, len(texts), MAX_ITEMS)]


def _body(
    texts: Sequence[str], *, first: int, explain: str, run: str, regions: Sequence[str] = (REGION,)
) -> bytes:  # fmt: skip
    items = [
        {"id": f"{run}-{first + i}", "fields": {"text": text}, "regions": list(regions)} for i, text in enumerate(texts)
    ]
    return json.dumps({"items": items, "explain": explain}).encode()
