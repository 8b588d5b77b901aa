"""Training the moderation bundle: adapter, token states, heads, calibration, thresholds, export; resumable."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import structlog
import torch
from numpy.typing import NDArray

from moderation.classifier import SLOT, Classifier
from moderation.thresholds import Thresholds
from retrieval_shared.bundle import Bundle
from retrieval_shared.calibration import Calibration
from training.adapter import Rows, TrainedAdapter, sample_rows, train_adapter
from training.assemble import Parts, write_bundle
from training.base_model import BaseModel, check_max_tokens, load_base_model, round_to_int8
from training.calibrate import HeldOut, fit_calibration, fit_thresholds
from training.config import ModerationConfig
from training.examples import DISGUISED, HEADS, OWN_ADS, Examples, fold_of, load_examples
from training.fit_record import fit_record
from training.sampling import Weighted, weigh
from training.states import TokenStates
from training.texts import read_texts
from training.violation_heads import HeadRows, train_heads

log = structlog.get_logger()

HELD_OUT_ROWS = 20_000
"""Public rows of the held-out fold that calibration looks at; all of our own ads of that fold are."""


@dataclass(frozen=True)
class Run:
    """Where a run reads and writes."""

    data: Path | None
    """Data folder with `moderation/train.jsonl.xz`; None trains on our own ads alone."""
    out: Path
    """The bundle's folder."""
    runs: Path
    """Checkpoints and caches; a later run with the same inputs resumes from them."""
    threads: int = 2
    """Threads of torch and of the runtime."""


def train_moderation(config: ModerationConfig, run: Run) -> Bundle:
    """Train and return a bundle; every stage that `run.runs` already holds for these inputs is taken from there.

    Raises:
        FileNotFoundError: the data folder holds no training rows.
        ValueError: the base model is another one than the configuration names, or a parity check failed.
    """
    torch.set_num_threads(run.threads)
    examples = load_examples(run.data, config.data)
    fold = fold_of(examples.group, folds=config.data.folds, seed=config.seed)
    allowed = ~np.isin(examples.source, config.data.without_sources)
    shared = np.isin(examples.licence, config.adapter.licences) | np.isin(examples.source, config.data.also_sources)
    log.info("examples", rows=len(examples), allowed=int(allowed.sum()), held_out=int((allowed & (fold == 0)).sum()))

    base = load_rounded(config)
    texts = read_texts(base, examples, config.adapter, runs=run.runs, threads=run.threads, shared=shared)
    seen = np.flatnonzero(shared & (fold != 0) & ~np.isin(examples.source, config.adapter.without_sources))
    sample = sample_rows(examples, seen, config.adapter, np.random.default_rng(config.seed))
    folder = run.runs / f"adapter-{_key(base.sha256, config, examples.take(sample))}"
    drawn = examples.take(sample)
    weighted = weigh(drawn, ad_weight=1.0, unlabelled_share=config.heads.unlabelled_share)
    # Training wraps the layers of the model it is given, so it gets one of its own.
    adapter = train_adapter(
        load_rounded(config), Rows(texts.branch(sample), weighted), config.adapter, config.heads,
        folder=folder, seed=config.seed,
    )  # fmt: skip
    states = texts.states(adapter.folder, folder=folder, threads=run.threads)
    bundle = _finish(config, run, base, adapter, HeadStage(examples, allowed, fold, states, folder))
    log.info("bundle", path=str(run.out), digest=bundle.manifest.digest[:12])
    return bundle


@dataclass(frozen=True)
class HeadStage:
    """What the second stage works on."""

    examples: Examples
    allowed: NDArray[np.bool_]
    """`[n]`, the rows the configuration lets the heads see."""
    fold: NDArray[np.int64]
    """`[n]`."""
    states: TokenStates
    """Of all n examples, under the moderation slot."""
    folder: Path
    """The first stage's."""


def _finish(config: ModerationConfig, run: Run, base: BaseModel, adapter: TrainedAdapter, at: HeadStage) -> Bundle:
    """Return the bundle: heads twice, once without the held-out fold, which calibration and cuts are fitted on."""
    examples, fold = at.examples, at.fold
    # Cuts are for the languages the model reads; ads in others go to a person anyway.
    held_out = at.allowed & (fold == 0) & np.isin(np.char.partition(examples.lang, "-")[:, 0], config.languages)
    rows = np.flatnonzero(at.allowed)
    weighted = _weigh(examples, rows, config)
    stage = at.folder / f"heads-{_heads_key(weighted, config)}"
    stopping = fold_of(examples.group, folds=config.heads.stop_folds, seed=config.seed + 1)[rows] == 0
    learn, stop = (rows[(fold[rows] != 0) & chosen] for chosen in (~stopping, stopping))
    train = partial(
        train_heads, config=config.heads, start_from=adapter.heads, seed=config.seed,
        attention_heads=int(base.model.config.num_attention_heads),  # type: ignore[union-attr, arg-type]
    )  # fmt: skip
    crossfit = train(HeadRows(at.states, weighted, learn, stop), checkpoint=stage / "crossfit.pt")
    final = train(HeadRows(at.states, weighted, rows, stop[:0]), checkpoint=stage / "final.pt", passes=crossfit.passes)
    parts = Parts(
        base=base, adapters={SLOT: adapter.folder}, parents={}, heads=crossfit.heads, calibration=_identity(),
        thresholds=Thresholds.of(prevalence=config.thresholds.prevalence, heads={}), training={},
    )  # fmt: skip
    held = _held_out(write_bundle(run.runs / f"{config.name}-crossfit", parts, config), examples, held_out)
    calibration = fit_calibration(HEADS, held)
    finished = dataclasses.replace(
        parts,
        heads=final.heads,
        calibration=calibration,
        thresholds=fit_thresholds(HEADS, calibration.probabilities(held.logits), held, config.thresholds),
        training=_record(examples, at.allowed, fold)
        | {"passes": dict(zip(HEADS, crossfit.passes, strict=True)), "fit": fit_record(crossfit, at, learn, stop)},
    )
    return write_bundle(run.out, finished, config)


