"""The page's section on the service under load."""

from __future__ import annotations

from collections.abc import Mapping

from eval import plots
from eval.bench.spreads import Part
from eval.page import Section, SectionBuilder

HEADINGS = (
    "load", "clients", "requests", "errors", "requests/s", "p50, ms", "p99, ms", "longest, ms", "sent late, p99, ms",
    "client cpu ms/request",
)  # fmt: skip


def load_section(document: Part) -> Section:
    """Return the section, from the report's `load`; one sentence where the run had none."""
    built = SectionBuilder("Under load")
    load = document["load"]
    if load is None:
        return built.text("No load was measured in this run.").build()
    regions = f"{len(load['regions'])} regions ({', '.join(load['regions'])})"
    built.table(
        HEADINGS,
        [_row(level) for level in load["levels"]],
        caption=f"One ad of 64 tokens a request, all heads, {regions}, no evidence; {load['workers']} workers of one "
        "thread on this machine. Latencies of the open loop count from when a request was due.",
    )
    curves = [{"title": level["title"], "points": level["curve"]} for level in load["levels"]]
    built.figure(
        plots.curves(curves, name="latency_under_load", x="% of requests", y="answered within, ms"),
        caption="Latency under load. Within how many milliseconds which share of the requests was answered.",
    )
    built.text(
        f"The capacity, {load['capacity']:.1f} requests/s, is that of the fastest closed loop; the open loop brings "
        f"{load['share']:.0%} of it, {load['rate']:.1f} requests/s, at random (Poisson) times by a seeded clock. "
        f"{load['requests']:,} requests in all, {load['errors']} errors{_kinds(load)}."
    )
    built.text(
        f"The clients are threads of one process and share the machine's {document['machine']['cores']} cores with the "
        "service: the last column is what they take from it. Their connections are kept, and spread evenly over the "
        f"workers, as a balancer would; left to the system they ended as {_opened(load['as_opened'])}. "
        f"{_memory(load['memory_mb'])}"
    )
    for level in load["levels"]:
        if level["meanwhile"] is not None:
            built.text(_meanwhile(level["meanwhile"]))
    return built.build()


def _row(level: Part) -> list[str]:
    short = "" if level["sent"] == level["wanted"] else f" of {level['wanted']}"
    return [
        level["title"], str(level["clients"]), f"{level['sent']}{short}", str(level["errors"]),
        *(f"{level[name]:.1f}" for name in ("requests_per_s", "p50_ms", "p99_ms", "max_ms", "late_p99_ms")),
        f"{level['client_cpu_ms']:.2f}",
    ]  # fmt: skip


def _kinds(load: Part) -> str:
    """Return what the errors were, or nothing."""
    kinds: dict[str, int] = {}
    for level in load["levels"]:
        for name, n in level["outcomes"].items():
            kinds[name] = kinds.get(name, 0) + n
    return f" ({', '.join(f'{name}: {n}' for name, n in kinds.items())})" if kinds else ""


def _opened(as_opened: Mapping[str, list[int]]) -> str:
    """Return how connections ended in the workers where nobody spread them, such as `5 + 3 of 8`."""
    return ", ".join(f"{' + '.join(map(str, shares))} of {n}" for n, shares in as_opened.items())


def _memory(memory: Part) -> str:
    before, after = (" and ".join(f"{value:.0f}" for value in memory[name]) for name in ("loaded", "after"))
    return f"Resident memory of the workers: {before} MB before, {after} MB after."


def _meanwhile(found: Part) -> str:
    """Return what was swapped, how long it took, and how the requests fared whose way it crossed."""
    swap = found["swap"]
    place = f" in the place of {swap['slot']}@{swap['instead_of']}" if swap["instead_of"] else ""
    worst = "" if found["p99_ms"] is None else f", p99 {found['p99_ms']:.1f} ms, longest {found['max_ms']:.1f} ms"
    return (
        f"In the middle of the last level {swap['slot']}@{swap['version']} was added{place} and removed again. Until "
        f"all {swap['workers']} workers had looked and listed what they serve, adding took {swap['added_s']:.2f} s and "
        f"removing {swap['removed_s']:.2f} s. {found['requests']} requests were on their way during these "
        f"{found['took_s']:.2f} s, {found['errors']} errors{worst}."
    )
