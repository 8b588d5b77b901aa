"""The page of a serving report, from its document alone."""

from __future__ import annotations

from eval.bench import branches_page, layers_page
from eval.bench.load_page import load_section
from eval.bench.spreads import Part, spread
from eval.bench.throughput_page import throughput_section
from eval.document import plain
from eval.page import Section, SectionBuilder, render

FIGURES = (
    ("p50_ms", "p50, ms", 2),
    ("p99_ms", "p99, ms", 2),
    ("texts_per_s", "texts/s", 1),
    ("cpu_ms_per_text", "cpu ms/text", 2),
    ("memory_loaded_mb", "MB loaded", 0),
    ("memory_after_mb", "MB after", 0),
    ("ready_s", "ready, s", 2),
)
"""Key in the document, heading, decimals."""


def page(report: Part) -> str:
    """Return the page of a report document."""
    document: Part = plain(report)
    machine, bundle, settings = document["machine"], document["bundle"], document["settings"]
    meta = [
        f"{document['created']} · n = {document['n']} texts · seed {document['seed']} · {settings['rounds']} rounds of "
        f"{settings['rounds_wanted']} in {settings['took_s']:.0f} s · {document['command']}",
        f"bundle {bundle['name']} · sha256 {bundle['digest']}",
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, {machine['system']}, "
        f"Python {machine['python']}, load before {machine['load'] if machine['load'] is not None else 'unknown'}",
        f"of {', '.join(machine['flags']) or 'the instruction sets for int8 none'}; every stack on one thread",
    ]
    parts = [
        _targets(document),
        _stacks(document),
        throughput_section(document),
        branches_page.section(document),
        layers_page.section(document),
        _ratios(document),
        _latency(document),
        load_section(document),
        _deciding(document),
        _method(document),
    ]
    return render(str(document["title"]), meta=meta, sections=parts)


def _targets(document: Part) -> Section:
    rows = [
        [t["name"], f"{t['value']:.2f} {t['unit']}", _limit(t), "yes" if t["met"] else "NO"]
        for t in document["targets"]
    ]
    return (
        SectionBuilder("What the service is built to stay within")
        .table(["what", "median of rounds", "limit", "met"], rows, caption="Measured in this run.")
        .build()
    )


def _limit(target: Part) -> str:
    return f"{'at least' if target['at_least'] else 'at most'} {target['limit']:g} {target['unit']}"


def _stacks(document: Part) -> Section:
    stacks = document["stacks"]
    rows = [
        [stack["title"], *(spread(stack["figures"][key], digits) for key, _, digits in FIGURES)] for stack in stacks
    ]
    built = SectionBuilder("Every stack")
    built.table(
        ["stack", *(heading for _, heading, _ in FIGURES)],
        rows,
        caption="Median over rounds (least to greatest). p50 and p99: single texts of 64 tokens. MB: resident, 10^6 "
        f"bytes. Ready: from the process's start to its first answer. Batch: n = {document['n']} texts.",
    )
    for stack in stacks:
        versions = ", ".join(f"{name} {value}" for name, value in stack["versions"].items())
        built.text(f"{stack['title']}: {stack['what']}{'. ' + versions if versions else ''}.")
    return built.build()


def _ratios(document: Part) -> Section:
    built = SectionBuilder("Ours over theirs")
    if not document["ratios"]:
        return built.text("No other stack was measured in this run.").build()
    titles = {stack["key"]: stack["title"] for stack in document["stacks"]}
    shown = [(key, heading.split(",")[0]) for key, heading, _ in FIGURES if key in document["ratios"][0]["ratios"]]
    rows = [
        [f"{titles[r['ours']]} / {titles[r['peer']]}", *(spread(r["ratios"][key], 2) for key, _ in shown)]
        for r in document["ratios"]
    ]
    built.text(
        "Taken within rounds; median (least to greatest). Above 1 is better for texts/s, below 1 for the rest. "
        "Ours reads an int8 graph with 16 heads; the peers read the encoder alone."
    )
    built.table(["ours / theirs", *(heading for _, heading in shown)], rows, caption="Ratios; 1 means equal.")
    if document["peers_agree"] is not None:
        built.text(f"Least cosine between two float32 peers' vectors of one text: {document['peers_agree']:.4f}.")
    if document["peers_agree_int8"] is not None:
        built.text(f"Least cosine of an int8 peer's vector to the float32 one's: {document['peers_agree_int8']:.4f}.")
    return built.build()


def _latency(document: Part) -> Section:
    overhead = document["overhead"]
    names = (
        ("http_ms", "HTTP over in process, p50, ms"),
        ("log_and_json_ms", "of it: request read, decision logged, answer written"),
        ("wire_ms", "of it: sockets, server, client"),
        ("ratio", "HTTP / in process, p50"),
    )
    built = SectionBuilder("One ad")
    built.table(
        ["what", "value"],
        [[title, spread(overhead[key], 2)] for key, title in names],
        caption="What HTTP costs, no evidence asked for.",
    )
    titles = {stack["key"]: stack["title"] for stack in document["stacks"]}
    rows = []
    for part in document["evidence"]:
        only = part["flagged_only"] or {"p50_ms": None, "p99_ms": None}
        times = [spread(each[key], 2) for each in (part, only) for key in ("p50_ms", "p99_ms")]
        rows.append([titles[part["stack"]], *times[:2], f"{part['flagged_ads']} of {part['ads']}", *times[2:]])
    headings = ["stack", "p50, ms", "p99, ms", "flagged ads", "p50 flagged, ms", "p99 flagged, ms"]
    built.table(headings, rows, caption="With evidence (explain: spans); an ad that touches no policy needs none.")
    return built.build()


def _deciding(document: Part) -> Section:
    found = document["deciding"]
    names = (
        ("model_ms", "the model's probabilities"),
        ("policy_ms", f"the policy, per region (of {found['regions']})"),
        ("terms_ms", "rules: 10,000 terms"),
        ("patterns_ms", "rules: 50 patterns"),
        ("signature_ms", "bank: its signature"),
        ("alike_ms", "bank: compared with 100,000 entries"),
    )
    again = found["backtest"]
    return (
        SectionBuilder("Deciding beside the model")
        .table(
            ["one ad", "p50, ms", "of the model's time"],
            [[title, f"{found[key]:.3f}", f"{found[key] / found['model_ms']:.2%}"] for key, title in names],
            caption="One process, one thread. Rules and bank read made-up ads of 60 words.",
        )
        .text(
            f"A backtest reads {again['decisions']:,} stored decisions of one region and decides them again in "
            f"{again['wall_s']:.1f} s on the clock, {again['cpu_s']:.1f} s of processor time; no model runs."
        )
        .build()
    )


def _method(document: Part) -> Section:
    settings, texts = document["settings"], document["texts"]
    short = "" if settings["rounds"] == settings["rounds_wanted"] else " Fewer rounds than wanted: the time ran out."
    return (
        SectionBuilder("How it was measured")
        .text(
            "Stacks run one after the other, each in a process of its own on one thread, round after round in the same "
            f"order. Per round: {settings['requests']} single texts one at a time (closed loop, one client, "
            f"connections opened: {document['connections']}), {settings['explained']} with evidence, one batch. A few "
            f"calls before the clock starts are not counted.{short}"
        )
        .text(
            f"The texts are the English ads of the training set, joined and cut: {texts['ads']} different ads of 64 "
            f"tokens, and {document['n']} texts of log-normal lengths (median {texts['characters']['median']}, longest "
            f"{texts['characters']['max']} characters). sha256 over all texts: {texts['digest']}."
        )
        .build()
    )
