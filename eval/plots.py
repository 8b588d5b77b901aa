"""The figures of a report as SVG text, drawn from the report's own numbers: its JSON is enough to make the page.

Written by hand, element by element: a plotting library's output is five times as large and changes with its version.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

INK, FAINT, SERIES = "#1c1f24", "#d3d8df", ("#2f5d8a", "#c8702a")
LIGHT, DARK, BELOW = (240, 244, 249), (20, 66, 120), (176, 84, 20)
"""The heat map's colours at 0, 1 and -1, as red, green, blue."""

PANEL, GAP, COLUMNS = 112, 52, 4
"""Side of one small multiple, the room around it, and how many stand side by side; all in pixels."""

WIDE, HIGH, BESIDE, ABOVE, ACROSS = 232, 128, 68, 66, 3
"""Width and height of a curve over steps, the room beside and above it, and how many stand side by side."""

MOST_POINTS = 200
"""Points of a curve that are drawn: more cannot be told apart in its width."""

LETTER = 6.1
"""Width of a letter of the labels, on average, in pixels: to leave room for the longest."""

Records = Sequence[Mapping[str, Any]]


def precision_recall(records: Records, *, name: str) -> str:
    """Return small multiples, one precision-recall curve per head; records have head, n, positives, ap and curve."""
    panels = []
    for record in records:
        curve = record["curve"]
        if not curve["recall"]:
            continue
        mark = " *" if record.get("unlabelled_negatives") else ""
        share = record["positives"] / record["n"]
        drawing = _line([0, 1], [share, share], FAINT) + _line(curve["recall"], curve["precision"], SERIES[0])
        titles = (f"{record['head']}{mark}", f"AP {_number(record['ap'])}, {record['positives']} of n = {record['n']}")
        panels.append(_panel(drawing, titles))
    return _multiples(panels, name=name, x="recall", y="precision")


def reliability(records: Records, *, name: str) -> str:
    """Return small multiples, one reliability diagram per head; records have head, n, ece and bins."""
    panels = []
    for record in records:
        if not record["bins"]:
            continue
        x, y = [b["probability"] for b in record["bins"]], [b["share"] for b in record["bins"]]
        dots = "".join(
            f'<circle cx="{_at(PANEL * px)}" cy="{_at(PANEL * (1 - py))}" r="2" fill="{SERIES[0]}"/>'
            for px, py in zip(x, y, strict=True)
        )
        drawing = _line([0, 1], [0, 1], FAINT) + _line(x, y, SERIES[0]) + dots
        mark = " *" if record.get("unlabelled_negatives") else ""
        panels.append(_panel(drawing, (f"{record['head']}{mark}", f"ECE {_number(record['ece'])}, n = {record['n']}")))
    return _multiples(panels, name=name, x="predicted probability", y="share positive")


def bars(labels: Sequence[str], series: Mapping[str, Sequence[float | None]], *, name: str, x: str) -> str:
    """Return horizontal bars, one group per label, at most two series, values in [0, 1]; a missing value is a dash."""
    left, width, bar = _room(labels), 430, 12
    group = bar * max(len(series), 1) + 7
    top = 26 if len(series) > 1 else 8
    bottom = top + group * len(labels)
    parts = [_text(left + width / 2, bottom + 30, x, anchor="middle")]
    parts += [_tick(left + width * value, top, bottom, f"{value:g}") for value in (0, 0.25, 0.5, 0.75, 1)]
    for k, title in enumerate(series if len(series) > 1 else ()):
        parts.append(f'<rect x="{left + 230 * k}" y="4" width="12" height="10" fill="{SERIES[k]}"/>')
        parts.append(_text(left + 230 * k + 17, 13, title))
    for i, label in enumerate(labels):
        y = top + group * i + 3
        parts.append(_text(left - 7, y + (group - 7) / 2 + 4, label, anchor="end"))
        for k, values in enumerate(series.values()):
            value, place = values[i], y + bar * k
            length = width * (value or 0.0)
            parts.append(
                f'<rect x="{left}" y="{place}" width="{_at(length)}" height="{bar - 2}" fill="{SERIES[k % 2]}"/>'
            )
            parts.append(_text(left + length + 4, place + 9, _number(value), size=9.5))
    return _svg("".join(parts), left + width + 45, bottom + 40, name=name)


