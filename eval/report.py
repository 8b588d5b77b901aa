"""The report of an evaluation: a JSON document and, from it alone, one self-contained HTML page."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.document import write_json
from eval.page import render
from eval.sections import adapters, ads, balance, public, suites

LARGEST_PAGE = 500_000
"""Bytes a page may have: it is committed."""

SECTIONS = (
    public.summary, public.dev, ads.ads, ads.robustness, suites.hate, suites.xstest, suites.rtplx, adapters.fit,
    adapters.regions, balance.balance, ads.faithfulness, ads.language,
)  # fmt: skip
"""The sections in the order of the page."""


@dataclass(frozen=True)
class ReportFiles:
    """Where a report was written."""

    json: Path
    """The document."""
    html: Path
    """The page."""


def page(report: Mapping[str, Any]) -> str:
    """Return the page of a report document."""
    bundle = report["bundle"]
    meta = [
        f"{report['created']} · n = {report['n']} rows · seed {report['seed']}" + (" · quick run" * report["quick"]),
        f"bundle {bundle['name']} · sha256 {bundle['digest']}",
        "versions " + ", ".join(f"{name} {value}" for name, value in bundle["versions"].items()),
        f"thresholds assume {100 * report['prevalence']:g}% violating ads per head",
    ]
    return render(report["title"], meta=meta, sections=[section(report) for section in SECTIONS])


def write_report(
    report: Mapping[str, Any], folder: Path, *, name: str, draw: Callable[[Mapping[str, Any]], str] = page
) -> ReportFiles:
    """Write `<name>.json` and `<name>.html` into `folder` and return where they are.

    Args:
        report: the document.
        folder: made where it is missing.
        name: of both files.
        draw: makes the page of the document.

    Raises:
        ValueError: the page is larger than `LARGEST_PAGE`.
    """
    files = ReportFiles(json=folder / f"{name}.json", html=folder / f"{name}.html")
    write_json(files.json, report)  # first: hours of scoring must not be lost to a fault in drawing
    html = draw(report)
    size = len(html.encode("utf-8"))
    if size > LARGEST_PAGE:
        raise ValueError(f"page: found {size} bytes, allowed {LARGEST_PAGE}; the document is in {files.json}")
    part = files.html.with_name(files.html.name + ".part")
    part.write_text(html, encoding="utf-8")
    os.replace(part, files.html)
    return files
