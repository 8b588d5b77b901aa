"""The page of the report on Perspective's scale, and its figures for docs/perspective.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval import plots
from eval.page import Section, SectionBuilder, interval, number, percent, render
from eval.sections.cells import Part, rate, signed

PERSPECTIVE = "perspective"
"""Name of the block of docs/perspective.md."""
HEADERS = (
    "attribute", "n", "threshold", "scored near it: raters who see it", "n near", "flagged", "raters would flag",
    "of the flagged, seen by half or more", "n flagged", "recall", "scale error", "without the mapping",
)  # fmt: skip
SCALES = {
    "unmapped": "no mapping",
    "mapped": "the mapping, other groups",
    "without_source": "the mapping, other sources",
    "same_share": "equal shares (dropped)",
}
"""Key of the fit's record -> what it is."""


def page(report: Part) -> str:
    """Return the page of a report document."""
    bundle = report["bundle"]
    meta = [
        f"{report['created']} · n = {report['n']} rows · seed {report['seed']}" + (" · quick run" * report["quick"]),
        f"bundle {bundle['name']} · sha256 {bundle['digest']}",
    ]
    parts = [_meaning, _scale, _sources, _benign, _heads, _severe, _fit]
    return render(report["title"], meta=meta, sections=[part(report) for part in parts])


