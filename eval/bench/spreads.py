"""How a figure over rounds is shown: as text, and as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

Part = Mapping[str, Any]

BAR_HEIGHT, LABEL_WIDTH, BAR_WIDTH = 26, 340, 360


def spread(value: Part | None, digits: int) -> str:
    """Return `median (least to greatest)`; a dash for a missing value, the median alone for one round."""
    if value is None:
        return "–"
    middle, low, high = (f"{value[name]:.{digits}f}" for name in ("median", "min", "max"))
    return middle if len(value["rounds"]) == 1 else f"{middle} ({low} to {high})"


def bars(values: Sequence[tuple[str, Part]]) -> str:
    """Return horizontal bars as SVG: one per label, with its least and greatest round."""
    longest = max(value["max"] for _, value in values)
    rows = []
    for i, (label, value) in enumerate(values):
        y, scale = i * BAR_HEIGHT, BAR_WIDTH / longest
        low, middle, high = (LABEL_WIDTH + scale * value[name] for name in ("min", "median", "max"))
        rows.append(
            f'<text x="{LABEL_WIDTH - 8}" y="{y + 17}" text-anchor="end">{escape(label)}</text>'
            f'<rect x="{LABEL_WIDTH}" y="{y + 5}" width="{middle - LABEL_WIDTH:.1f}" height="16" fill="#2f5d8a"/>'
            f'<path d="M{low:.1f} {y + 13}H{high:.1f}" stroke="#222222" stroke-width="1.5"/>'
            f'<text x="{high + 6:.1f}" y="{y + 17}">{value["median"]:.1f}</text>'
        )
    width, height = LABEL_WIDTH + BAR_WIDTH + 60, BAR_HEIGHT * len(values)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="12" role="img">{"".join(rows)}</svg>'
    )
