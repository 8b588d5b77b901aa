"""Training the moderation bundle: adapter, heads, regions, calibration, thresholds, export; every stage resumable."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

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
from training.base_model import BaseModel, load_rounded
from training.calibrate import HeldOut, fit_calibration, fit_slot, fit_thresholds
from training.config import ModerationConfig
from training.examples import DISGUISED, HEADS, OWN_ADS, Examples, fold_of, load_examples
from training.fit_record import fit_record, learnt_by_heart
from training.head_loss import check_heads
from training.region_adapters import rows_of
from training.region_stage import Regions, RegionStage, train_regions
from training.sampling import Weighted, weigh
from training.states import TokenStates
from training.texts import Texts, read_texts
from training.violation_heads import HeadRows, TrainedHeads, train_heads

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


@dataclass(frozen=True)
class Split:
    """Which of n examples each stage may see; all masks are `[n]`."""

    examples: Examples
    fold: NDArray[np.int64]
    """`[n]`; fold 0 is held out."""
    allowed: NDArray[np.bool_]
    """Rows the heads may learn from."""
    shared: NDArray[np.bool_]
    """Rows whose licence lets the adapters learn from them."""
    held_out: NDArray[np.bool_]
    """Rows of the held-out fold in languages the encoder reads: ads in others go to a person anyway."""

    @classmethod
    def of(cls, examples: Examples, config: ModerationConfig) -> Split:
        """Return what a configuration makes of the examples."""
        fold = fold_of(examples.group, folds=config.data.folds, seed=config.seed)
        allowed = ~np.isin(examples.source, config.data.without_sources)
        shared = np.isin(examples.licence, config.adapter.licences) | np.isin(examples.source, config.data.also_sources)
        read = np.array([not set(re.split("[-/]", lang)).isdisjoint(config.languages) for lang in examples.lang])
        return cls(examples, fold, allowed, shared, allowed & (fold == 0) & read)

    def for_adapters(self, config: ModerationConfig) -> NDArray[np.bool_]:
        """Return the rows that adapters learn from: none of the held-out fold."""
        without = np.isin(self.examples.source, config.adapter.without_sources)
        usable: NDArray[np.bool_] = self.shared & (self.fold != 0) & ~without
        return usable


@dataclass(frozen=True)
class Fitted:
    """Heads fitted twice: without the held-out fold, which all else is fitted and measured on, and with it."""

    crossfit: TrainedHeads
    final: TrainedHeads
    record: dict[str, Any]
    """How each head fits on rows it learnt from and on others."""


def train_moderation(config: ModerationConfig, run: Run) -> Bundle:
    """Train and return a bundle; every stage that `run.runs` already holds for these inputs is taken from there.

    Raises:
        FileNotFoundError: the data folder holds no training rows.
        ValueError: the configuration names a head that there is not, the base model is another one than it names, or a
            parity check failed.
    """
    check_heads(config.heads)
    torch.set_num_threads(run.threads)
    split = Split.of(load_examples(run.data, config.data), config)
    log.info("examples", rows=len(split.examples), held_out=int(split.held_out.sum()))
    base = load_rounded(config)
    texts = read_texts(base, split.examples, config.adapter, runs=run.runs, threads=run.threads, shared=split.shared)
    adapter, folder = _adapter(config, run, split, texts)
    states = texts.states(adapter.folder, folder=folder, threads=run.threads)
    heads = _heads(config, split, states, adapter, folder)
    regions = Regions({}, {}, {})
    if config.regions.train:
        usable = split.for_adapters(config)
        at = RegionStage(
            texts, split.examples, usable, split.held_out & split.shared, heads.crossfit.heads, adapter.folder,
            folder / f"regions-{_regions_key(config, heads, split)}", run.threads,
        )  # fmt: skip
        regions = train_regions(at, config)
    return _bundle(config, run, split, base, heads, {SLOT: adapter.folder, **regions.shipped}, regions)


def _adapter(config: ModerationConfig, run: Run, split: Split, texts: Texts) -> tuple[TrainedAdapter, Path]:
    """Return the first stage's result and its folder."""
    rng = np.random.default_rng(config.seed)
    sample = sample_rows(split.examples, np.flatnonzero(split.for_adapters(config)), config.adapter, rng)
    drawn = split.examples.take(sample)
    weighted = weigh(drawn, ad_weight=1.0, unlabelled_share=config.heads.unlabelled_share)
    folder = run.runs / f"adapter-{_key(texts.base.identity, config, drawn)}"
    # Training wraps the layers of the model it is given, so it gets one of its own.
    adapter = train_adapter(
        load_rounded(config), Rows(texts.branch(sample), weighted), config.adapter, config.heads,
        folder=folder, seed=config.seed,
    )  # fmt: skip
    return adapter, folder


