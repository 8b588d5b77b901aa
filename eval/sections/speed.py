"""How fast the bundles are beside each other."""

from __future__ import annotations

from eval.page import Section, SectionBuilder
from eval.sections.cells import Part


def speed(report: Part) -> Section:
    """Return texts and tokens per second, and their ratios."""
    built, part = SectionBuilder("Speed"), report["speed"]
    if part is None:
        return built.text("No bundle was timed in this run.").build()
    machine, n, rounds = part["machine"], part["lines"][0]["n"], part["rounds"]
    load = "" if machine["load"] is None else f"; {machine['load']:.1f} processes wanted a core in the minute before"
    built.text(
        f"The frozen int8 files of the bundles, each on {part['threads']} thread{'s' * (part['threads'] > 1)}, encode "
        f"the same {n} NTREX sentences, the varieties taking turns, and the {n} English sentences they translate. "
        f"{rounds} round{'s' * (rounds > 1)} after one to warm up; the encoders take turns, the other way round in "
        "every second round. Figures are medians over the rounds; tokens include the special ones."
    )
    built.text(
        "Only the ratios mean anything: texts and tokens per second are those of one machine, shared with other work "
        f"({machine['processor']}, {machine['cores']} cores{load}). A ratio is of texts per second to the first "
        "encoder's in the same round, above 1 where an encoder is faster."
    )
    rows = [
        [line["line"], each["name"], str(line["n"]), str(each["tokens"]), *_figures(each)]
        for line in part["lines"]
        for each in line["encoders"]
    ]
    headers = ["texts", "encoder", "n", "tokens", "texts/s", "tokens/s", "ratio", "least to most"]
    return built.table(headers, rows, caption="Speed of the bundles, ratio to the first one.").build()


def _figures(each: Part) -> list[str]:
    ratio = each["ratio"]
    return [
        f"{each['texts_per_s']['median']:.0f}",
        f"{each['tokens_per_s']['median']:.0f}",
        f"{ratio['median']:.2f}",
        f"{ratio['min']:.2f} to {ratio['max']:.2f}",
    ]