def heat_map(
    rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float | None]], *, name: str, x: str, y: str
) -> str:
    """Return a heat map of values in [-1, 1] with the number, in hundredths, in every cell; a missing value is blank.

    Values below 0 have a colour of their own.
    """
    wide, high, top = 34, 20, 18
    # The names below lean to the left, the first one the most.
    reach = max((_lean(column) - wide * (j + 0.5) for j, column in enumerate(columns)), default=0.0)
    left = max(_room(rows), math.ceil(reach))
    bottom = top + high * len(rows)
    parts = [_text(left - 7, 11, f"{y} ↓", anchor="end", bold=True)]
    for i, row in enumerate(values):
        parts.append(_text(left - 7, top + high * i + 14, rows[i], anchor="end"))
        for j, value in enumerate(row):
            if value is None:
                continue
            place = f'x="{left + wide * j}" y="{top + high * i}"'
            parts.append(f'<rect {place} width="{wide - 1}" height="{high - 1}" fill="{_shade(value)}"/>')
            if abs(value) >= 0.005:
                ink = "#fff" if abs(value) > 0.5 else INK
                centre, shown = left + wide * (j + 0.5) - 0.5, f"{100 * value:.0f}".replace("-", "−")
                parts.append(_text(centre, top + high * i + 13.5, shown, anchor="middle", size=10, fill=ink))
    for j, column in enumerate(columns):
        parts.append(_text(left + wide * (j + 0.5) + 4, bottom + 12, column, anchor="end", turn=-50))
    fall = math.ceil(0.8 * _room(columns))
    parts.append(_text(left, bottom + fall + 16, f"{x} →", bold=True))
    return _svg("".join(parts), max(left + wide * len(columns), left + 120) + 10, bottom + fall + 26, name=name)


def curves(records: Records, *, name: str, x: str, y: str) -> str:
    """Return small multiples, one curve over its own axes each; records have a title and points [[x, y], ...].

    A point with a missing value is left out. The horizontal axis starts at 0, the vertical one below the lowest point.
    """
    panels = [_curve(record, x=x, y=y) for record in records]
    across, down = WIDE + BESIDE, HIGH + ABOVE
    placed = "".join(
        f'<g transform="translate({BESIDE - 10 + across * (i % ACROSS)} {26 + down * (i // ACROSS)})">{panel}</g>'
        for i, panel in enumerate(panels)
    )
    shown = min(max(len(panels), 1), ACROSS)
    return _svg(placed, across * shown + 14, down * max(1, math.ceil(len(panels) / ACROSS)) + 4, name=name)


def _curve(record: Mapping[str, Any], *, x: str, y: str) -> str:
    points = [(float(px), float(py)) for px, py in record["points"] if px is not None and py is not None]
    # Backwards, so that the last point is always among those kept.
    kept = points[:: -max(1, math.ceil(len(points) / MOST_POINTS))][::-1]
    end = max((px for px, _ in points), default=0.0) or 1.0
    levels = _round_numbers(min((py for _, py in points), default=0.0), max((py for _, py in points), default=1.0))
    low, span = levels[0], levels[-1] - levels[0]
    parts = [_text(0, -10, record["title"], bold=True)]
    for level in levels:
        height = HIGH * (1 - (level - low) / span)
        parts.append(f'<path d="M0 {_at(height)}H{WIDE}" stroke="{FAINT}"/>')
        parts.append(_text(-5, height + 3, f"{level:g}", anchor="end", size=9))
    ticks = [tick for tick in _round_numbers(0.0, end) if tick <= end]
    parts += [_text(WIDE * tick / end, HIGH + 12, f"{tick:g}", anchor="middle", size=9) for tick in ticks]
    parts.append(f'<path d="M0 0V{HIGH}H{WIDE}" fill="none" stroke="#8a8f98"/>')
    line = " ".join(f"{_at(WIDE * px / end)},{_at(HIGH * (1 - (py - low) / span))}" for px, py in kept)
    parts.append(f'<polyline points="{line}" fill="none" stroke="{SERIES[0]}" stroke-width="1.4"/>')
    parts.append(_text(WIDE / 2, HIGH + 26, x, anchor="middle", size=10))
    parts.append(_text(-40, HIGH / 2, y, anchor="middle", size=10, turn=-90))
    return "".join(parts)


