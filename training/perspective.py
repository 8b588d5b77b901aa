"""The mapping that brings our scores to Perspective's scale, fitted on texts that several readers voted on.

Perspective calibrated its scores by isotonic regression on half toxic and half other comments, so that a score of .80
"can be interpreted as a belief that 80% of people would consider the comment to be toxic" (conversationai/
perspectiveapi, score_normalization.md; the same in Jigsaw, "What do Perspective's scores mean?", 2017). A threshold
keeps its meaning best if our score is made the same way: the expected fraction of readers who see the attribute,
E[fraction | score], over rows weighted to be half and half.

The other reading, a scale that flags the share of rows of which "fraction >= t" holds, was measured and dropped: most
rows have three raters, so that .7, .8 and .9 all ask for three of three and would become one cut, and far fewer raters
than any of them says see the attribute in what that cut flags (`same_share` in the fit's record). An expected fraction
is unbiased however few the raters.

Rows: the fold that neither the adapter nor the cross-fitted heads have seen, scored by those heads under the shipped
calibration, as for thresholds (`training.moderation`). Machine-written text is left out: the heads judge its style, so
that it would move the scale by more than anything that people wrote (`rtplx_completions` in
eval/reports/perspective.html), and comments are written by people.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from eval.document import write_json
from eval.suites.perceived import heads_report
from eval.votes import ATTRIBUTES, MACHINE_WRITTEN, VotedRows, load_voted, scores_of
from moderation.classifier import Classifier
from moderation.compat.perspective_scores import MAPPING_FILE
from retrieval_shared.bundle import BASE_WEIGHTS, CALIBRATION, CONFIG, Bundle, load_bundle
from retrieval_shared.calibration import load_calibration
from training.examples import fold_of, public_rows
from training.score_scale import Voted, cross_validate, expected_fractions

BORROWED = {"SEVERE_TOXICITY": "TOXICITY"}
"""Attribute without votes -> the one whose mapping it takes: nearer to what raters call very toxic than no mapping
(eval/reports/perspective.html), and its score stays at or below that one's."""
BATCH = 256
RESAMPLES = 200
"""Of the bootstrap by which the heads that could stand for an attribute are compared."""


@dataclass(frozen=True)
class PerspectiveRun:
    """What a mapping is fitted to, and on what."""

    bundle: Path
    """The bundle whose scores are mapped; the mapping is written into its folder."""
    crossfit: Path
    """The bundle of the same run whose heads left the held-out fold alone."""
    data: Path
    """Data folder with `moderation/train.jsonl.xz`."""


def train_perspective(run: PerspectiveRun) -> Path:
    """Fit the mapping of every attribute with votes, write it into the bundle's folder and return its path.

    Raises:
        ValueError: the two bundles are not of one run, or no source of an attribute can be balanced.
        FileNotFoundError: the data folder holds no training rows.
    """
    bundle, crossfit = load_bundle(run.bundle), load_bundle(run.crossfit)
    config = run_config(bundle, crossfit)
    rows = held_out(load_voted(public_rows(run.data)), config)
    heads = bundle.manifest.heads
    logits = crossfit_logits(Classifier(crossfit), rows.texts)
    probabilities = load_calibration(bundle.file(CALIBRATION), heads).probabilities(logits)
    scores = scores_of(probabilities, heads, ATTRIBUTES)  # [n, A]
    points, record = {}, {}
    for a, attribute in enumerate(ATTRIBUTES):
        known = ~np.isnan(rows.fraction[:, a])
        voted = Voted(scores[known, a], rows.fraction[known, a], rows.source[known], rows.group[known])
        points[attribute] = expected_fractions(voted)
        record[attribute] = cross_validate(voted, seed=config["seed"])
    by_head = dict(zip(heads, probabilities.astype(np.float64).T, strict=True))
    for each in heads_report(rows, by_head, seed=config["seed"], resamples=RESAMPLES):
        record[each["attribute"]].setdefault("heads", []).append(each)
    points |= {attribute: points[other] for attribute, other in BORROWED.items()}
    path = bundle.file(MAPPING_FILE)
    write_json(path, {"bundle": bundle.manifest.digest, "points": points, "fit": record})
    return path


def run_config(bundle: Bundle, crossfit: Bundle) -> Mapping[str, Any]:
    """Return the configuration both bundles were trained with.

    Raises:
        ValueError: they differ in it or in their base weights.
    """
    record, other = (json.loads(each.file(CONFIG).read_text(encoding="utf-8")) for each in (bundle, crossfit))
    same_base = bundle.sha256(BASE_WEIGHTS) == crossfit.sha256(BASE_WEIGHTS)
    if record["config"] != other["config"] or not same_base:
        raise ValueError(
            f"crossfit: found {crossfit.path.name!r}, which is of another run than {bundle.path.name!r}; "
            "`python wardline.py train moderation` leaves it in its --runs folder as <name>-crossfit"
        )
    config: Mapping[str, Any] = record["config"]
    return config


def held_out(rows: VotedRows, config: Mapping[str, Any]) -> VotedRows:
    """Return the rows of the run's licences and of the fold it left alone, written by people."""
    data = config["data"]
    fold = fold_of(rows.group, folds=data["folds"], seed=config["seed"])
    left_out = [*MACHINE_WRITTEN, *data["without_sources"]]
    return rows.take((fold == 0) & np.isin(rows.licence, data["licences"]) & ~np.isin(rows.source, left_out))


def crossfit_logits(classifier: Classifier, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return logits float32 `[n, H]`; texts of like length are scored together."""
    order = np.argsort([-len(text) for text in texts], kind="stable")
    logits = np.zeros((len(texts), len(classifier.heads)), dtype=np.float32)
    for start in track(range(0, len(texts), BATCH), description="scoring"):
        places = order[start : start + BATCH]
        logits[places] = classifier.score([texts[i] for i in places]).logits
    return logits