def perspective_results(report: Part) -> str:
    """Return the figures of docs/perspective.md as Markdown."""
    bundle = report["bundle"]
    stamp = (
        f"Bundle `{bundle['name']}` (sha256 `{bundle['digest'][:12]}`), {report['created']}, seed {report['seed']}"
        f"{', quick run' if report['quick'] else ''}; every source weighted to be half and half; 95% intervals over "
        "groups of rows. The whole report: `eval/reports/perspective.html`."
    )
    headers = [
        "Attribute", "Threshold", "Scored within .05 of it: share of raters who see it", "Flagged",
        "Raters would flag", "Of the flagged, seen by half or more", "Scale error, without the mapping",
    ]  # fmt: skip
    rows = [
        [f"{title}, {record['attribute']}, n = {record['n']}", number(float(t), 1), *_docs_cells(record, t)]
        for key, title in (("dev", "dev"), ("rtplx", "RTP-LX"))
        for record in report[key]
        for t in record["mapped"]["thresholds"]
    ]
    lines = [headers, ["---", *["---:"] * (len(headers) - 1)], *rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{stamp}\n\n{table}\n\n{_benign_sentence(report)}"


def _docs_cells(record: Part, t: str) -> list[str]:
    at, ends = record["mapped"]["thresholds"][t], record["intervals"][t]
    return [
        f"{number(at['fraction_near'], 2)} ({interval(ends['fraction_near'])}; n = {at['n_near']})",
        f"{percent(at['flagged'])}",
        percent(at["raters"]),
        f"{number(at['precision'], 2)} ({interval(ends['precision'])}; n = {at['n_flagged']})",
        f"{number(record['mapped']['scale_error'])}, {number(record['unmapped']['scale_error'])}",
    ]


def _benign_sentence(report: Part) -> str:
    said = [
        f"{part['name']} (n = {part['n']}): " + ", ".join(
            f"{percent(share['rate'])} at {number(float(t), 1)}" for t, share in part["thresholds"].items()
        )
        for part in report["benign"]["all"]
    ]  # fmt: skip
    return f"Flagged for `TOXICITY` without reason, dev: {'; '.join(said)}."


def _meaning(report: Part) -> Section:
    fitted = report["fit"].get("TOXICITY", {})
    points = [{"title": name, "points": points} for name, points in report["points"].items()]
    return (
        SectionBuilder("What is mapped to what")
        .text(
            "A score of Perspective's is the expected share of readers who see the attribute in a comment, calibrated "
            "by isotonic regression on comments of which half have it. Ours is made the same way from our heads' "
            f"probabilities, on {fitted.get('n', 0)} rows (TOXICITY) of the training data that the heads had not seen. "
            "Raters are three in most rows: a fraction of one row is coarse, and only means of many say anything. All "
            "shares here are weighted: in every source, rows that half or more of the raters saw the attribute in "
            "weigh as much as the others together. In a stream with fewer such comments less is flagged, and a smaller "
            "share of it rightly; so it was with Perspective."
        )
        .figure(
            plots.curves(points, name="mapping", x="probability", y="score"),
            caption="The mapping of each attribute. Across: what the heads say; up: what is answered.",
        )
        .build()
    )


def _scale(report: Part) -> Section:
    built = SectionBuilder("Do the usual thresholds keep their meaning?").text(
        "If a threshold means what it says, then of the rows scored within .05 of it that share of raters sees the "
        "attribute. Neither set was fitted on. dev: open rows that people wrote, in the sources of the fit. RTP-LX: "
        "prompts in 28 locales; the heads were trained on other prompts of the set"
        + ("." if report["saw_rtplx"] else ", but not those of this bundle.")
        + " Precision and recall are against fractions of few raters, so that 1 cannot be reached."
    )
    for key, title in (("dev", "dev"), ("rtplx", "RTP-LX"), ("rtplx_english", "RTP-LX, English alone")):
        rows = [_scale_row(record, t) for record in report[key] for t in record["mapped"]["thresholds"]]
        built.table(HEADERS, rows, caption=f"The usual thresholds, {title}; in brackets 95%.")
    for key, title in (("dev", "dev"), ("rtplx", "RTP-LX")):
        records = [
            {"head": r["attribute"], "n": r["n"], "ece": r["mapped"]["scale_error"], "bins": r["bins"]}
            for r in report[key]
        ]
        built.figure(
            plots.reliability(records, name=f"scale{key}"),
            caption=f"Mapped score and share of raters, {title}. Across: mean score of a bin; up: the mean share of "
            "raters who see the attribute. ECE is the scale error; the grey line is a scale that holds.",
        )
    return built.build()


def _scale_row(record: Part, t: str) -> list[str]:
    at, ends = record["mapped"]["thresholds"][t], record["intervals"][t]
    return [
        record["attribute"],
        str(record["n"]),
        number(float(t), 1),
        f"{number(at['fraction_near'], 2)} ({interval(ends['fraction_near'])})",
        str(at["n_near"]),
        f"{percent(at['flagged'])} ({interval(ends['flagged'])})",
        percent(at["raters"]),
        f"{number(at['precision'], 2)} ({interval(ends['precision'])})",
        str(at["n_flagged"]),
        f"{number(at['recall'], 2)} ({interval(ends['recall'])})",
        number(record["mapped"]["scale_error"]),
        number(record["unmapped"]["scale_error"]),
    ]


def _sources(report: Part) -> Section:
    rows = [
        [r["attribute"], r["source"], r["licence"], str(r["n"]), *_near(r["thresholds"]), number(r["scale_error"])]
        for r in report["sources"]
    ]
    return (
        SectionBuilder("Source by source (dev)")
        .text(
            "How far one mapping fits all. rtplx_completions is text that language models wrote after toxic prompts: "
            "no comment, not fitted on, and scored far too high. Rows tagged sa are of a licence that nothing shipped "
            "may learn from: no head saw their source."
        )
        .table(
            ["attribute", "source", "licence", "n", *_near_headers(), "scale error"],
            rows, caption="Share of raters over rows scored within .05 of a threshold, and how many rows those are.",
        )
        .build()
    )  # fmt: skip


def _benign(report: Part) -> Section:
    built = SectionBuilder("Flagged without reason (TOXICITY, dev)").text(
        "Rows labelled not toxic, most of them by one label only and from sets collected for their abuse; and ads, "
        "headlines, listings and SMS, which nobody labelled for toxicity."
    )
    part = report["benign"]
    for title, records in part["parts"].items():
        total = next(record for record in part["all"] if record["name"] == title)
        rows = [[r["name"], *_rates(r["thresholds"])] for r in [*records, {**total, "name": "all"}]]
        headers = ["source", *(cell for t in _thresholds(report) for cell in (f"at {t}", "rests on"))]
        built.table(headers, rows, totals=1, caption=f"Share flagged: {title}.", narrow=True)
    return built.build()


def _heads(report: Part) -> Section:
    fitted = [record for each in report["fit"].values() for record in each.get("heads", [])]
    rows = [
        [title, r["attribute"], " x ".join(r["heads"]), str(r["n"]), number(r["auc"]), _ends(r["gain"])]
        for title, records in (("fit", fitted), ("dev", report["heads"]["dev"]), ("RTP-LX", report["heads"]["rtplx"]))
        for r in records
    ]
    rows += [
        ["HateCheck", "IDENTITY_ATTACK", " x ".join(r["heads"]), str(r["n"]), number(r["auc"]), "–"]
        for r in report["hatecheck"]
    ]
    return (
        SectionBuilder("Which heads stand for an attribute")
        .text(
            "INSULT and IDENTITY_ATTACK could be one head or two. The rows of the fit decided: the geometric mean of "
            "the attribute's own head and toxic ranks what raters saw there better than either alone. The other rows "
            "show what the choice gains and costs; HateCheck's cases are labelled by what hate is, not by readers. The "
            "first line of each attribute is what is served."
        )
        .table(
            ["rows", "attribute", "heads", "n", "AUC", "AUC less that of the served, 95%"],
            rows,
            caption="Ranking of rows that half or more of the raters saw the attribute in; mean over sources, paired "
            "bootstrap over groups.",
        )
        .build()
    )


def _ends(value: Part | None) -> str:
    if value is None or value["low"] is None:
        return "–"
    return f"{signed(value['low'])} to {signed(value['high'])}"


def _severe(report: Part) -> Section:
    part = report["severe"]
    rows = [
        [title, *_near(part[key]["thresholds"]), number(part[key]["scale_error"])]
        for key, title in (("unmapped", "no mapping"), ("mapped", "TOXICITY's mapping, which is served"))
    ]
    return (
        SectionBuilder("SEVERE_TOXICITY")
        .text(
            f"No rows we may fit on say how toxic a text is. RTP-LX's raters gave five steps; {part['n']} prompts have "
            "them, and a rater who gave 4 or 5 is taken to say severe. AUC "
            f"{number(part['auc'])}. The attribute takes TOXICITY's mapping, under which it stays at or below TOXICITY."
        )
        .table(["scale", *_near_headers(), "scale error"], rows, caption="As source by source, above.")
        .build()
    )


def _fit(report: Part) -> Section:
    built = SectionBuilder("The rows of the fit, cross-validated").text(
        "What the mapping was chosen by, on training rows scored by heads that had not seen them. Equal shares: the "
        "scale that flags as many rows as raters would; .7, .8 and .9 become one cut, and far fewer raters than they "
        "say see the attribute in what it flags."
    )
    rows = []
    for attribute, record in report["fit"].items():
        for key, title in SCALES.items():
            if found := record.get(key):
                shares = [percent(at["flagged"]) for at in found["thresholds"].values()]
                cells = [*_near(found["thresholds"]), *shares, number(found["scale_error"])]
                rows.append([attribute, title, str(record["n"]), *cells])
    headers = ["attribute", "scale", "n", *_near_headers(), *(f"flagged at {t}" for t in _thresholds(report))]
    return built.table([*headers, "scale error"], rows, caption="Means over held-out rows.", narrow=True).build()


def _near_headers() -> list[str]:
    return ["near .7", "near .8", "near .9"]


def _thresholds(report: Part) -> list[str]:
    return [number(float(t), 1) for t in report["benign"]["all"][0]["thresholds"]]


def _near(thresholds: Mapping[str, Any]) -> list[str]:
    return [f"{number(at['fraction_near'], 2)} (n = {at['n_near']})" for at in thresholds.values()]


def _rates(thresholds: Mapping[str, Any]) -> Sequence[str]:
    return [cell for share in thresholds.values() for cell in rate(share)]