def _round_numbers(low: float, high: float, *, most: int = 4) -> list[float]:
    """Return round numbers at even distances, at least two, from one at or below `low` to one at or above `high`."""
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * times for times in (1, 2, 5, 10) if span <= power * times * most * (1 + 1e-9))
    # A little inwards: floating point must not push an end that is round already to the next one.
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * k for k in range(first, max(last, first + 1) + 1)]


def _multiples(panels: Sequence[str], *, name: str, x: str, y: str) -> str:
    step = PANEL + GAP
    height = step * max(1, math.ceil(len(panels) / COLUMNS))
    placed = "".join(
        f'<g transform="translate({34 + step * (i % COLUMNS)} {36 + step * (i // COLUMNS)})">{panel}</g>'
        for i, panel in enumerate(panels)
    )
    axes = _text(0, height + 14, f"across: {x}; up: {y}; both from 0 to 1", size=11)
    return _svg(placed + axes, 34 + step * COLUMNS - 20, height + 22, name=name)


def _panel(drawing: str, titles: tuple[str, str]) -> str:
    frame = f'<path d="M0 0V{PANEL}H{PANEL}" fill="none" stroke="#8a8f98"/>'
    ticks = "".join(
        _text(-5, PANEL * (1 - value) + 3, f"{value:g}", anchor="end", size=9)
        + _text(PANEL * value, PANEL + 11, f"{value:g}", anchor="middle", size=9)
        for value in (0, 0.5, 1)
    )
    head = _text(0, -19, titles[0], bold=True) + _text(0, -7, titles[1], size=9.5)
    return frame + ticks + head + drawing


def _line(x: Sequence[float], y: Sequence[float], colour: str) -> str:
    points = " ".join(f"{_at(PANEL * px)},{_at(PANEL * (1 - py))}" for px, py in zip(x, y, strict=True))
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.4"/>'


def _tick(x: float, top: float, bottom: float, label: str) -> str:
    line = f'<path d="M{_at(x)} {top}V{bottom}" stroke="{FAINT}"/>'
    return line + _text(x, bottom + 14, label, anchor="middle", size=10)


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "",
    size: float = 0,
    fill: str = "",
    bold: bool = False,
    turn: int = 0,
) -> str:
    place = f'x="{_at(x)}" y="{_at(y)}"'
    extra = f' text-anchor="{anchor}"' if anchor else ""
    extra += f' font-size="{size:g}"' if size else ""
    extra += f' fill="{fill}"' if fill else ""
    extra += ' font-weight="600"' if bold else ""
    extra += f' transform="rotate({turn} {_at(x)} {_at(y)})"' if turn else ""
    return f"<text {place}{extra}>{escape(text)}</text>"


def _svg(body: str, width: float, height: float, *, name: str) -> str:
    return (
        f'<svg id="{name}" xmlns="http://www.w3.org/2000/svg" role="img" width="{_at(width)}" height="{_at(height)}" '
        f'viewBox="0 0 {_at(width)} {_at(height)}" font-family="inherit" font-size="11" fill="{INK}">{body}</svg>'
    )


def _shade(value: float) -> str:
    """Return the colour of a value in [-1, 1], light at 0."""
    end = BELOW if value < 0 else DARK
    mixed = (round(low + (high - low) * min(abs(value), 1.0)) for low, high in zip(LIGHT, end, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def _room(labels: Sequence[str]) -> int:
    return math.ceil(LETTER * max((len(label) for label in labels), default=0)) + 14


def _lean(label: str) -> float:
    """Return how far a label that is turned by 50 degrees reaches to the left."""
    return 0.65 * LETTER * len(label)


def _at(value: float) -> str:
    """Return a coordinate to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
