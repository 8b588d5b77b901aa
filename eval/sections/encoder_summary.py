"""The summary of the encoder report: one column per encoder, and what int8 costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from eval.page import Section, SectionBuilder, interval, number, percent
from eval.sections.cells import Part, change

POINTS = 100
"""Points of a share of 1."""


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    title: str
    """What it is."""
    shown: Callable[[Part], str]
    """Encoder -> its cell."""
    value: Callable[[Part], float | None] | None = None
    """Encoder -> its number; None where the line has none."""
    digits: int | None = None
    """Decimals of a difference; None where the number is a share, whose difference is in points."""


LINES = (
    Line("NTREX: bitext accuracy, mean", lambda e: _mean(e["ntrex"]), lambda e: e["ntrex"]["mean"]),
    Line("NTREX: worst variety", lambda e: _worst(e["ntrex"]), lambda e: e["ntrex"]["worst"]["value"]),
    Line("Tatoeba: bitext accuracy, mean", lambda e: _mean(e["tatoeba"]), lambda e: e["tatoeba"]["mean"]),
    Line("Tatoeba: worst language", lambda e: _worst(e["tatoeba"]), lambda e: e["tatoeba"]["worst"]["value"]),
    Line(
        "STS-B: Spearman, English",
        lambda e: number(e["similarity"]["english"]),
        lambda e: e["similarity"]["english"],
        digits=3,
    ),
    Line(
        "STS-B: Spearman, mean of the others",
        lambda e: number(e["similarity"]["mean_others"]),
        lambda e: e["similarity"]["mean_others"],
        digits=3,
    ),
    Line("SIB-200: accuracy, English", lambda e: percent(e["topics"]["english"]), lambda e: e["topics"]["english"]),
    Line("SIB-200: accuracy, mean of the others", lambda e: _mean(e["topics"]), lambda e: e["topics"]["mean"]),
    Line("effective rank, English", lambda e: number(_rank(e), 1), lambda e: _rank(e), digits=1),
    Line(
        "distance to the English centroid, mean",
        lambda e: number(e["geometry"]["mean"]["drift"]),
        lambda e: e["geometry"]["mean"]["drift"],
        digits=3,
    ),
    Line("collapsed", lambda e: verdict(e["geometry"]["collapsed"])),
    Line("tokens per word, mean", lambda e: number(_fertility(e), 2), lambda e: _fertility(e), digits=2),
    Line("texts without a vector", lambda e: f"{e['zero_vectors']} of {e['texts']}", lambda e: e["zero_vectors"], 0),
)


def summary(report: Part) -> Section:
    """Return the figures that stand for the rest, one column per encoder."""
    encoders, float32 = report["encoders"], report["float32"]
    built = SectionBuilder("Summary")
    if report["quick"]:
        built.text("A quick run on thinned suites: it shows that everything runs, not how good the encoder is.")
    built.text(_columns(report))
    built.text(_readings(encoders[0]))
    rows = [[line.title, *(line.shown(each) for each in encoders)] for line in LINES]
    headers = ["what", *(str(each["name"]) for each in encoders)]
    if float32:
        reference = next(each for each in encoders if each["name"] == float32["name"])
        headers.append("int8 − float32")
        rows = [[*row, _difference(line, encoders[0], reference)] for row, line in zip(rows, LINES, strict=True)]
    caption = "The main figures; every one is taken apart below. In brackets 95% intervals over sentences."
    return built.table(headers, rows, caption=caption, narrow=True).build()


def verdict(reasons: list[str] | None) -> str:
    """Return in words whether an encoder has collapsed."""
    if reasons is None:
        return "too few sentences to judge"
    languages = len({reason.split(":")[0] for reason in reasons})
    return f"collapsed in {languages} language{'s' * (languages > 1)}" if languages else "no collapse"


def pools(part: Part) -> str:
    """Return the pool sizes in words: `500`, or `548 to 1000`."""
    sizes = part["pools"]
    return f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else str(sizes[0])


def _columns(report: Part) -> str:
    """Return what the columns are."""
    first, float32 = report["encoders"][0], report["float32"]
    text = f"The report is about the first encoder, {first['name']}."
    bundles = [each["name"] for each in report["encoders"] if each["bundle"]]
    if bundles:
        text += (
            f" In the columns of bundles ({'; '.join(bundles)}) all figures are of the frozen int8 file, the graph "
            "that is served, without an adapter."
        )
    if float32:
        made = {
            True: "The first bundle was made from its weights.",
            False: "The first bundle says that it was made from other weights: the difference is not int8's alone.",
            None: "The first bundle does not say from which weights it was made.",
        }[float32["same"]]
        text += (
            " The columns named float32 are the encoder before it was frozen: both paths together, which is what is "
            f"served, and each path alone. {made} The last column is {first['name']} less {float32['name']}, what int8 "
            "costs: pt is a percentage point, other lines are in their own unit. The rows of the table that both paths "
            "read are rounded in both, as in training, so that they are no part of the difference."
        )
    return text


def _readings(first: Part) -> str:
    """Return how the figures are to be read."""
    ntrex, tatoeba = first["ntrex"], first["tatoeba"]
    return (
        "Bitext accuracy is the share of sentences whose translation is the nearest by cosine, mean of both "
        f"directions, in a pool of {pools(ntrex)} sentences (NTREX, {ntrex['n_languages']} varieties) and of "
        f"{pools(tatoeba)} (Tatoeba, {tatoeba['n_languages']} languages); it falls as a pool grows. The worst variety "
        "or language is the one whose mean of both directions is the lowest of all, found for each encoder on its "
        "own: the least of that many figures, without an interval, and lower by chance alone than a variety chosen "
        "beforehand."
    )


def _difference(line: Line, ours: Part, reference: Part) -> str:
    """Return ours less the reference; nothing where one of them has no number."""
    values = (line.value(ours), line.value(reference)) if line.value else (None, None)
    if values[0] is None or values[1] is None:
        return ""
    value = values[0] - values[1]
    if line.digits is None:
        return change(POINTS * value, digits=1, unit=" pt")
    return change(value, digits=line.digits)


def _mean(part: Part) -> str:
    whole = interval(part["interval"]).replace(" ", "\u00a0")  # never broken over two lines
    return f"{percent(part['mean'])} ({whole})"


def _worst(part: Part) -> str:
    return f"{percent(part['worst']['value'])} ({part['worst']['language']})"


def _rank(encoder: Part) -> float | None:
    """Return the effective rank of the language that the others translate."""
    rank: float | None = encoder["geometry"]["languages"][0]["figures"]["effective_rank"]
    return rank


def _fertility(encoder: Part) -> float | None:
    return encoder["fertility"]["mean_per_word"] if encoder["fertility"] else None
