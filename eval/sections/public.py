"""The summary, and the public rows held out by group."""

from __future__ import annotations

from eval import plots
from eval.page import Section, SectionBuilder, interval, number, percent
from eval.sections.cells import Part, gain, rate, signed

DEV_HEADERS = (
    "head", "n", "positives", "AP", "baseline", "gain", "AUC", "recall at 90% precision", "95%", "ECE", "Brier",
)  # fmt: skip


def summary(report: Part) -> Section:
    """Return the figures that stand for the rest."""
    public, ads = report["dev"], report["ads_dev"]
    english, wrong, safe = public["macro_english"], ads["false_positives"], report["xstest"]
    ads_base = f"95% {interval(ads['macro_english']['interval'])}, n = {ads['n_english']}"
    rows = [
        ["dev, English: macro AP", number(english["ap"]), f"{english['heads']} heads, n = {public['n_english']}"],
        ["the same, character n-gram baseline", number(english["ap_baseline"]), gain(english)],
        ["dev, all languages: macro AP", number(public["macro"]["ap"]), f"n = {public['n']}"],
        ["ads_dev, English: macro AP", number(ads["macro_english"]["ap"]), ads_base],
        ["ads_dev, English: false positives on benign ads", *rate(wrong["english"]["benign"])],
        ["ads_dev, all: false positives on benign ads", *rate(wrong["all"]["benign"])],
        ["HateCheck: AUC of hate", number(report["hatecheck"]["auc"]), f"n = {report['hatecheck']['n']}"],
        ["XSTest: safe prompts flagged by any head", *rate(safe["safe_any"])],
        ["XSTest: safe prompts flagged by a toxic head", *rate(safe["safe_toxic"])],
    ]
    built = SectionBuilder("Summary")
    if report["quick"]:
        built.text("A quick run on thinned suites: it shows that everything runs, not how good the model is.")
    caption = "The main figures; every one is taken apart below."
    return built.table(["what", "value", "rests on"], rows, caption=caption).build()


def dev(report: Part) -> Section:
    """Return the development rows."""
    part = report["dev"]
    rows = [_row(record, record) for record in part["heads"]]
    english = [_row(record, record["english"]) for record in part["heads"] if record["english"]["ap"] is not None]
    baseline = report["baseline"]["kind"] if report["baseline"] else "left out in this run"
    built = SectionBuilder("Public rows held out by group (dev)").text(
        f"AP is average precision, over the rows where the head is known. The baseline is {baseline}, fitted to the "
        "rows the model was trained on. The threshold behind recall at 90% precision is read off these rows: it "
        "describes the ranking and is not the shipped one. ECE has 15 bins of equal mass. A head with * has positives "
        "only: unlabelled rows of other sources stand in as negatives, so its figures tell sources apart as much as "
        "violations."
    )
    for name, table, macro in (
        ("English rows", english, part["macro_english"]),
        ("All languages", rows, part["macro"]),
    ):
        mean = [number(macro[key]) for key in ("ap", "ap_baseline")]
        total = ["mean", "", "", *mean, "", number(macro["auc"]), "", "", "", ""]
        built.table(DEV_HEADERS, [*table, total], totals=1, caption=f"{name}. {gain(macro)}.{_left_out(macro)}")
    if report["wider"]:
        _wider(built, report["wider"])
    built.figure(
        plots.precision_recall(part["heads"], name="devpr"),
        caption="Precision and recall per head, dev. "
        f"All languages, n = {part['n']} rows; the grey line is the share of positives.",
    )
    built.figure(
        plots.reliability(part["heads"], name="devcal"),
        caption="Reliability per head, dev. "
        f"n = {part['n']} rows, equal-mass bins; on the diagonal a probability means what it says.",
    )
    _slices(built, part)
    return built.build()


def _wider(built: SectionBuilder, part: Part) -> None:
    keys = ("ap_english_shipped", "ap_english", "ap_shipped", "ap")
    rows = [[head["head"], *(number(head[key]) for key in keys)] for head in part["heads"]]
    english, every = part["macro_english"], part["macro"]
    means = ["mean", *(number(v) for v in (english["ap_baseline"], english["ap"], every["ap_baseline"], every["ap"]))]
    caption = (
        f"Average precision with rows of more licences ({', '.join(part['licences'])}; {part['name']}), which is not "
        f"shipped. English: {gain(english)}; all: {gain(every)}."
    )
    headers = ["head", "English, shipped", "more licences", "all, shipped", "more licences"]
    built.table(headers, [*rows, means], totals=1, caption=caption)


def _slices(built: SectionBuilder, part: Part) -> None:
    for key, title in (("lang", "language"), ("source", "source"), ("region", "region"), ("kind", "kind")):
        shown = [record for record in part["slices"][key] if record["heads"]]
        if not shown:
            continue
        labels = [f"{record['value']} (n = {record['n']}, {record['heads']})" for record in shown]
        series = {"macro AUC": [record["auc"] for record in shown]}
        built.figure(
            plots.bars(labels, series, name=f"dev{key}", x="macro AUC"),
            caption=f"Macro AUC per {title}, dev. In brackets n and how many heads have at least ten positives and ten "
            "negatives there; other heads are left out. One half is chance.",
        )


def _left_out(macro: Part) -> str:
    names = ", ".join(macro["left_out"])
    return f" Not in the mean, for want of ten positives and negatives: {names}." if names else ""


def _row(record: Part, figures: Part) -> list[str]:
    baseline = figures["ap_baseline"]
    lead = None if baseline is None or figures["ap"] is None else figures["ap"] - baseline
    return [
        record["head"] + (" *" if record["unlabelled_negatives"] else ""),
        str(figures["n"]),
        str(figures["positives"]),
        number(figures["ap"]),
        number(baseline),
        signed(lead),
        number(figures["auc"]),
        percent(figures["recall_at_90"]),
        interval(figures["recall_interval"]),
        number(figures["ece"]),
        number(figures["brier"]),
    ]
