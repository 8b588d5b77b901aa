"""The fit of the mapping: which rows, which heads, and what lies beside the bundle afterwards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.votes import ATTRIBUTES, VOTES_OF, VotedRows
from moderation.classifier import Classifier
from moderation.compat.perspective_scores import MAPPING_FILE, ScoreMapping
from retrieval_shared.bundle import CONFIG, Bundle, load_bundle, write_manifest
from training.examples import fold_of
from training.perspective import BORROWED, PerspectiveRun, crossfit_logits, held_out, run_config, train_perspective

TEXTS = ("kill war hate", "tea and bread", "fresh bread every morning", "hate hate you", "your door", "war")


def copy(bundle: Bundle, folder: Path, **changes: Any) -> Bundle:
    """A bundle of the same files whose configuration differs."""
    shutil.copytree(bundle.path, folder)
    record = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    record["config"] |= changes
    (folder / CONFIG).write_text(json.dumps(record), encoding="utf-8")
    write_manifest(folder, bundle.manifest)
    return load_bundle(folder)


def voted_rows(n: int) -> VotedRows:
    fraction = np.tile(np.array([[1.0], [0.0]]), (n // 2, len(ATTRIBUTES)))
    return VotedRows(
        texts=tuple(f"{TEXTS[i % 6]} {i}" for i in range(n)),
        fraction=fraction,
        source=np.array([("posts", "rtplx_completions", "left_out")[i % 3] for i in range(n)]),
        lang=np.full(n, "en"),
        licence=np.array([("open", "open", "open", "sa")[i % 4] for i in range(n)]),
        group=np.array([f"g{i // 2}" for i in range(n)]),
    )


def test_only_unseen_rows_that_people_wrote_under_the_licences_of_the_run() -> None:
    rows = voted_rows(600)
    config = {"seed": 13, "data": {"folds": 3, "licences": ["open"], "without_sources": ["left_out"]}}
    found = held_out(rows, config)
    assert set(found.source.tolist()) == {"posts"}
    assert set(found.licence.tolist()) == {"open"}
    assert set(fold_of(found.group, folds=3, seed=13).tolist()) == {0}
    kept = (rows.source == "posts") & (rows.licence == "open") & (fold_of(rows.group, folds=3, seed=13) == 0)
    assert len(found) == kept.sum() > 0


def test_the_heads_must_be_of_the_same_run(tiny_bundle: Bundle, tmp_path: Path) -> None:
    assert run_config(tiny_bundle, tiny_bundle)["seed"] == 13
    other = copy(tiny_bundle, tmp_path / "other", seed=14)
    with pytest.raises(ValueError, match="crossfit: found 'other', which is of another run"):
        run_config(tiny_bundle, other)


def test_logits_stand_in_the_order_of_the_texts(tiny_bundle: Bundle) -> None:
    classifier = Classifier(tiny_bundle)
    texts = [text * (1 + i % 4) for i, text in enumerate(TEXTS)]
    alone = np.concatenate([classifier.score([text]).logits for text in texts])
    np.testing.assert_allclose(crossfit_logits(classifier, texts), alone, atol=1e-4)


def test_a_mapping_is_laid_beside_a_bundle_that_stays_what_it_is(tiny_bundle: Bundle, tmp_path: Path) -> None:
    bundle = copy(tiny_bundle, tmp_path / "bundle")
    data = tmp_path / "data" / "moderation"
    data.mkdir(parents=True)
    votes = [dict.fromkeys(VOTES_OF.values(), [3 * (i % 2), 3]) for i in range(240)]
    lines = [
        {"id": str(i), "text": f"{TEXTS[i % 6]} {i}", "lang": "en", "source": f"s{i % 3 // 2}", "licence": "open",
         "kind": "post", "labels": {}, "votes": votes[i], "group": f"g{i}"}
        for i in range(240)
    ]  # fmt: skip
    (data / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    path = train_perspective(PerspectiveRun(bundle=bundle.path, crossfit=bundle.path, data=tmp_path / "data"))
    assert path == bundle.path / MAPPING_FILE
    assert load_bundle(bundle.path).manifest.digest == bundle.manifest.digest
    mapping = ScoreMapping.load(path)
    assert set(mapping.points) == {*ATTRIBUTES, *BORROWED}
    assert mapping.points["SEVERE_TOXICITY"] == mapping.points["TOXICITY"]
    assert mapping.fit["TOXICITY"]["n"] == (fold_of([f"g{i}" for i in range(240)], folds=3, seed=13) == 0).sum()
    assert [record["heads"] for record in mapping.fit["INSULT"]["heads"]][0] == ["harassment", "toxic"]
    assert set(mapping.fit["THREAT"]["mapped"]["thresholds"]) == {"0.7", "0.8", "0.9"}
