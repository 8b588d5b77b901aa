"""Everything measured about sentence encoders, side by side, as one plain document and its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from eval.document import plain
from eval.page import render
from eval.report import ReportFiles, write_report
from eval.scores import Progress
from eval.sections.encoder import SECTIONS
from eval.sentences import NTREX, TATOEBA, Pool, ScoredPairs, Topics, load_pools, load_scored_pairs, load_topics
from eval.suites.bitext import bitext_report, pool_texts
from eval.suites.fertility import TokenSource, fertility_report
from eval.suites.geometry import geometry_report
from eval.suites.similarity import pair_texts, similarity_report
from eval.suites.topics_probe import asked_texts, topics_report
from eval.vectors import Embedder, SentenceEncoder
from retrieval_shared import Encoder
from retrieval_shared.bundle import TOKENIZER, Bundle, load_bundle

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


@dataclass(frozen=True)
class BundleEncoders:
    """The encoders of some bundles."""

    bundle: Bundle
    """The first bundle, which the report is about."""
    encoders: dict[str, SentenceEncoder]
    """Name -> encoder, in the order given."""
    tokenizers: dict[str, Tokenizer]
    """Name -> its tokenizer."""


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


def load_encoders(paths: Sequence[Path | None]) -> BundleEncoders:
    """Return the encoders of the bundles at `paths` (None: the shipped one), named after bundle, version and folder.

    Raises:
        ValueError: no path is given, or two name one bundle.
        BundleError: a bundle is missing or damaged.
    """
    bundles = {_name(bundle): bundle for bundle in map(load_bundle, paths)}
    if not bundles or len(bundles) < len(paths):
        raise ValueError(
            f"bundles: found {len(paths)}, {len(bundles)} different, expected different ones, at least one"
        )
    return BundleEncoders(
        bundle=next(iter(bundles.values())),
        encoders={name: Encoder.load(bundle.path) for name, bundle in bundles.items()},
        tokenizers={name: Tokenizer.from_file(str(bundle.file(TOKENIZER))) for name, bundle in bundles.items()},
    )


def evaluate(
    encoders: Mapping[str, SentenceEncoder],
    data_dir: Path,
    *,
    tokens: Mapping[str, TokenSource] | None = None,
    bundle: Bundle | None = None,
    options: Options | None = None,
) -> dict[str, Any]:
    """Return the whole report as JSON values.

    Args:
        encoders: name -> encoder, in the order of the columns; the first is the shipped one.
        data_dir: the data folder.
        tokens: name -> tokenizer, or token counter, of the encoders whose fertility is asked.
        bundle: the bundle the first encoder is of; None where it is of none.
        options: see `Options`.

    Raises:
        ValueError: there are no encoders, `tokens` names one that is not there, a file is missing or malformed, or an
            encoder returned vectors that are not finite or not of unit length.
    """
    options, tokens = options or Options(), tokens or {}
    if not encoders:
        raise ValueError("encoders: found none, expected at least one")
    if unknown := sorted(set(tokens) - set(encoders)):
        raise ValueError(f"tokens: found {', '.join(unknown)}, allowed {', '.join(encoders)}")
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
        "bundle": _bundle(bundle),
        "encoders": [
            _measured(name, encoder, sentences, tokens=tokens.get(name), options=options)
            for name, encoder in encoders.items()
        ],
    }
    document: dict[str, Any] = plain(report)
    return document


def page(report: Mapping[str, Any]) -> str:
    """Return the page of a report document."""
    bundle = report["bundle"]
    meta = [
        f"{report['created']} · n = {report['n']} rows · seed {report['seed']}" + (" · quick run" * report["quick"]),
        f"bundle {bundle['name']} · sha256 {bundle['digest']}" if bundle else "of no bundle",
        "encoders: " + ", ".join(f"{each['name']} (d = {each['dim']})" for each in report["encoders"]),
    ]
    return render(report["title"], meta=meta, sections=[section(report) for section in SECTIONS])


def write_encoder(report: Mapping[str, Any], folder: Path) -> ReportFiles:
    """Write `encoder.json` and `encoder.html` into `folder` and return where they are."""
    return write_report(report, folder, name=NAME, draw=page)


def _measured(
    name: str, encoder: SentenceEncoder, sentences: Sentences, *, tokens: TokenSource | None, options: Options
) -> dict[str, Any]:
    """Return one encoder's figures; each suite's texts are encoded in one go, so that each has one progress bar."""
    embed = Embedder(encoder, name=name, progress=options.progress)
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


def _bundle(bundle: Bundle | None) -> dict[str, str] | None:
    if bundle is None:
        return None
    return {"name": f"{bundle.manifest.name}@{bundle.manifest.version}", "digest": bundle.manifest.digest}


def _name(bundle: Bundle) -> str:
    return f"{bundle.manifest.name}@{bundle.manifest.version} ({bundle.path.name})"
