"""Everything measured about sentence encoders, side by side, as one plain document and its page."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eval.bench.machine import this_machine
from eval.compared import Compared
from eval.document import plain
from eval.page import render
from eval.report import ReportFiles, write_report
from eval.scores import Progress
from eval.sections.encoder import SECTIONS
from eval.sentences import NTREX, TATOEBA, Pool, ScoredPairs, Topics, load_pools, load_scored_pairs, load_topics
from eval.suites.bitext import bitext_report, pool_texts
from eval.suites.fertility import fertility_report
from eval.suites.geometry import geometry_report
from eval.suites.similarity import pair_texts, similarity_report
from eval.suites.speed import ROUNDS, Clock, speed_report
from eval.suites.topics_probe import asked_texts, topics_report
from eval.training_record import training_record
from eval.vectors import Embedder
from retrieval_shared.bundle import Bundle

QUICK_ROWS = 40
"""Sentence pairs per language of a quick run: it shows that everything runs, not how good the encoder is."""

NAME = "encoder"


@dataclass(frozen=True)
class Options:
    """How to measure; what is measured are the encoders."""

    seed: int = 13
    """Of every draw: bootstrap, thinning."""
    resamples: int = 200
    """Bootstrap resamples."""
    quick: bool = False
    """Thin every suite to `QUICK_ROWS` rows per language; the probe still learns from all its English rows."""
    progress: Progress | None = None
    """Called while texts are encoded."""
    clock: Clock = time.perf_counter
    """Times the encoders."""
    now: datetime | None = None
    """Date of the report; None takes the clock."""


@dataclass(frozen=True)
class Sentences:
    """What every encoder is asked."""

    ntrex: tuple[Pool, ...]
    """News sentences, parallel in all varieties."""
    tatoeba: tuple[Pool, ...]
    """Everyday sentences, different ones per language."""
    similarity: tuple[ScoredPairs, ...]
    """Scored pairs."""
    topics: Topics
    """Sentences with topics."""

    @property
    def n(self) -> int:
        """Return how many rows of the files are asked, the probe's training rows not counted."""
        pools = sum(len(pool.english) for pool in (*self.ntrex, *self.tatoeba))
        return pools + sum(len(each.scores) for each in self.similarity) + sum(len(r.ids) for r in self.topics.dev)

    def thinned(self, limit: int, *, seed: int) -> Sentences:
        """Return at most `limit` rows per language and suite; the probe's training rows stay."""
        return Sentences(
            ntrex=tuple(pool.thinned(limit, seed=seed) for pool in self.ntrex),
            tatoeba=tuple(pool.thinned(limit, seed=seed) for pool in self.tatoeba),
            similarity=tuple(each.thinned(limit, seed=seed) for each in self.similarity),
            topics=replace(self.topics, dev=tuple(rows.thinned(limit, seed=seed) for rows in self.topics.dev)),
        )


def load_sentences(data_dir: Path) -> Sentences:
    """Return what every encoder is asked.

    Raises:
        ValueError: a file is missing or a row of it is not as it should be.
    """
    return Sentences(
        ntrex=load_pools(data_dir, NTREX),
        tatoeba=load_pools(data_dir, TATOEBA),
        similarity=load_scored_pairs(data_dir),
        topics=load_topics(data_dir),
    )


def evaluate(compared: Compared, data_dir: Path, options: Options | None = None) -> dict[str, Any]:
    """Return the whole report as JSON values.

    Args:
        compared: the encoders.
        data_dir: the data folder.
        options: see `Options`.

    Raises:
        ValueError: a file is missing or malformed, or an encoder returned vectors that are not finite or not of unit
            length.
    """
    options = options or Options()
    sentences = load_sentences(data_dir)
    if options.quick:
        sentences = sentences.thinned(QUICK_ROWS, seed=options.seed)
    report = {
        "title": "Encoder: evaluation",
        "created": (options.now or datetime.now(UTC)).date().isoformat(),
        "seed": options.seed,
        "resamples": options.resamples,
        "quick": options.quick,
        "n": sentences.n,
        "bundle": _bundle(compared.bundle),
        "float32": compared.float32,
        "training": training_record(compared.bundle) if compared.bundle else None,
        "speed": _speed(compared, sentences, options),
        "encoders": [_measured(name, compared, sentences, options) for name in compared.encoders],
    }
    document: dict[str, Any] = plain(report)
    return document


def page(report: Mapping[str, Any]) -> str:
    """Return the page of a report document."""
    bundle = report["bundle"]
    meta = [
        f"{report['created']} · n = {report['n']} rows · seed {report['seed']}" + (" · quick run" * report["quick"]),
        f"bundle {bundle['name']} · sha256 {bundle['digest']}" if bundle else "of no bundle",
        *_float32(report["float32"]),
        "encoders: " + ", ".join(f"{each['name']} (d = {each['dim']})" for each in report["encoders"]),
    ]
    return render(report["title"], meta=meta, sections=[section(report) for section in SECTIONS])


def write_encoder(report: Mapping[str, Any], folder: Path) -> ReportFiles:
    """Write `encoder.json` and `encoder.html` into `folder` and return where they are."""
    return write_report(report, folder, name=NAME, draw=page)


def _speed(compared: Compared, sentences: Sentences, options: Options) -> dict[str, Any] | None:
    """Return how fast the bundles are; None without one."""
    if not compared.served:
        return None
    rounds = 1 if options.quick else ROUNDS
    found = speed_report(
        sentences.ntrex, compared.served, clock=options.clock, rounds=rounds, progress=options.progress
    )
    return {"machine": this_machine(), **found}


def _measured(name: str, compared: Compared, sentences: Sentences, options: Options) -> dict[str, Any]:
    """Return one encoder's figures; each suite's texts are encoded in one go, so that each has one progress bar."""
    embed = Embedder(compared.encoders[name], name=name, progress=options.progress)
    tokens = compared.tokens.get(name)
    drawn = {"resamples": options.resamples, "seed": options.seed}
    embed(pool_texts(sentences.ntrex), what="NTREX")
    ntrex, geometry = bitext_report(sentences.ntrex, embed, **drawn), geometry_report(sentences.ntrex, embed)
    embed(pool_texts(sentences.tatoeba), what="Tatoeba")
    tatoeba = bitext_report(sentences.tatoeba, embed, **drawn)
    embed(pair_texts(sentences.similarity), what="STS-B")
    similarity = similarity_report(sentences.similarity, embed, **drawn)
    embed(asked_texts(sentences.topics), what="SIB-200")
    return {
        "name": name,
        "bundle": name in compared.served,
        "dim": embed.dim,
        "texts": embed.texts,
        "zero_vectors": embed.zeros,
        "ntrex": ntrex,
        "tatoeba": tatoeba,
        "similarity": similarity,
        "topics": topics_report(sentences.topics, embed, **drawn),
        "geometry": geometry,
        "fertility": None if tokens is None else fertility_report(sentences.ntrex, tokens),
    }


def _float32(part: Mapping[str, Any] | None) -> list[str]:
    return [f"float32 weights sha256 {part['sha256']}"] if part else []


def _bundle(bundle: Bundle | None) -> dict[str, str] | None:
    if bundle is None:
        return None
    return {"name": f"{bundle.manifest.name}@{bundle.manifest.version}", "digest": bundle.manifest.digest}
