"""The tables of README and model card, generated from a committed report, so that no figure there is typed by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.page import interval, number, percent
from eval.sections.encoder_summary import LINES

HATE_ROWS = {
    "hatecheck": "HateCheck: AUC of hate",
    "multilingual_hatecheck": "Multilingual HateCheck: AUC of hate",
    "hatemojicheck": "HatemojiCheck: AUC of hate",
}
RESULTS, ENCODER = "results", "encoder"
"""Names of the blocks that are written."""


def results(report: Mapping[str, Any]) -> str:
    """Return the README's results as Markdown: main figures, per head, and what the model does badly."""
    return "\n\n".join([_stamp(report), _main(report), _heads(report), _losses(report)])


def card_results(report: Mapping[str, Any]) -> str:
    """Return the model card's results as Markdown: the README's, and per language and disguise besides."""
    return "\n\n".join([results(report), _languages(report), _disguise(report)])


def encoder_results(report: Mapping[str, Any]) -> str:
    """Return an encoder report's main figures as Markdown, one column per encoder."""
    encoders = report["encoders"]
    rows = [[line.title, *(line.shown(each) for each in encoders)] for line in LINES]
    bundle = report["bundle"]
    stamp = (
        f"Bundle `{bundle['name']}` (sha256 `{bundle['digest'][:12]}`), {report['created']}, seed {report['seed']}, "
        f"n = {report['n']} rows{', quick run' if report['quick'] else ''}; 95% intervals over sentences."
    )
    return f"{stamp}\n\n{_table(['Measured', *(each['name'] for each in encoders)], rows)}"


def markers(block: str) -> tuple[str, str]:
    """Return what stands before and after a block."""
    return f"<!-- {block}:start -->", f"<!-- {block}:end -->"


def with_results(text: str, results_text: str, *, block: str = RESULTS) -> str:
    """Return `text` with what stands between the markers of a block replaced.

    Raises:
        ValueError: the markers are missing, doubled or in the wrong order.
    """
    start, end = markers(block)
    if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
        raise ValueError(f"text: found no single pair of markers, expected {start} and then {end}, once each")
    before, after = text.split(start)[0], text.split(end)[1]
    return f"{before}{start}\n{results_text}\n{end}{after}"


def update_file(path: Path, results_text: str, *, block: str = RESULTS) -> bool:
    """Rewrite the results in a file and return whether that changed it."""
    old = path.read_text(encoding="utf-8")
    new = with_results(old, results_text, block=block)
    if new != old:
        path.write_text(new, encoding="utf-8")
    return new != old


def _stamp(report: Mapping[str, Any]) -> str:
    bundle = report["bundle"]
    return (
        f"Bundle `{bundle['name']}` (sha256 `{bundle['digest'][:12]}`), {report['created']}, seed {report['seed']}, "
        f"n = {report['n']} rows{', quick run' if report['quick'] else ''}."
    )


def _main(report: Mapping[str, Any]) -> str:
    dev, ads = report["dev"], report["ads_dev"]
    wrong, safe = ads["false_positives"], report["xstest"]
    english = {record["transform"]: record["loss"] for record in report["robustness"]["english"]["transforms"]}
    rows = [
        *(
            [f"Public rows (dev), {title}: macro AP", number(macro["ap"]),
             f"character n-grams {number(macro['ap_baseline'])}; gain 95% {interval(macro['difference'])}; n = {n}"]
            for title, macro, n in (("English", dev["macro_english"], dev["n_english"]),
                                    ("all languages", dev["macro"], dev["n"]))
        ),
        ["Ads, English: macro AP over heads", number(ads["macro_english"]["ap"]),
         f"95% {interval(ads['macro_english']['interval'])}; n = {ads['n_english']}"],
        ["Ads, all languages: macro AP over heads", number(ads["macro"]["ap"]),
         f"95% {interval(ads['macro']['interval'])}; n = {ads['n']}"],
        ["Ads, English: clean and hard negatives flagged", *_rate(wrong["english"]["benign"])],
        ["Ads, all languages: clean and hard negatives flagged", *_rate(wrong["all"]["benign"])],
        ["Recall lost to disguise, English ads, worst of five", _points(english),
         "; ".join(f"{name} {100 * (loss or 0.0):.1f}" for name, loss in english.items())],
        *(
            [title, number(report[name]["auc"]),
             f"macro F1 {number(report[name]['shipped']['macro_f1'])}, shipped threshold; n = {report[name]['n']}"]
            for name, title in HATE_ROWS.items()
        ),
        ["XSTest, safe prompts flagged by any head", *_rate(safe["safe_any"])],
        *_azure_rows(report),
    ]  # fmt: skip
    return _table(["Measured", "Value", "Beside it"], rows)


