"""Everything measured about a moderation bundle, as one plain document; `eval.report` turns it into a page."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.adapter_record import adapter_record
from eval.baselines import Opponent
from eval.datasets import Suite, load_suite
from eval.document import plain, read_json
from eval.language import language_accuracy
from eval.scores import Progress, Scorer
from eval.subject import ROOT, Moderating, Subject, subject_of
from eval.suites.ads import ads_report
from eval.suites.dev import dev_report
from eval.suites.faithfulness import faithfulness_report
from eval.suites.functional import hate_report, safe_report
from eval.suites.robustness import robustness_report
from eval.suites.rtplx import rtplx_report
from eval.transforms import TRANSFORMS, obfuscate
from moderation.decision import Context, decide

HATE_SUITES = ("hatecheck", "multilingual_hatecheck", "hatemojicheck")
DECIDED_AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
"""When every ad of the suites runs; rules that speak of times go by it, so that the figures stay the same."""
QUICK_ROWS = 300
"""Rows per suite of a quick run: it shows that everything runs, not how good the model is."""

DRAWS = 5
"""Random disguises of every ad under every transform: one draw alone moves recall by several points."""

QUICK_BASELINE_ROWS = 4_000
"""Training rows of the baseline in a quick run."""

BALANCE = ROOT / "eval" / "reports" / "balance.json"
"""What `train balance` wrote: strategies of training beside each other, not a measurement of the bundle."""


@dataclass(frozen=True)
class Options:
    """How to measure; what is measured is the moderator."""

    seed: int = 13
    """Of every draw: bootstrap, obfuscation, random spans, thinning."""
    resamples: int = 200
    """Bootstrap resamples."""
    baseline: bool = True
    """Whether to fit and score the n-gram baseline."""
    quick: bool = False
    """Thin every suite to `QUICK_ROWS` rows."""
    cache: Path | None = None
    """Folder for scores kept between runs; None keeps none."""
    balance: Path = BALANCE
    """The comparison of training strategies that the page shows; left out where there is none."""
    progress: Progress | None = None
    """Called while texts are scored."""
    now: datetime | None = None
    """Date of the report; None takes the clock."""


def evaluate(
    moderator: Moderating,
    data_dir: Path,
    *,
    second: Moderating | None = None,
    wider: Moderating | None = None,
    options: Options | None = None,
) -> dict[str, Any]:
    """Return the whole report as JSON values.

    Args:
        moderator: the bundle the report is about.
        data_dir: the data folder.
        second: a bundle that differs in having seen (or not) the training rows of RTP-LX; scored on that suite only.
        wider: a bundle trained on rows of more licences; set beside the first on the development rows.
        options: see `Options`.

    Raises:
        ValueError: a file is missing, or a bundle does not say what it was trained on.
    """
    options = options or Options()
    subject = subject_of(moderator)
    run = _Run(subject, data_dir, options)
    ads = run.suite("ads_dev")
    decisions = moderator.moderate([_item(row.id, row.fields, row.regions) for row in ads.rows])
    report: dict[str, Any] = {
        "title": "Moderation: evaluation",
        "created": (options.now or datetime.now(UTC)).date().isoformat(),
        "seed": options.seed,
        "quick": options.quick,
        "bundle": {"name": subject.name, "digest": subject.digest, "versions": moderator.versions},
        "learnt_from": subject.learnt_from,
        "thresholds": dict(moderator.thresholds.heads),
        "prevalence": moderator.thresholds.prevalence,
        "baseline": run.opponent.describe() if run.opponent else None,
        "dev": run.dev(),
        "wider": run.wider(wider) if wider else None,
        "ads_dev": run.ads(ads, decisions),
        "robustness": run.robustness(ads),
        "faithfulness": faithfulness_report(decisions, ads, run.scorer, seed=options.seed),
        **{name: run.hate(name) for name in HATE_SUITES},
        "xstest": run.safe(),
        "rtplx": run.rtplx(second),
        "adapters": adapter_record(moderator.bundle),
        "balance": read_json(options.balance) if options.balance.is_file() else None,
        "language": language_accuracy({"text": row.text, "lang": row.lang} for row in ads.rows),
    }
    report["n"] = sum(report[name]["n"] for name in ("dev", "ads_dev", *HATE_SUITES, "rtplx")) + _safe_rows(report)
    document: dict[str, Any] = plain(report)
    return document


def code_digest() -> str:
    """Return a sha256 over the files that read a text (normaliser, encoder, classifier) as they lie on disk."""
    files = [*(ROOT / "retrieval_shared").rglob("*"), ROOT / "moderation" / "classifier.py"]
    read = sorted(path for path in files if path.suffix in {".py", ".txt"})
    return hashlib.sha256(b"".join(path.read_bytes() for path in read)).hexdigest()


class _Run:
    """One evaluation: the suites, scored once each."""

    def __init__(self, subject: Subject, data_dir: Path, options: Options) -> None:
        self.subject, self.options, self._data = subject, options, data_dir
        self.heads = tuple(subject.moderator.heads)
        self.thresholds = {head: value.escalate for head, value in subject.moderator.thresholds.heads.items()}
        self.scorer = self._scorer(subject.moderator, self._identity(subject))
        self.opponent = self._make_opponent() if options.baseline else None
        self._baseline = self._scorer(self.opponent, self.opponent.identity) if self.opponent else None

    def _make_opponent(self) -> Opponent:
        rows = QUICK_BASELINE_ROWS if self.options.quick else None
        return Opponent(self.subject.learnt_from, self._data, heads=self.heads, seed=self.options.seed, limit=rows)

    def suite(self, name: str) -> Suite:
        """Return a suite, thinned in a quick run."""
        suite = load_suite(self._data, name)
        return suite.thinned(QUICK_ROWS, seed=self.options.seed) if self.options.quick and name != "ads_dev" else suite

    def dev(self) -> dict[str, Any]:
        """Return the development rows' tables."""
        suite = self.suite("dev")
        return dev_report(
            suite, self.scorer(suite.texts, what="dev"), self._opponent_scores(suite), heads=self.heads,
            seed=self.options.seed, resamples=self.options.resamples,
        )  # fmt: skip

    def wider(self, moderator: Moderating) -> dict[str, Any]:
        """Return the other bundle's tables of the development rows, with ours in the place of the baseline."""
        suite, other = self.suite("dev"), subject_of(moderator)
        report = dev_report(
            suite, self._scorer(moderator, self._identity(other))(suite.texts, what="dev, more licences"),
            self.scorer(suite.texts, what="dev"), heads=self.heads,
            seed=self.options.seed, resamples=self.options.resamples,
        )  # fmt: skip
        heads = [
            {"head": head["head"], "ap": head["ap"], "ap_shipped": head["ap_baseline"],
             "ap_english": head["english"]["ap"], "ap_english_shipped": head["english"]["ap_baseline"]}
            for head in report["heads"]
        ]  # fmt: skip
        return {
            "name": other.name, "digest": other.digest, "licences": other.learnt_from.licences, "heads": heads,
            "macro": report["macro"], "macro_english": report["macro_english"],
        }  # fmt: skip

    def ads(self, suite: Suite, decisions: Sequence[Any]) -> dict[str, Any]:
        """Return the ads' tables."""
        served = [{part.region: str(part.action) for part in decision.decisions} for decision in decisions]
        return ads_report(
            suite, self.scorer(suite.texts, what="ads"), self._opponent_scores(suite), heads=self.heads,
            thresholds=self.thresholds, decide=self._decide(), served=served, seed=self.options.seed,
        )  # fmt: skip

    def robustness(self, suite: Suite) -> dict[str, Any]:
        """Return recall under every transform."""
        rng = np.random.default_rng(self.options.seed)
        texts = {
            name: [[obfuscate(text, transform=name, rng=rng) for text in suite.texts] for _ in range(DRAWS)]
            for name in TRANSFORMS
        }
        as_written = self._scorer(self.subject.moderator.classifier, f"{self._identity(self.subject)}, as written")
        return robustness_report(
            suite,
            self.scorer(suite.texts, what="ads"),
            {name: [self.scorer(draw, what=name) for draw in draws] for name, draws in texts.items()},
            {name: [as_written(draw, what=f"{name}, as written") for draw in draws] for name, draws in texts.items()},
            heads=self.heads,
            thresholds=self.thresholds,
        )

    def hate(self, name: str) -> dict[str, Any]:
        """Return one functional suite of the hate head."""
        suite = self.suite(name)
        scores = self.scorer(suite.texts, what=name)[:, self.heads.index("hate")]
        return hate_report(suite, scores, threshold=self.thresholds["hate"])

    def safe(self) -> dict[str, Any]:
        """Return the over-flagging suite."""
        suite = self.suite("xstest")
        return safe_report(suite, self.scorer(suite.texts, what="xstest"), heads=self.heads, thresholds=self.thresholds)

    def rtplx(self, second: Moderating | None) -> dict[str, Any]:
        """Return the suite under both bundles."""
        suite = self.suite("rtplx")
        subjects = [self.subject] + ([subject_of(second)] if second is not None else [])
        models = []
        for subject in subjects:
            scorer = (
                self.scorer if subject is self.subject else self._scorer(subject.moderator, self._identity(subject))
            )
            report = rtplx_report(
                suite, scorer(suite.texts, what="rtplx"), heads=self.heads,
                saw_training_rows=subject.learnt_from.saw_rtplx,
            )  # fmt: skip
            models.append({"name": subject.name, "digest": subject.digest, **report})
        return {"n": len(suite.rows), "models": models}

    def _identity(self, subject: Subject) -> str:
        """Return what scores depend on: the bundle, and the code that reads a text before the graph does."""
        return f"{subject.digest}, {code_digest()}"

    def _scorer(self, model: Any, identity: str) -> Scorer:  # noqa: ANN401 - a moderator or the baseline
        return Scorer(model, identity=identity, folder=self.options.cache, progress=self.options.progress)

    def _opponent_scores(self, suite: Suite) -> NDArray[np.float32] | None:
        return self._baseline(suite.texts, what=f"{suite.name}, baseline") if self._baseline else None

    def _decide(self) -> Callable[[Mapping[str, float], str], str]:
        moderator = self.subject.moderator

        def action(probabilities: Mapping[str, float], region: str) -> str:
            found = decide(
                probabilities,
                region=region,
                policy=moderator.policy,
                thresholds=moderator.thresholds,
                context=Context(),
                at=DECIDED_AT,
            )
            return str(found.action)

        return action


def _item(identifier: str, fields: Mapping[str, str], regions: Sequence[str]) -> dict[str, Any]:
    return {"id": identifier, "fields": dict(fields), "regions": list(regions)}


def _safe_rows(report: Mapping[str, Any]) -> int:
    return int(report["xstest"]["n_safe"]) + int(report["xstest"]["n_unsafe"])
