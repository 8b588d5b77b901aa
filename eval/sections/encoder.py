"""The sections of the encoder report: every figure per encoder, in the order of the document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval import plots
from eval.page import Section, SectionBuilder, interval, number, percent
from eval.sections.cells import Part
from eval.sections.encoder_summary import pools, summary, verdict
from eval.sections.speed import speed
from eval.sections.training import training

TWO = 2
"""Encoders that bars can show side by side; more are drawn as a heat map."""


def ntrex(report: Part) -> Section:
    """Return bitext retrieval among news sentences."""
    part = report["encoders"][0]["ntrex"]
    built = SectionBuilder("Bitext: news sentences (NTREX)").text(
        f"{part['n']} sentence pairs: the same English sentences in {part['n_languages']} varieties. Each sentence is "
        f"looked for in a pool of {pools(part)}, its own variety's. Chance is one in the pool's size; "
        "where k sentences tie for the nearest and the right one is among them, it counts 1/k."
    )
    return _bitext(built, report, key="ntrex").build()


def tatoeba(report: Part) -> Section:
    """Return bitext retrieval among everyday sentences."""
    part = report["encoders"][0]["tatoeba"]
    small = [f"{each['language']} {each['pool']}" for each in part["languages"] if each["pool"] != part["pools"][-1]]
    apart = f" Smaller pools, whose figures are flattered: {', '.join(small)}." if small else ""
    built = SectionBuilder("Bitext: everyday sentences (Tatoeba)").text(
        f"{part['n']} sentence pairs in {part['n_languages']} languages, different sentences in each; pools of "
        f"{pools(part)} sentences, most of them short.{apart}"
    )
    return _bitext(built, report, key="tatoeba").build()


def similarity(report: Part) -> Section:
    """Return the similarity of sentence pairs."""
    part = report["encoders"][0]["similarity"]
    built = SectionBuilder("Similarity (STS-B)").text(
        f"Spearman's rank correlation of the cosine and the score people gave the English pair, n = {part['n']} pairs "
        f"in {len(part['languages'])} languages. The other languages are translations of the English pairs, their "
        "scores the English ones."
    )
    headers = ["language", "n", *["rho", "95%"] * len(report["encoders"])]
    table = _joined(report, "similarity")
    rows = [
        [
            language,
            str(records[0]["n"]),
            *(c for r in records for c in (number(r["spearman"]), interval(r["interval"]))),
        ]
        for language, records in table.items()
    ]
    means = [cell for e in report["encoders"] for cell in (number(e["similarity"]["mean_others"]), "")]
    total = [f"mean of {part['n_others']} without English", "", *means]
    groups = _over(_names(report), 2, before=2)
    built.table(headers, [*rows, total], totals=1, groups=groups, caption="Spearman's rho per language.")
    caption, about = "Spearman per language, STS-B", "Below 0 drawn as 0, "
    return _drawn(built, report, key="similarity", value="spearman", caption=caption, about=about).build()


def topics(report: Part) -> Section:
    """Return the linear probe."""
    part = report["encoders"][0]["topics"]
    built = SectionBuilder("Topics across languages (SIB-200)").text(
        f"A logistic regression on the vectors of {part['n_train']} English sentences of {len(part['labels'])} topics, "
        f"asked about n = {part['n']} held-out sentences, the same in every language. Always naming the most frequent "
        f"topic is right {percent(part['most_frequent'])} of the time."
    )
    headers = ["language", "n", *["accuracy", "95%"] * len(report["encoders"])]
    rows = [
        [
            language,
            str(records[0]["n"]),
            *(c for r in records for c in (percent(r["accuracy"]), interval(r["interval"]))),
        ]
        for language, records in _joined(report, "topics").items()
    ]
    means = [c for e in report["encoders"] for c in (percent(e["topics"]["mean"]), interval(e["topics"]["interval"]))]
    total = [f"mean of {part['n_languages']} without English", "", *means]
    caption, groups = "Accuracy per language; the probe saw English alone.", _over(_names(report), 2, before=2)
    built.table(headers, [*rows, total], totals=1, groups=groups, caption=caption)
    return _drawn(built, report, key="topics", value="accuracy", caption="Accuracy of the probe, SIB-200").build()


def geometry(report: Part) -> Section:
    """Return how the vectors lie."""
    limits = report["encoders"][0]["geometry"]["limits"]
    built = SectionBuilder("Geometry").text(
        "On the NTREX sentences. Effective rank (Roy and Vetterli 2007): how many directions the vectors use. Mean "
        "cosine: of two different sentences of one language. Drift: distance from the English centroid, 0 to 2. "
        "Alignment and uniformity (Wang and Isola 2020): mean squared distance to the English original, and log of "
        "the mean Gaussian potential; both better when lower."
    )
    built.text(
        "An encoder has collapsed in a language with an effective rank below "
        f"{percent(limits['rank_share'])} of the most there can be, a mean cosine above {limits['mean_cosine']:g} or "
        f"a drift above {limits['drift']:g}."
    )
    headers = ["language", "n", "effective rank", "mean cosine", "drift", "alignment", "uniformity"]
    for each in report["encoders"]:
        part = each["geometry"]
        rows = [
            [record["language"], str(record["figures"]["n"]), *_figures(record["figures"])]
            for record in part["languages"]
        ]
        rank, cosine = number(part["all"]["effective_rank"], 1), number(part["all"]["mean_cosine"])
        totals = [["mean without English", "", *_figures(part["mean"])], ["all as one", str(part["n"]), rank, cosine]]
        totals[1] += ["", "", ""]
        built.table(headers, [*rows, *totals], totals=2, caption=f"{each['name']}, d = {part['dim']}.")
        built.text(f"{each['name']}: {verdict(part['collapsed'])}. {'; '.join(part['collapsed'] or [])}")
    return built.build()


def fertility(report: Part) -> Section:
    """Return how finely the tokenizers cut."""
    built = SectionBuilder("Tokens per word").text(
        "On the NTREX sentences, special tokens not counted. A word is what stands between white space; Chinese, "
        "Japanese and Thai write none, so theirs are tokens per character, with a mean of their own. Unknown: share of "
        "the tokens that are the unknown token; a dash where the counter does not tell."
    )
    counted = [each for each in report["encoders"] if each["fertility"]]
    if not counted:
        return built.text("No tokenizer was given in this run.").build()
    headers = ["language", "per", "n", *["tokens", "unknown"] * len(counted)]
    tables = [{r["language"]: r for r in each["fertility"]["languages"]} for each in counted]
    rows = [
        [language, record["unit"], str(record["n"])]
        + [cell for t in tables for cell in (number(t[language]["fertility"], 2), percent(t[language]["unknown"]))]
        for language, record in tables[0].items()
    ]
    totals = [
        ["mean", unit, ""]
        + [cell for e in counted for cell in (number(e["fertility"][f"mean_per_{unit}"], 2), _unknown(e, unit))]
        for unit in ("word", "character")
    ]
    groups = _over([str(each["name"]) for each in counted], 2, before=3)
    caption = "Tokens per word or character."
    return built.table(headers, [*rows, *totals], totals=2, groups=groups, caption=caption).build()


def _bitext(built: SectionBuilder, report: Part, *, key: str) -> SectionBuilder:
    ways = {"accuracy": "both ways", "from_english": "from English", "to_english": "to English"}
    headers = ["language", "pool", *list(ways.values()) * len(report["encoders"])]
    rows = [
        [language, str(records[0]["pool"]), *(percent(record[way]) for record in records for way in ways)]
        for language, records in _joined(report, key).items()
    ]
    means = [cell for each in report["encoders"] for cell in (percent(each[key]["mean"]), "", "")]
    worst = [cell for each in report["encoders"] for cell in (percent(each[key]["worst"]["value"]), "", "")]
    built.table(
        headers, [*rows, ["mean", "", *means], ["worst", "", *worst]], totals=2,
        groups=_over(_names(report), len(ways), before=2),
        caption="Bitext accuracy per language, mean of both directions and each of them.",
    )  # fmt: skip
    sizes = pools(report["encoders"][0][key])
    caption = f"Bitext accuracy per language, {'NTREX' if key == 'ntrex' else 'Tatoeba'}"
    return _drawn(built, report, key=key, value="accuracy", caption=caption, about=f"Pools of {sizes} sentences, ")


def _drawn(
    built: SectionBuilder, report: Part, *, key: str, value: str, caption: str, about: str = ""
) -> SectionBuilder:
    """Add the figure of one value per language and encoder: bars of up to two encoders, a heat map of more."""
    table, names = _joined(report, key), _names(report)
    # What has no length is drawn without one; the table has its sign.
    values = [[None if r[value] is None else max(0.0, r[value]) for r in records] for records in table.values()]
    if len(names) <= TWO:
        series = {name: [row[column] for row in values] for column, name in enumerate(names)}
        svg = plots.bars(list(table), series, name=key, x=value)
    else:
        svg = plots.heat_map(list(table), names, values, name=key, x="encoder", y="language")
    return built.figure(svg, caption=f"{caption}. {about}n = {report['encoders'][0][key]['n']}.")


def _over(names: Sequence[str], columns: int, *, before: int) -> list[tuple[str, int]]:
    """Return the line above the headers: every name over so many columns, after those that are no encoder's."""
    return [("", before), *((name, columns) for name in names)]


def _joined(report: Part, key: str) -> dict[str, list[Part]]:
    """Return language -> its record under every encoder, languages in the first encoder's order."""
    tables: list[Mapping[str, Any]] = [
        {record["language"]: record for record in each[key]["languages"]} for each in report["encoders"]
    ]
    return {language: [table[language] for table in tables] for language in tables[0]}


def _names(report: Part) -> list[str]:
    return [str(each["name"]) for each in report["encoders"]]


def _figures(record: Part) -> list[str]:
    names = ("mean_cosine", "drift", "alignment", "uniformity")
    return [number(record["effective_rank"], 1), *(number(record[name]) for name in names)]


def _unknown(encoder: Part, unit: str) -> str:
    """Return the mean share of unknown tokens, once: under the first of the two means."""
    return percent(encoder["fertility"]["mean_unknown"]) if unit == "word" else ""


SECTIONS = (summary, ntrex, tatoeba, similarity, topics, geometry, fertility, speed, training)
"""In the order of the page."""
