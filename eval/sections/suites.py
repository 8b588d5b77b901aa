"""The public test suites: hate, over-flagging, and RTP-LX beside Azure Content Safety."""

from __future__ import annotations

from eval import plots
from eval.page import Section, SectionBuilder, interval, number, percent
from eval.sections.cells import Part, rate, signed

HATE_TITLES = {
    "hatecheck": "HateCheck (English)",
    "multilingual_hatecheck": "Multilingual HateCheck",
    "hatemojicheck": "HatemojiCheck",
}


def hate(report: Part) -> Section:
    """Return the functional suites of the hate head."""
    built = SectionBuilder("Functional tests of hate").text(
        "Never trained on. Accuracy is the share of cases on the right side of the shipped escalate threshold, "
        f"{number(report['hatecheck']['threshold'])}; it is fitted for ads at a low prevalence, not for these suites."
    )
    headers = ["suite", "n", "AUC", "AP", "accuracy", "95%", "recall", "false pos.", "macro F1", "macro F1 at .5"]
    rows = [_suite_row(title, report[name]) for name, title in HATE_TITLES.items()]
    built.table(headers, rows, caption="The three suites.")
    multilingual = report["multilingual_hatecheck"]
    headers = ["language", "n", "AUC", "AP", "accuracy", "recall", "false pos.", "macro F1"]
    rows = [_language_row(record) for record in multilingual["languages"]]
    built.table(headers, rows, caption=f"Multilingual HateCheck by language, n = {multilingual['n']}.")
    _function_map(built, report)
    headers = ["function", "truth", "n", "accuracy", "95%", "mean probability"]
    for name, title in HATE_TITLES.items():
        rows = [_function_row(record) for record in report[name]["functions"]]
        built.table(headers, rows, caption=f"{title} by function.")
    return built.build()


def xstest(report: Part) -> Section:
    """Return over-flagging."""
    part = report["xstest"]
    rows = [
        ["safe prompts, any head", *rate(part["safe_any"])],
        [f"safe prompts, a toxic head ({', '.join(part['toxic_heads'])})", *rate(part["safe_toxic"])],
        ["unsafe prompts, any head (they ask for harm; few are toxic text)", *rate(part["unsafe_any"])],
    ]
    built = SectionBuilder("Over-flagging (XSTest)")
    built.table(["what", "flagged", "rests on"], rows, caption="At the shipped escalate thresholds.")
    types = [[record["type"], *rate(record)] for record in part["types"]]
    built.table(["type of safe prompt", "flagged by any head", "rests on"], types, caption="By type.")
    heads = [[record["head"], *rate(record)] for record in part["heads"] if record["k"]]
    caption = "By head; heads that never fire are left out."
    return built.table(["head", "safe prompts flagged", "rests on"], heads, caption=caption).build()


def rtplx(report: Part) -> Section:
    """Return RTP-LX beside Azure Content Safety."""
    part = report["rtplx"]
    built = SectionBuilder("RTP-LX beside Azure Content Safety").text(
        "Means over locales with at least five positives and negatives. Only a model that saw no row of this set in "
        "training stands beside Azure; another is in its own domain. No text of the set is shown: its authors keep it "
        "from crawlers."
    )
    headers = [
        "head",
        "locales",
        "AUC",
        "AP",
        "with Azure",
        "AUC there",
        "Azure AUC",
        "distance",
        "AP there",
        "Azure AP",
    ]
    for model in part["models"]:
        name = f"{model['name']} ({model['digest'][:12]})"
        comparable = not model["saw_training_rows"]
        rows = [_rtplx_row(record, comparable=comparable) for record in model["heads"]]
        lacking = ", ".join(model["excluded_locales"])
        built.table(
            headers,
            rows,
            caption=f"{name}, trained {'without' if comparable else 'with'} RTP-LX rows, "
            f"n = {part['n']}{f'; {lacking} lacks a label and is left out of the means' if lacking else ''}.",
        )
    shown = next((model for model in part["models"] if not model["saw_training_rows"]), part["models"][0])
    for record in shown["heads"]:
        _locale_bars(built, record, comparable=not shown["saw_training_rows"])
    return built.build()


def _suite_row(title: str, part: Part) -> list[str]:
    shipped = part["shipped"]
    return [
        title,
        str(part["n"]),
        number(part["auc"]),
        number(part["ap"]),
        percent(shipped["accuracy"]),
        interval(shipped["accuracy_interval"]),
        percent(shipped["recall"]),
        percent(shipped["false_positive_rate"]),
        number(shipped["macro_f1"]),
        number(part["at_half"]["macro_f1"]),
    ]


def _language_row(record: Part) -> list[str]:
    return [
        record["lang"],
        str(record["n"]),
        number(record["auc"]),
        number(record["ap"]),
        percent(record["accuracy"]),
        percent(record["recall"]),
        percent(record["false_positive_rate"]),
        number(record["macro_f1"]),
    ]


def _function_row(record: Part) -> list[str]:
    return [
        record["function"],
        "hateful" if record["hateful"] else "not hateful",
        str(record["n"]),
        percent(record["rate"]),
        interval(record["interval"]),
        number(record["mean_probability"]),
    ]


def _function_map(built: SectionBuilder, report: Part) -> None:
    english, multilingual = report["hatecheck"], report["multilingual_hatecheck"]
    columns = {record["lang"]: record["functions"] for part in (english, multilingual) for record in part["languages"]}
    names = sorted({name for functions in columns.values() for name in functions})
    values = [[functions.get(name) for functions in columns.values()] for name in names]
    built.figure(
        plots.heat_map(names, list(columns), values, name="hate", x="language", y="function"),
        caption="Accuracy by function and language, HateCheck and Multilingual HateCheck. Per cent at the shipped "
        f"threshold, n = {english['n']} + {multilingual['n']}; blank is below half a per cent or not in the suite.",
    )


def _rtplx_row(record: Part, *, comparable: bool) -> list[str]:
    azure_auc, azure_ap = (record["auc_azure"], record["ap_azure"]) if comparable else (None, None)
    known = azure_auc is not None and record["auc_compared"] is not None
    return [
        record["head"],
        str(record["n_locales"]),
        number(record["auc"]),
        number(record["ap"]),
        str(record["n_compared"]),
        number(record["auc_compared"]),
        number(azure_auc),
        signed(record["auc_compared"] - azure_auc if known else None),
        number(record["ap_compared"]),
        number(azure_ap),
    ]


def _locale_bars(built: SectionBuilder, record: Part, *, comparable: bool) -> None:
    locales = [entry for entry in record["locales"] if entry["auc_azure"] is not None]
    if not locales:
        return
    series = {"this model": [entry["auc_same_rows"] for entry in locales]}
    if comparable:
        series["Azure"] = [entry["auc_azure"] for entry in locales]
    labels = [f"{entry['lang']} (n = {entry['n']}, {entry['positives']})" for entry in locales]
    built.figure(
        plots.bars(labels, series, name=f"rtplx{record['head']}", x="AUC"),
        caption=f"AUC of {record['head']} per locale, RTP-LX. In brackets n and positives.",
    )
