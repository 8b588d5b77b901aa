"""What balancing the heads' gradients in training changes, and which heads pull apart without it."""

from __future__ import annotations

from eval import plots
from eval.page import Section, SectionBuilder, interval, number
from eval.sections.cells import Part, signed

SIDES = (("public", "public rows"), ("ads", "our own ads"))
"""Key of a side in the report -> what the page calls it."""


def balance(report: Part) -> Section:
    """Return every strategy's scores beside those of the static weights, and the cosines of the heads' gradients."""
    built, part = SectionBuilder("Balancing the gradients of the heads"), report.get("balance")
    if not part:
        return built.text(
            "No strategies were compared for this report: `python wardline.py train balance` does so."
        ).build()
    n = part["n"]
    built.text(
        "All heads share the adapter and the pooling block, so what helps one may harm another. A small first stage "
        "was trained with each strategy over families of heads, on the same rows in the same order: static weights by "
        "effective counts; PCGrad, which projects conflicts between the families' gradients away; GradNorm, which "
        f"weighs the families so that they learn at one pace. {_verdict(part)} "
        f"({part['command']}, seed {part['seed']}, n = {n['sample']:,} rows learnt from and {n['held_out']:,} held "
        "out.)"
    )
    _strategies(built, part)
    _pulls(built, part)
    return built.build()


def _verdict(part: Part) -> str:
    better = [name for name, each in part["strategies"].items() if each.get("beats_static")]
    if not better:
        return "Neither beats the static weights, so neither ships."
    return f"{' and '.join(better)} {'beats' if len(better) == 1 else 'beat'} the static weights."


def _strategies(built: SectionBuilder, part: Part) -> None:
    rows = []
    for name, each in part["strategies"].items():
        cells = [name]
        for side, _ in SIDES:
            scored, gain = each[side], each.get("gain", {}).get(side)
            cells += [f"{number(scored['macro_ap'])}, 95% {interval(scored)}"]
            cells += [f"{signed(gain['mean'])}, 95% {_narrow(gain)}" if gain else ""]
        rows.append([*cells, {True: "yes", False: "no"}.get(each.get("beats_static"), "")])
    built.table(
        ["strategy", *["macro AP", "gain"] * len(SIDES), "beats static"], rows,
        groups=[("", 1), *((f"held-out {name}", 2) for _, name in SIDES), ("", 1)],
        caption="Gain: over the static weights, paired bootstrap over groups. A strategy beats them where the interval "
        "of its gain lies above 0 on public rows and not below 0 on our own ads. One run of each: the intervals are "
        "over rows, not over seeds.",
    )  # fmt: skip
    names = list(part["strategies"])
    first = part["strategies"][names[0]]["public"]["ap"]
    heads = [[head, *(number(part["strategies"][name]["public"]["ap"].get(head)) for name in names)] for head in first]
    built.table(["head", *names], heads, caption="Average precision of each head on held-out public rows.")


def _pulls(built: SectionBuilder, part: Part) -> None:
    pulls = part["gradients"]
    pairs = pulls["pairs"] or 1
    built.text(
        f"Where the static run ended, {pulls['conflicting']} of {pulls['pairs']} pairs of heads "
        f"({100 * pulls['conflicting'] / pairs:.0f}%) have gradients of what they share that point apart (a cosine "
        f"below 0), and {pulls['conflicting_throughout']} do so in each of five disjoint parts of their rows. "
        "Gradients are averaged over rows of the head's own, since those of single batches are mostly noise; a cosine "
        "near 0 means that two heads do not touch."
    )
    families = [
        [", ".join(heads), *(number(value, 2) for value in row)]
        for heads, row in zip(pulls["families"], pulls["family_cosines"], strict=True)
    ]
    names = [f"{heads[0]}, …" for heads in pulls["families"]]
    built.table(["family", *names], families, narrow=True, caption="Cosines of the families' gradients.")
    agreement = [
        f"{head} {number(value, 2)}" for head, value in zip(pulls["heads"], pulls["agreement"], strict=True)
        if value is not None
    ]  # fmt: skip
    built.figure(
        plots.heat_map(pulls["heads"], pulls["heads"], pulls["cosines"], name="pulls", x="head", y="head"),
        caption="Cosines of the heads' gradients, in hundredths. Each over at most "
        f"n = {max(pulls['rows'], default=0)} rows of its own; blank where a head has too few labels. Mean cosine "
        f"between disjoint parts of one head's rows, low where its gradient is noise: {', '.join(agreement)}.",
    )


def _narrow(gain: Part) -> str:
    """Return an interval of small differences to a thousandth."""
    return "–" if gain["low"] is None else f"{signed(gain['low'])} to {signed(gain['high'])}"