def load_rounded(config: ModerationConfig) -> BaseModel:
    """Return the base encoder of a configuration, rounded as it is served."""
    base = load_base_model(config.base_model, sha256=config.base_sha256)
    check_max_tokens(base, {"max_tokens": config.max_tokens, "adapter.max_tokens": config.adapter.max_tokens})
    round_to_int8(base)
    return base


def _key(base_sha256: str, config: ModerationConfig, examples: Examples) -> str:
    """Return a short hash of everything the first stage depends on."""
    heads = (config.heads.hidden, config.heads.dropout, config.heads.unlabelled_share)
    digest = hashlib.sha256(f"{base_sha256}|{config.adapter}|{config.seed}|{heads}".encode())
    for text in examples.texts:
        digest.update(text.encode("utf-8", "replace") + b"\0")
    digest.update(examples.targets.tobytes())
    return digest.hexdigest()[:12]


def _heads_key(weighted: Weighted, config: ModerationConfig) -> str:
    """Return a short hash of what the second stage adds: another run must not resume from its checkpoint."""
    digest = hashlib.sha256(f"{config.heads}|{config.seed}|{config.data.folds}".encode())
    digest.update(weighted.targets.tobytes() + weighted.weights.tobytes())
    return digest.hexdigest()[:12]


def _weigh(examples: Examples, rows: NDArray[np.intp], config: ModerationConfig) -> Weighted:
    """Return targets and weights of all examples; those outside `rows` weigh nothing."""
    heads = config.heads
    some = weigh(examples.take(rows), ad_weight=heads.ad_weight, unlabelled_share=heads.unlabelled_share)
    targets = np.zeros((len(examples), len(HEADS)), dtype=np.float32)
    weights = np.zeros_like(targets)
    targets[rows], weights[rows] = some.targets, some.weights
    return Weighted(targets=targets, weights=weights)


def _identity() -> Calibration:
    ones = np.ones(len(HEADS), dtype=np.float32)
    return Calibration(heads=HEADS, scale=ones, offset=0 * ones)


def _held_out(bundle: Bundle, examples: Examples, held: NDArray[np.bool_]) -> HeldOut:
    """Return what calibration is fitted on: logits of the held-out fold as the served graph gives them."""
    own = np.flatnonzero(held & (examples.source == OWN_ADS) & (examples.kind != DISGUISED))
    public = np.flatnonzero(held & (examples.source != OWN_ADS))
    if len(public) > HELD_OUT_ROWS:
        public = np.sort(np.random.default_rng(0).choice(public, HELD_OUT_ROWS, replace=False))
    rows = np.concatenate([own, public])
    texts = [examples.texts[i] for i in rows]
    classifier = Classifier(bundle)
    logits = [classifier.score(texts[i : i + 512]).logits for i in range(0, len(texts), 512)]
    return HeldOut(
        logits=np.concatenate(logits),
        targets=examples.targets[rows],
        own=examples.source[rows] == OWN_ADS,
        ad=(examples.source[rows] == OWN_ADS) | (examples.kind[rows] == "ad"),
    )


def _record(examples: Examples, allowed: NDArray[np.bool_], fold: NDArray[np.int64]) -> dict[str, object]:
    """Return what the bundle tells about its rows."""
    told = allowed & (examples.kind != DISGUISED)
    targets = examples.targets[told]
    counts = {
        head: {"positives": int((targets[:, h] == 1).sum()), "negatives": int((targets[:, h] == 0).sum())}
        for h, head in enumerate(HEADS)
    }
    sources, numbers = np.unique(examples.source[told], return_counts=True)
    return {
        "slot": SLOT,
        "rows": int(told.sum()),
        "disguised_copies": int((allowed & ~told).sum()),
        "held_out_rows": int((told & (fold == 0)).sum()),
        "labels": counts,
        "sources": dict(zip(sources.tolist(), numbers.tolist(), strict=True)),
    }
