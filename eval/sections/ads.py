"""The hand-written ads, and what is asked of the model on them: disguise, evidence, language."""

from __future__ import annotations

from eval import plots
from eval.page import Section, SectionBuilder, interval, number, percent
from eval.sections.cells import Part, points, rate

AD_HEADERS = (
    "head", "positives", "AP", "baseline", "positives, en", "AP, en", "AUC", "precision", "recall", "95%",
)  # fmt: skip


def ads(report: Part) -> Section:
    """Return the hand-written ads."""
    part = report["ads_dev"]
    macro, english = part["macro"], part["macro_english"]
    built = SectionBuilder("Hand-written ads (ads_dev)").text(
        f"{part['n']} ads in {len(part['languages'])} languages, {part['n_english']} of them English, labelled with "
        "all heads; never trained on and never used for thresholds. Precision and recall are at the shipped escalate "
        "thresholds. With so few positives per head only the mean is steady: its 95% interval is "
        f"{interval(macro['interval'])}, for English ads {interval(english['interval'])}."
    )
    means = [number(macro["ap"]), number(macro["ap_baseline"]), "", number(english["ap"]), number(macro["auc"])]
    total = ["mean", "", *means, "", "", ""]
    rows = [_head_row(record) for record in part["heads"]]
    built.table(AD_HEADERS, [*rows, total], totals=1, caption=f"Per head, n = {part['n']} ads.")
    _false_positives(built, part)
    built.figure(
        plots.precision_recall(part["heads"], name="adspr"),
        caption=f"Precision and recall per head, ads. n = {part['n']}; the grey line is the share of positives.",
    )
    _languages(built, part)
    _regions(built, part)
    _confusion(built, part)
    return built.build()


def robustness(report: Part) -> Section:
    """Return what disguise costs."""
    built = SectionBuilder("Disguise").text(
        "Every ad, benign ones too, has about half of its words disguised. All thresholds are then shifted together so "
        "that as many benign ads fire as before; loss is the recall this costs, over pairs of an ad and a true head. "
        "Both readings: the loss if the higher score of the undisguised and the written text counted."
    )
    headers = [
        "transform",
        "recall before",
        "after",
        "95%",
        "loss, points",
        "loss, both readings",
        "after, no shift",
        "false pos.",
        "no shift",
    ]
    for name, title in (("english", "English ads"), ("all", "All ads")):
        part = report["robustness"][name]
        rows = [
            [
                record["transform"],
                percent(record["recall_plain"]),
                percent(record["recall_equal_rate"]),
                interval(record["interval"]),
                points(record["loss"]),
                points(record["loss_both_readings"]),
                percent(record["recall_shipped"]),
                percent(record["false_positive_rate"]),
                percent(record["false_positive_rate_shipped"]),
            ]
            for record in part["transforms"]
        ]
        caption = (
            f"{title}: n = {part['n']} ads, {part['pairs']} pairs, {part['benign']} benign ads; means over "
            f"{part['transforms'][0]['draws']} draws of every disguise."
        )
        built.table(headers, rows, caption=caption)
    return built.build()


def faithfulness(report: Part) -> Section:
    """Return whether the evidence is what the head looked at."""
    part = report["faithfulness"]
    rows = [
        [
            record["head"],
            str(record["n"]),
            number(record["drop_evidence"]),
            number(record["drop_random"]),
            percent(record["wins"]),
            interval(record["interval"]),
            percent(record["wins_best"]),
        ]
        for record in part["heads"]
    ]
    headers = ["head", "n", "drop, evidence", "drop, random", "evidence larger", "95%", "than the best random"]
    caption = f"n = {part['n']} pairs of an ad and a head that fired."
    return (
        SectionBuilder("Faithfulness of the evidence")
        .text(
            "On the ads: how far a head's probability falls when its heaviest evidence span is deleted, and when "
            f"equally long spans at random places of the same field are ({part['random_spans']} draws, their mean). "
            "The evidence is the best of six candidates, so the last column sets it against the best draw."
        )
        .table(headers, rows, caption=caption)
        .build()
    )


