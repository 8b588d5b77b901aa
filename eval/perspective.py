"""Everything measured about the mapping to Perspective's scale: what its thresholds mean here, and what they flag.

Nothing is fitted. Rows are weighted so that every source is half and half, the mix that Perspective calibrated its
scores on; the mapping's own record holds the same figures on the rows it was fitted on, by cross-validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.datasets import SUITES, Suite, is_english, load_suite
from eval.document import plain
from eval.metrics.multilabel import roc_auc
from eval.report import ReportFiles, write_report
from eval.scores import Progress, Scorer
from eval.sections.perspective import page
from eval.subject import Moderating, subject_of
from eval.suites.perceived import (
    CANDIDATES,
    Scored,
    benign_report,
    by_source,
    heads_report,
    scale_report,
    severe_report,
)
from eval.votes import ATTRIBUTES, MACHINE_WRITTEN, VotedRows, load_voted, scores_of
from moderation.compat.perspective_scores import MAPPING_FILE, ScoreMapping

NAME = "perspective"
QUICK_ROWS = 300


@dataclass(frozen=True)
class Options:
    """How to measure."""

    seed: int = 13
    """Of the bootstrap and of a quick run's draw."""
    resamples: int = 200
    """Bootstrap resamples."""
    quick: bool = False
    """A few hundred rows per file: does everything run?"""
    progress: Progress | None = None
    """Called while texts are scored."""
    now: datetime | None = None
    """Date of the report; None takes the clock."""


def evaluate(moderator: Moderating, data_dir: Path, options: Options | None = None) -> dict[str, Any]:
    """Return the report on the mapping that lies beside the moderator's bundle, as JSON values.

    Raises:
        ValueError: a file is missing, or there is no mapping for this bundle.
    """
    options = options or Options()
    subject = subject_of(moderator)
    mapping = ScoreMapping.load(moderator.bundle.file(MAPPING_FILE))
    if mapping.bundle != subject.digest:
        raise ValueError(
            f"bundle: found no {MAPPING_FILE} fitted to {subject.name}; `wardline.py train perspective` writes it"
        )
    run = _Run(moderator, data_dir, options)
    dev, prompts = run.voted("dev"), run.voted("rtplx")
    people = dev.rows.licence == "open"
    people &= ~np.isin(dev.rows.source, MACHINE_WRITTEN)
    english = np.array([is_english(lang) for lang in prompts.rows.lang])

    def scale(scored: Scored) -> list[dict[str, Any]]:
        return scale_report(scored, mapping, seed=options.seed, resamples=options.resamples)

    report: dict[str, Any] = {
        "title": "Perspective's scale: evaluation",
        "created": (options.now or datetime.now(UTC)).date().isoformat(),
        "seed": options.seed,
        "quick": options.quick,
        "bundle": {"name": subject.name, "digest": subject.digest, "versions": moderator.versions},
        "points": mapping.points,
        "fit": mapping.fit,
        "dev": scale(dev.take(people)),
        "rtplx": scale(prompts),
        "rtplx_english": scale(prompts.take(english)),
        "sources": by_source(dev, mapping),
        "heads": {"dev": run.heads(dev.rows.take(people)), "rtplx": run.heads(prompts.rows)},
        "hatecheck": run.hatecheck(),
        "severe": run.severe(mapping),
        "benign": run.benign(mapping),
        "saw_rtplx": subject.learnt_from.saw_rtplx,
    }
    report["n"] = len(dev.rows) + len(prompts.rows) + sum(part["n"] for part in report["benign"]["all"])
    document: dict[str, Any] = plain(report)
    return document


def write_perspective(report: dict[str, Any], folder: Path) -> ReportFiles:
    """Write `perspective.json` and `perspective.html` into `folder` and return where they are."""
    return write_report(report, folder, name=NAME, draw=page)


class _Run:
    """One evaluation: the rows, scored once each."""

    def __init__(self, moderator: Moderating, data_dir: Path, options: Options) -> None:
        self._heads, self._data, self._options = tuple(moderator.heads), data_dir, options
        self._scorer = Scorer(moderator, identity=moderator.bundle.manifest.digest, progress=options.progress)

    def voted(self, name: str) -> Scored:
        """Return the voted rows of a suite with their scores."""
        rows = load_voted(self._data / SUITES[name])
        if self._options.quick and len(rows) > QUICK_ROWS:
            rng = np.random.default_rng(self._options.seed)
            rows = rows.take(np.sort(rng.choice(len(rows), QUICK_ROWS, replace=False)))
        return Scored(rows, self._scores(rows.texts, name, ATTRIBUTES))

    def heads(self, rows: VotedRows) -> list[dict[str, Any]]:
        """Return how the heads that could stand for an attribute rank the rows."""
        options = self._options
        return heads_report(rows, self._probabilities(rows.texts), seed=options.seed, resamples=options.resamples)

    def hatecheck(self) -> list[dict[str, Any]]:
        """Return the AUC of the heads that could stand for IDENTITY_ATTACK on the functional tests of hate."""
        suite = self._suite("hatecheck")
        labels, found = suite.labels(["hate"])[:, 0], self._probabilities(suite.texts)
        return [
            {"heads": list(heads), "n": len(suite.rows),
             "auc": roc_auc(labels, np.prod([found[head] for head in heads], axis=0))}
            for heads in CANDIDATES["IDENTITY_ATTACK"]
        ]  # fmt: skip

    def _probabilities(self, texts: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        return dict(zip(self._heads, self._scorer(texts).astype(np.float64).T, strict=True))

    def _suite(self, name: str) -> Suite:
        suite = load_suite(self._data, name)
        return suite.thinned(QUICK_ROWS, seed=self._options.seed) if self._options.quick else suite

    def severe(self, mapping: ScoreMapping) -> dict[str, Any]:
        """Return SEVERE_TOXICITY on the prompts whose raters gave steps."""
        suite = self._suite("rtplx")
        return severe_report(suite, self._scores(suite.texts, "rtplx", ["SEVERE_TOXICITY"])[:, 0], mapping)

    def benign(self, mapping: ScoreMapping) -> dict[str, Any]:
        """Return what is flagged of the development rows that are not labelled toxic."""
        suite = self._suite("dev")
        suite = suite.where(np.array([row.labels.get("toxic") != 1 for row in suite.rows], dtype=bool))
        scores = self._scores(suite.texts, "dev, not toxic", ["TOXICITY"])[:, 0]
        return benign_report(suite, scores, mapping)

    def _scores(self, texts: Sequence[str], what: str, attributes: Sequence[str]) -> NDArray[np.float64]:
        return scores_of(self._scorer(texts, what=what), self._heads, attributes)
