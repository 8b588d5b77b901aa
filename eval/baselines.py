"""The simple opponent: one logistic regression per head over character n-grams, from the rows the model learnt from."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression

from eval.datasets import Row, Suite, load_rows, load_training
from eval.subject import LearntFrom

CHUNK = 20_000
"""Rows hashed at a time, to bound the memory the hashing needs beside its result."""

AD_REPEATS = 4
"""How often our own ads count: few against more than a hundred thousand public rows. The model's stages weigh them 5
and 6 times and read disguised ones undone as well, which this does not."""


class NgramBaseline:
    """Hashed, sublinear TF-IDF of character 2- to 5-grams within words, then L2-regularised logistic regression.

    A head learns from the rows where it is known. One with positives only gets unlabelled rows, of sources that never
    speak of it, as negatives, `unlabelled_per_positive` for each positive: without them there is nothing to fit. A head
    without positives stays at 0. No randomness beyond the seeded draw of those rows; lbfgs is deterministic.
    """

    def __init__(
        self,
        heads: Sequence[str],
        *,
        log2_features: int = 20,
        inverse_penalty: float = 8.0,
        iterations: int = 100,
        unlabelled_per_positive: int = 20,
        seed: int = 13,
    ) -> None:
        """Prepare an unfitted baseline for `heads`.

        Args:
            heads: the H heads, in the order of the columns.
            log2_features: hash into 2 to this power columns.
            inverse_penalty: scikit-learn's C.
            iterations: at most so many lbfgs steps.
            unlabelled_per_positive: stand-in negatives per positive of a positives-only head.
            seed: of the draw of the stand-ins.
        """
        self.heads = tuple(heads)
        self._hashing = HashingVectorizer(
            analyzer="char_wb",
            ngram_range=(2, 5),
            n_features=2**log2_features,
            alternate_sign=False,
            norm=None,
            dtype=np.float32,
        )
        self._tfidf = TfidfTransformer(sublinear_tf=True)
        self._inverse_penalty = inverse_penalty
        self._iterations = iterations
        self._unlabelled = unlabelled_per_positive
        self._seed = seed
        self._weights = sp.csr_matrix((0, 0), dtype=np.float32)
        self._bias = np.zeros(0, dtype=np.float32)
        self.stand_ins: tuple[str, ...] = ()
        """Heads fitted against unlabelled rows."""

    def fit(self, rows: Sequence[Row]) -> NgramBaseline:
        """Return self, fitted.

        Raises:
            ValueError: there are no rows.
        """
        if not rows:
            raise ValueError("rows: found none, expected at least one")
        counts = self._counts([row.text for row in rows])
        features = self._tfidf.fit_transform(counts).astype(np.float32).tocsr()  # [n, 2^k]
        source = np.array([row.source for row in rows])
        weights, bias, filled = [], [], []
        for head in self.heads:
            y = np.array([row.labels.get(head, np.nan) for row in rows])
            y, stood_in = self._with_stand_ins(y, source)
            w, b = self._fit_head(features, y)
            weights.append(w)
            bias.append(b)
            filled.append(stood_in)
        self._weights, self._bias = np.stack(weights), np.array(bias, dtype=np.float32)
        self.stand_ins = tuple(head for head, stood_in in zip(self.heads, filled, strict=True) if stood_in)
        return self

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 [n, H] in [0, 1]; 0 for a head without positives among the rows.

        Raises:
            ValueError: the baseline is not fitted.
        """
        if not self._bias.size:
            raise ValueError("baseline: found it unfitted, call fit first")
        if not texts:
            return np.zeros((0, len(self.heads)), dtype=np.float32)
        features = self._tfidf.transform(self._counts(texts)).astype(np.float32)
        logits = np.asarray(features @ self._weights.T + self._bias, dtype=np.float64)  # [n, H]
        return (1.0 / (1.0 + np.exp(-np.clip(logits, -700, 700)))).astype(np.float32)

    def _counts(self, texts: Sequence[str]) -> sp.csr_matrix:
        parts = [self._hashing.transform(texts[i : i + CHUNK]) for i in range(0, len(texts), CHUNK)]
        return sp.vstack(parts, format="csr")

    def _with_stand_ins(self, y: NDArray[np.float64], source: NDArray[np.str_]) -> tuple[NDArray[np.float64], bool]:
        positives = int((y == 1).sum())
        if not positives or (y == 0).any():
            return y, False
        speaking = np.unique(source[~np.isnan(y)])
        candidates = np.flatnonzero(np.isnan(y) & ~np.isin(source, speaking))
        size = min(candidates.size, self._unlabelled * positives)
        filled = y.copy()
        filled[np.random.default_rng(self._seed).choice(candidates, size=size, replace=False)] = 0.0
        return filled, size > 0

    def _fit_head(self, features: sp.csr_matrix, y: NDArray[np.float64]) -> tuple[NDArray[np.float32], float]:
        known = np.flatnonzero(~np.isnan(y))
        if len(np.unique(y[known])) < 2:
            # Nothing to tell apart: a probability of 0, so that the head ranks nothing and flags nothing.
            return np.zeros(features.shape[1], dtype=np.float32), -700.0
        rows = features[known]
        # A column seen once here can only be learnt by heart; leaving such out halves the length of lbfgs's vectors.
        kept = np.flatnonzero(np.bincount(rows.indices, minlength=rows.shape[1]) >= 2)
        # lbfgs stops on the gradient of the mean loss, tiny for a rare head: the usual 1e-4 would stop it at the start.
        model = LogisticRegression(C=self._inverse_penalty, max_iter=self._iterations, tol=1e-7)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # bounded steps are wanted: see `iterations`
            model.fit(rows[:, kept], y[known].astype(np.int64))
        weights = np.zeros(features.shape[1], dtype=np.float32)
        weights[kept] = model.coef_[0]
        return weights, float(model.intercept_[0])