def _heads(
    config: ModerationConfig, split: Split, states: TokenStates, adapter: TrainedAdapter, folder: Path
) -> Fitted:
    """Return the second stage's result: each head's best pass is found on rows of its own, then kept."""
    examples, fold = split.examples, split.fold
    rows = np.flatnonzero(split.allowed)
    weighted = _weigh(examples, rows, config)
    stage = folder / f"heads-{_heads_key(weighted, config)}"
    stopping = fold_of(examples.group, folds=config.heads.stop_folds, seed=config.seed + 1)[rows] == 0
    learn, stop = (rows[(fold[rows] != 0) & chosen] for chosen in (~stopping, stopping))
    train = partial(train_heads, config=config.heads, start_from=adapter.heads, seed=config.seed)
    crossfit = train(HeadRows(states, weighted, examples, learn, stop), checkpoint=stage / "crossfit.pt")
    final = train(
        HeadRows(states, weighted, examples, rows, stop[:0]), checkpoint=stage / "final.pt", passes=crossfit.passes
    )
    sides = {"train": learn, "stop": stop, "held_out": rows[fold[rows] == 0]}
    record = fit_record(crossfit, states, examples.targets, sides)
    if by_heart := learnt_by_heart(record):
        log.warning("heads have learnt their rows by heart: do not ship them", heads=by_heart)
    return Fitted(crossfit, final, record)


def _bundle(
    config: ModerationConfig,
    run: Run,
    split: Split,
    base: BaseModel,
    heads: Fitted,
    adapters: Mapping[str, Path],
    regions: Regions,
) -> Bundle:
    """Return the finished bundle; curves and cuts are fitted on what the crossfit bundle's int8 graph says."""
    parts = Parts(
        base=base, adapters=adapters, parents=regions.parents, heads=heads.crossfit.heads, calibration=_identity(),
        thresholds=Thresholds.of(prevalence=config.thresholds.prevalence, heads={}), training={},
    )  # fmt: skip
    crossfit = write_bundle(run.runs / f"{config.name}-crossfit", parts, config)
    held = _held_out(crossfit, split.examples, split.held_out)
    calibration = fit_calibration(HEADS, held)
    own = {
        slot: fit_slot(calibration, _held_out(crossfit, split.examples, split.held_out, slot=slot))
        for slot in regions.shipped
    }
    finished = dataclasses.replace(
        parts,
        heads=heads.final.heads,
        calibration=dataclasses.replace(calibration, slots=own),
        thresholds=fit_thresholds(HEADS, calibration.probabilities(held.logits), held, config.thresholds),
        training=_record(split) | {"fit": heads.record, "regions": regions.record},
    )
    return write_bundle(run.out, finished, config)


def _key(base: str, config: ModerationConfig, examples: Examples) -> str:
    """Return a short hash of everything the first stage depends on."""
    stage = config.heads
    heads = (stage.attention_heads, stage.hidden, stage.dropout, stage.unlabelled_share)
    digest = hashlib.sha256(f"{base}|{config.adapter}|{config.seed}|{heads}".encode())
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


def _held_out(bundle: Bundle, examples: Examples, held: NDArray[np.bool_], *, slot: str = SLOT) -> HeldOut:
    """Return what calibration is fitted on: logits of the held-out fold as the served graph gives them.

    Args:
        bundle: the crossfit bundle.
        examples: n examples.
        held: `[n]`, rows of the held-out fold.
        slot: the slot they are read under; of a region, our own ads and its own rows alone.
    """
    rng = np.random.default_rng(0)
    own = np.flatnonzero(held & (examples.source == OWN_ADS) & (examples.kind != DISGUISED))
    of_slot = True if slot == SLOT else rows_of(slot, examples)
    public = np.flatnonzero(held & (examples.source != OWN_ADS) & of_slot)
    if len(public) > HELD_OUT_ROWS:
        public = np.sort(rng.choice(public, HELD_OUT_ROWS, replace=False))
    rows = np.concatenate([own, public])
    texts = [examples.texts[i] for i in rows]
    classifier = Classifier(bundle)
    logits = [
        classifier.score(part, [[slot]] * len(part)).logits
        for part in (texts[i : i + 512] for i in range(0, len(texts), 512))
    ]
    return HeldOut(
        logits=np.concatenate(logits),
        targets=examples.targets[rows],
        own=examples.source[rows] == OWN_ADS,
        ad=(examples.source[rows] == OWN_ADS) | (examples.kind[rows] == "ad"),
    )


def _regions_key(config: ModerationConfig, heads: Fitted, split: Split) -> str:
    """Return a short hash of what the third stage depends on beside the first stage's folder."""
    digest = hashlib.sha256(f"{config.regions}|{config.heads}|{heads.crossfit.passes}".encode())
    for part in (split.examples.region, split.examples.targets, split.for_adapters(config), split.held_out):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:12]


def _record(split: Split) -> dict[str, Any]:
    """Return what the bundle tells about its rows."""
    examples, allowed, fold = split.examples, split.allowed, split.fold
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
