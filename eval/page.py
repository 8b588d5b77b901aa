"""One self-contained HTML page: numbered sections and figures, tables, a table of contents and a list of figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

CSS = """
:root { color-scheme: light; }
body { margin: 0 auto; padding: 2.5rem 1.5rem 6rem; max-width: 60rem; background: #fff; color: #1c1f24;
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.9rem; margin: 0 0 .3rem; } h2 { font-size: 1.3rem; margin: 3rem 0 .6rem; }
p { max-width: 46rem; } p.meta { color: #555c66; font-size: .92rem; overflow-wrap: anywhere; }
nav { border: 1px solid #dde1e6; border-radius: 6px; padding: .8rem 1.4rem; margin: 1.5rem 0; columns: 2;
      font-size: .93rem; }
nav h2 { font-size: 1rem; margin: 0 0 .3rem; break-after: avoid; } nav ol { margin: 0 0 .8rem; padding-left: 1.4rem; }
a { color: #24527f; } figure { margin: 1.6rem 0; } figure svg { max-width: 100%; height: auto; }
figcaption, caption { color: #3b414a; font-size: .9rem; text-align: left; padding: .3rem 0 .5rem; max-width: 46rem; }
.scroll { overflow-x: auto; margin: 1.2rem 0; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .7rem .22rem 0; text-align: right; white-space: nowrap; border-bottom: 1px solid #eceef1; }
th { font-weight: 600; border-bottom: 1px solid #9aa1ab; vertical-align: bottom; white-space: normal; }
table.narrow td { white-space: normal; }
th[colspan] { border-bottom: 0; padding-left: 1.2rem; }
th:first-child, td:first-child { text-align: left; }
tr.total td { font-weight: 600; border-top: 1px solid #9aa1ab; }
"""


@dataclass(frozen=True)
class Section:
    """One section of the page."""

    title: str
    """Its heading."""
    parts: tuple[str, ...]
    """HTML of its paragraphs, tables and figures, figures still without a number."""
    figures: tuple[str, ...] = ()
    """The figures' captions in their order."""


@dataclass
class SectionBuilder:
    """Collects the parts of one section."""

    title: str
    parts: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)

    def text(self, text: str) -> SectionBuilder:
        """Add a paragraph of plain text."""
        self.parts.append(f"<p>{escape(text)}</p>")
        return self

    def table(
        self,
        headers: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        caption: str,
        totals: int = 0,
        groups: Sequence[tuple[str, int]] = (),
        narrow: bool = False,
    ) -> SectionBuilder:
        """Add a table.

        Args:
            headers: one per column.
            rows: the cells.
            caption: stands above.
            totals: how many of the last rows stand out.
            groups: a line above the headers: titles, and over how many columns each stands.
            narrow: break lines within cells rather than let the table be wider than the page.
        """
        head = "".join(f'<th scope="col">{escape(header)}</th>' for header in headers)
        if groups:
            over = "".join(f'<th scope="colgroup" colspan="{n}">{escape(title)}</th>' for title, n in groups)
            head = f"{over}</tr>\n<tr>{head}"
        cells = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
        plain, total = cells[: len(rows) - totals], cells[len(rows) - totals :]
        body = "".join(f"<tr>{row}</tr>\n" for row in plain) + "".join(
            f'<tr class="total">{row}</tr>\n' for row in total
        )
        kind = ' class="narrow"' if narrow else ""
        self.parts.append(
            f'<div class="scroll"><table{kind}><caption>{escape(caption)}</caption>'
            f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"
        )
        return self

    def figure(self, svg: str, *, caption: str) -> SectionBuilder:
        """Add a figure of trusted SVG."""
        self.parts.append(f"<figure>{svg}<figcaption>{{figure}}{escape(caption)}</figcaption></figure>")
        self.figures.append(caption)
        return self

    def build(self) -> Section:
        """Return the section."""
        return Section(self.title, tuple(self.parts), tuple(self.figures))


def render(title: str, *, meta: Sequence[str], sections: Sequence[Section]) -> str:
    """Return the page.

    Args:
        title: heading and window title.
        meta: lines under the heading (date, seed, n, hash).
        sections: in their order.
    """
    contents = "".join(f'<li><a href="#s{i}">{escape(s.title)}</a></li>' for i, s in enumerate(sections, 1))
    body, listed, number = [], [], 0
    for i, section in enumerate(sections, 1):
        body.append(f'<section id="s{i}"><h2>{i}. {escape(section.title)}</h2>')
        captions = iter(section.figures)
        for part in section.parts:
            if part.startswith("<figure>"):
                number += 1
                caption = next(captions).split(".")[0]
                listed.append(f'<li><a href="#f{number}">{escape(caption)}</a></li>')
                part = part.replace("<figure>", f'<figure id="f{number}">', 1).replace(
                    "{figure}", f"Figure {number}. ", 1
                )
            body.append(part)
        body.append("</section>")
    lines = "".join(f'<p class="meta">{escape(line)}</p>' for line in meta)
    figures = f"<h2>Figures</h2><ol>{''.join(listed)}</ol>" if listed else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n{lines}\n"
        f"<nav><h2>Contents</h2><ol>{contents}</ol>{figures}</nav>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def number(value: float | None, digits: int = 3) -> str:
    """Return a share such as .812 without its leading zero; a dash for a missing value."""
    if value is None:
        return "–"
    return f"{value:.{digits}f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """Return a share as per cent with one decimal; a dash for a missing value."""
    return "–" if value is None else f"{100 * value:.1f}%"


def interval(value: dict[str, float | None] | None) -> str:
    """Return an interval such as `.71 to .84`; a dash without one."""
    if value is None or value.get("low") is None:
        return "–"
    return f"{number(value['low'], 2)} to {number(value['high'], 2)}"