class Opponent:
    """The baseline of one model: fitted, when first asked, to the rows that model says it learnt from."""

    def __init__(
        self, learnt_from: LearntFrom, data_dir: Path, *, heads: Sequence[str], seed: int, limit: int | None = None
    ) -> None:
        """Remember what to learn from; nothing is read yet.

        Args:
            learnt_from: the model's training rows.
            data_dir: the data folder.
            heads: the H heads.
            seed: of the thinning and of the stand-in negatives.
            limit: at most so many public rows; None takes all.
        """
        self.heads = tuple(heads)
        self._learnt_from, self._data, self._seed, self._limit = learnt_from, data_dir, seed, limit
        self._fitted: NgramBaseline | None = None

    @property
    def identity(self) -> str:
        """Return a name that changes with the rows learnt from."""
        ads = self._learnt_from.ads_file
        size = ads.stat().st_size if ads else 0
        return f"char_wb 2-5, {self._learnt_from}, ads {size} bytes, limit {self._limit}, seed {self._seed}"

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 [n, H]."""
        if self._fitted is None:
            rows = self._training_rows()
            self._fitted = NgramBaseline(self.heads, seed=self._seed).fit(rows)
        return self._fitted.probabilities(texts)

    def describe(self) -> dict[str, Any]:
        """Return what the baseline is, for the report."""
        return {
            "kind": "one logistic regression per head on TF-IDF of character 2- to 5-grams",
            "limit": self._limit,
        }

    def _training_rows(self) -> list[Row]:
        from_ = self._learnt_from
        public = load_training(
            self._data, licences=from_.licences, also_sources=from_.also_sources, without_sources=from_.without_sources
        )
        if self._limit is not None:
            public = public.thinned(self._limit, seed=self._seed)
        ads = _ads(load_rows(from_.ads_file), self.heads) if from_.ads_file else []
        return [*public.rows, *ads * AD_REPEATS]


def _ads(suite: Suite, heads: Sequence[str]) -> list[Row]:
    """Return our own ads with every head of the guideline known: what an ad does not list, it is not."""
    judged = [head for head in heads if head != "toxic"]
    return [
        replace(row, labels={head: row.labels.get(head, 0.0) for head in judged}, source="own_ads")
        for row in suite.rows
    ]