def language(report: Part) -> Section:
    """Return the language identifier's accuracy."""
    part = report["language"]
    rows = [
        [code, str(record["n"]), percent(record["accuracy"]), f"{record['mean_characters']:.0f}"]
        for code, record in part["languages"].items()
    ]
    rows.append(["all", str(part["n"]), percent(part["accuracy"]), ""])
    errors = ", ".join(f"{error['stated']} read as {error['found']} ({error['n']})" for error in part["confusions"])
    caption = f"On the text of the ads, n = {part['n']}. Most frequent errors: {errors or 'none'}."
    headers = ["language", "n", "right", "mean characters"]
    return SectionBuilder("Language identifier").table(headers, rows, totals=1, caption=caption).build()


def _head_row(record: Part) -> list[str]:
    return [
        record["head"],
        str(record["positives"]),
        number(record["ap"]),
        number(record["ap_baseline"]),
        str(record["positives_english"]),
        number(record["ap_english"]),
        number(record["auc"]),
        number(record["precision"]),
        number(record["recall"]),
        interval(record["recall_interval"]),
    ]


def _false_positives(built: SectionBuilder, part: Part) -> None:
    kinds = {
        "benign": "clean and hard negatives",
        "clean": "clean",
        "hard_negative": "hard negatives",
        "violating_caught": "violating ads, for comparison",
    }
    rows = [
        [f"{title}, {name}", *rate(part["false_positives"][key][kind])]
        for key, name in (("english", "English"), ("all", "all languages"))
        for kind, title in kinds.items()
    ]
    built.table(
        ["ads on which any head fires", "share", "rests on"], rows, caption="At the shipped escalate thresholds."
    )


def _languages(built: SectionBuilder, part: Part) -> None:
    records = part["languages"]
    series = {
        "AP, all pairs of ad and head": [record["ap_pooled"] for record in records],
        "benign ads on which a head fires": [record["false_alarms"]["rate"] for record in records],
    }
    labels = [f"{record['lang']} (n = {record['n']})" for record in records]
    built.figure(
        plots.bars(labels, series, name="adslang", x="share"),
        caption=f"Ranking and false positives per language, ads. n = {part['n']}; about a dozen ads per language other "
        "than English: read the order, not the digits.",
    )


def _regions(built: SectionBuilder, part: Part) -> None:
    regions = part["regions"]
    series = {
        "violating ads not approved": [record["caught"]["rate"] for record in regions],
        "benign ads not approved": [record["false_alarms"]["rate"] for record in regions],
    }
    pairs = sum(record["n"] for record in regions)
    labels = [f"{record['region']} (n = {record['n']})" for record in regions]
    built.figure(
        plots.bars(labels, series, name="adsregion", x="share"),
        caption="Decisions per region, ads. "
        f"The shipped policy on the scores alone, n = {pairs} pairs of an ad and a region it names.",
    )
    rows = [
        [
            record["region"],
            str(record["n"]),
            _actions(record["violating"]),
            _actions(record["benign"]),
            percent(record["served_caught"]["rate"]),
            percent(record["served_false_alarms"]["rate"]),
        ]
        for record in regions
    ]
    headers = ["region", "n", "violating ads", "benign ads", "served: violating", "served: benign"]
    built.table(
        headers,
        rows,
        caption="Actions per region: approve / limit / escalate / reject. Served: the share not approved by the whole "
        "service, which also escalates what is written in a language it was not measured in.",
    )


def _confusion(built: SectionBuilder, part: Part) -> None:
    rows, heads = part["confusion"]["rows"], part["confusion"]["heads"]
    names = [f"{row['truth']} ({row['n']})" for row in rows]
    built.figure(
        plots.heat_map(
            names, heads, [row["fires"] for row in rows], name="adsconf", x="head that fires", y="true head (ads)"
        ),
        caption=f"Which heads fire on which ads. Per cent of the row's ads, n in brackets, {part['n']} ads in all; an "
        "ad may have several true heads.",
    )
    built.figure(
        plots.heat_map(
            names, heads, [row["also_true"] for row in rows], name="adstrue", x="head that is true", y="true head (ads)"
        ),
        caption=f"Which heads are true together. The figure before, for a perfect model, n = {part['n']} ads.",
    )


def _actions(actions: Part) -> str:
    return " / ".join(str(actions[name]) for name in ("approve", "limit", "escalate", "reject"))
