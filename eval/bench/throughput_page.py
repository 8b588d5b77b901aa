"""The page's section on the batch: our throughput beside the peers', in each shape of a batch."""

from __future__ import annotations

from eval.bench.spreads import Part, bars, spread
from eval.page import Section, SectionBuilder


def throughput_section(document: Part) -> Section:
    """Return the section, from the report's `throughput`."""
    records, n = document["throughput"], document["n"]
    built = SectionBuilder("Throughput beside the peers")
    rows = [
        [each["title"], each["weights"], each["batches"], spread(each["texts_per_s"], 1), spread(each["ours_over"], 2)]
        for each in records
    ]
    built.table(
        ["stack", "weights", "batches", "texts/s", "Wardline in process over it"],
        rows,
        caption=f"The same n = {n} texts, one thread each, rounds interleaved; median over rounds (least to greatest).",
    )
    built.figure(
        bars([(each["title"], each["texts_per_s"]) for each in records]),
        caption=f"Texts per second in batch. Median over rounds, n = {n}; the line spans least to greatest.",
    )
    if document["lead"] is None:
        return built.text("No other stack was measured in this run.").build()
    fastest = max((each for each in records if each["is_peer"]), key=lambda each: float(each["texts_per_s"]["median"]))
    return built.text(
        f"The fastest peer is {fastest['title']}; over each round's fastest, Wardline in process reads "
        f"{spread(document['lead'], 2)} times as many texts a second, its 16 heads included."
    ).build()