def _azure_rows(report: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for model in report["rtplx"]["models"]:
        saw = model["saw_training_rows"]
        for record in model["heads"]:
            if record["auc_azure"] is None or record["head"] == "self_harm":
                continue
            beside = (
                "trained on other rows of the set: no comparison"
                if saw
                else f"Azure Content Safety {number(record['auc_azure'])}"
            )
            title = f"RTP-LX, {record['head']}: macro AUC over locales{', in domain' if saw else ''}"
            rows.append([title, number(record["auc_compared"]), f"{beside}; {record['n_compared']} locales"])
    return rows


def _heads(report: Mapping[str, Any]) -> str:
    dev = {record["head"]: record for record in report["dev"]["heads"]}
    own = {record["head"]: record for record in report["ads_dev"]["heads"]}
    rows = []
    for head in report["thresholds"]:
        public, ad = dev.get(head), own.get(head)
        english = public["english"] if public else None
        rows.append([
            f"{head}{' *' if public and public['unlabelled_negatives'] else ''}",
            number(english["ap"] if english else None), number(english["ap_baseline"] if english else None),
            percent(english["recall_at_90"]) if english and english["ap"] is not None else "–",
            number(english["ece"]) if english and english["ap"] is not None else "–",
            str(english["positives"]) if english else "0",
            number(ad["ap_english"]) if ad else "–", number(ad["ap"]) if ad else "–",
            str(ad["positives"]) if ad else "0",
        ])  # fmt: skip
    headers = [
        "Head",
        "dev en AP",
        "n-grams",
        "recall at 90% precision",
        "ECE",
        "positives",
        "ads en AP",
        "ads AP",
        "positives",
    ]
    note = "\\* positives only: unlabelled rows of other sources stand in as negatives."
    return _table(headers, rows) + "\n\n" + note


def _losses(report: Mapping[str, Any]) -> str:
    """Return where the simple opponent wins, in a sentence."""
    if report["baseline"] is None:
        return "The character n-gram baseline was not fitted in this run."
    lost = [
        f"{record['head']} ({title})"
        for key, title in (("english", "English"), ("", "all languages"))
        for record in report["dev"]["heads"]
        if (figures := record[key] if key else record)["ap"] is not None and figures["ap"] < figures["ap_baseline"]
    ]
    return f"On dev the character n-gram baseline still wins on: {', '.join(lost) or 'no head'}."


def _languages(report: Mapping[str, Any]) -> str:
    rows = [
        [record["lang"], str(record["n"]), number(record["ap_pooled"]), percent(record["caught"]["rate"]),
         percent(record["false_alarms"]["rate"])]
        for record in report["ads_dev"]["languages"]
    ]  # fmt: skip
    return _table(["Language (ads)", "n", "AP, all pairs of ad and head", "violating flagged", "benign flagged"], rows)


def _disguise(report: Mapping[str, Any]) -> str:
    part = report["robustness"]
    rows = [
        [english["transform"], f"{100 * (english['loss'] or 0.0):.1f}", f"{100 * (everything['loss'] or 0.0):.1f}"]
        for english, everything in zip(part["english"]["transforms"], part["all"]["transforms"], strict=True)
    ]
    return _table(["Disguise", "recall lost, English ads (points)", "all ads"], rows)


def _rate(record: Mapping[str, Any]) -> list[str]:
    return [percent(record["rate"]), f"{record['k']} of n = {record['n']}; 95% {interval(record['interval'])}"]


def _points(losses: Mapping[str, float | None]) -> str:
    known = [loss for loss in losses.values() if loss is not None]
    return f"{100 * max(known):.1f} points" if known else "–"


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headers, ["---", *(["---:"] * (len(headers) - 1))], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
