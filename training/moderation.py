"""Training the moderation bundle: adapter, token states, heads, calibration, thresholds, export; resumable."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog
import torch
from numpy.typing import NDArray

from moderation.classifier import SLOT, Classifier
from moderation.thresholds import Thresholds
from retrieval_shared.bundle import Bundle
from retrieval_shared.calibration import Calibration
from training.adapter import load_peft, load_slots, train_adapter
from training.assemble import Parts, write_bundle
from training.base_model import BaseModel, check_max_tokens, load_base_model, round_to_int8
from training.calibrate import HeldOut, fit_calibration, fit_thresholds
from training.config import ModerationConfig
from training.examples import DISGUISED, HEADS, OWN_ADS, Examples, fold_of, load_examples
from training.export import StatesGraph, export_onnx, quantise
from training.sampling import Weighted, weigh
from training.states import CachedStates, JoinedStates, cache_states
from training.violation_heads import train_heads

log = structlog.get_logger()

HELD_OUT_ROWS = 20_000
"""Public rows of the held-out fold that calibration looks at; all of our own ads of that fold are."""
MAX_STATE_TOKENS = 96
"""Tokens of a row that the heads learn from."""


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
    for_adapter = shared & (fold != 0) & ~np.isin(examples.source, config.adapter.without_sources)
    log.info("examples", rows=len(examples), allowed=int(allowed.sum()), held_out=int((allowed & (fold == 0)).sum()))

    seen = examples.take(np.flatnonzero(for_adapter))
    base = _base(config)
    folder = run.runs / f"adapter-{_key(base.sha256, config, seen)}"
    # Training wraps the layers of the model it is given, so it gets one of its own.
    adapter = train_adapter(_base(config), seen, config.adapter, config.heads, folder=folder, seed=config.seed)
    encoder = load_slots(base, adapter, config.adapter)
    states = _states(encoder_graph(folder, encoder), base, examples, run, shared)

    # Cuts are for the languages the model reads; ads in others go to a person anyway.
    held_out = allowed & (fold == 0) & np.isin(np.char.partition(examples.lang, "-")[:, 0], config.languages)
    rows = np.flatnonzero(allowed)
    weighted = _weigh(examples, rows, config)
    stage = folder / f"heads-{_heads_key(weighted, config)}"
    crossfit = train_heads(
        states, weighted, rows[fold[rows] != 0], config.heads,
        start_from=adapter.heads, checkpoint=stage / "crossfit.pt", seed=config.seed,
    )  # fmt: skip
    final = train_heads(
        states, weighted, rows, config.heads,
        start_from=adapter.heads, checkpoint=stage / "final.pt", seed=config.seed,
    )  # fmt: skip
    parts = Parts(
        encoder=encoder, heads=crossfit, base=base, adapter=adapter.folder, calibration=_identity(),
        thresholds=Thresholds.of(prevalence=config.thresholds.prevalence, heads={}), training={},
    )  # fmt: skip
    held = _held_out(write_bundle(run.runs / f"{config.name}-crossfit", parts, config), examples, held_out)
    calibration = fit_calibration(HEADS, held)
    thresholds = fit_thresholds(HEADS, calibration.probabilities(held.logits), held, config.thresholds)
    finished = dataclasses.replace(
        parts, heads=final, calibration=calibration, thresholds=thresholds, training=_record(examples, allowed, fold)
    )
    return write_bundle(run.out, finished, config, oracle=load_peft(_base(config).model, adapter))


def encoder_graph(folder: Path, encoder: torch.nn.Module) -> Path:
    """Return the int8 graph that gives token states and vectors, exporting it once."""
    graph = folder / "states.onnx"
    if not graph.is_file():
        plain, unfinished = folder / "states.float32.onnx", folder / "states.unfinished.onnx"
        export_onnx(StatesGraph(encoder), plain, ["states", "vector"])  # type: ignore[arg-type]
        quantise(plain, unfinished)
        plain.unlink()
        unfinished.rename(graph)
    return graph


def _base(config: ModerationConfig) -> BaseModel:
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


def _states(graph: Path, base: BaseModel, examples: Examples, run: Run, shared: NDArray[np.bool_]) -> JoinedStates:
    """Return the states of all examples; those of `shared` rows lie in a cache that other configurations use too."""
    ids = [encoding.ids for encoding in base.tokenizer.encode_batch(list(examples.texts))]
    cut = [row if len(row) <= MAX_STATE_TOKENS else [*row[: MAX_STATE_TOKENS - 1], row[-1]] for row in ids]
    parts: list[CachedStates] = []
    part, place = (np.zeros(len(examples), dtype=np.int64) for _ in range(2))
    for rows in (np.flatnonzero(shared), np.flatnonzero(~shared)):
        if not len(rows):
            continue
        part[rows], place[rows] = len(parts), np.arange(len(rows))
        some = [cut[i] for i in rows]
        folder = graph.parent / f"states-{hashlib.sha256(repr(some).encode()).hexdigest()[:12]}"
        parts.append(cache_states(graph, some, folder=folder, dim=base.dim, slot=1, threads=run.threads))
    return JoinedStates(parts=tuple(parts), part=part, place=place)


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
