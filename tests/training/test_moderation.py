"""A whole training run in small: sixty rows, twenty ads, the tiny encoder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

import training.moderation
from moderation import Moderator
from retrieval_shared.bundle import BASE_WEIGHTS, CONFIG, Bundle, load_bundle
from training.config import DataConfig, HeadsConfig, ModerationConfig
from training.examples import HEADS, OWN_ADS, Examples, fold_of, load_examples
from training.moderation import Run, train_moderation


@dataclass(frozen=True)
class Trained:
    """A finished run."""

    bundle: Bundle
    run: Run
    config: ModerationConfig
    seen: Examples
    """What the adapter was given."""


def _rows() -> list[dict[str, object]]:
    """Sixty public rows: about bets, from prompts that only the heads may see, and of a licence not asked for."""
    rows = []
    for i in range(60):
        source, licence = (("bets", "open"), ("bets", "open"), ("rtplx_prompts", "open"), ("closed", "sa"))[i % 4]
        text = f"win free bet casino {i}" if i % 8 < 4 else f"fresh bread every morning {i}"
        labels = {"gambling": int(i % 8 < 4), "hate": 0} if source == "bets" else {"hate": int(i % 8 < 4)}
        rows.append(
            {
                "id": str(i),
                "text": text,
                "lang": "en",
                "region": None,
                "source": source,
                "licence": licence,
                "kind": "ad" if i % 5 == 0 else "post",
                "labels": labels,
                "group": f"g{i // 2}",
            }  # fmt: skip
        )
    return rows


def _ads() -> list[dict[str, object]]:
    labels: tuple[list[str], ...] = (["gambling"], ["alcohol_tobacco"], [], [])
    bodies = (
        "play casino and win cash",
        "buy vodka and wine",
        "tea and bread for your day",
        "v\u200bodka free shoes sale",
    )
    return [
        {
            "id": f"ad-{i}",
            "title": None,
            "body": f"{bodies[i % 4]} {i}",
            "cta": None,
            "landing_text": None,
            "lang": "en",
            "regions": ["US"],
            "labels": labels[i % 4],
            "kind": "positive" if labels[i % 4] else "clean",
            "note": None,
        }  # fmt: skip
        for i in range(60)
    ]


def _write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(tiny_config: ModerationConfig, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("run")
    _write(folder / "data" / "moderation" / "train.jsonl", _rows())
    config = dataclasses.replace(
        tiny_config,
        adapter=dataclasses.replace(tiny_config.adapter, rows=40, ad_repeats=1, tokens_per_step=256),
        heads=HeadsConfig(hidden=4, epochs=1, batch_rows=64),
        data=DataConfig(ads=str(_write(folder / "ads.jsonl", _ads()))),
    )
    run = Run(data=folder / "data", out=folder / "bundle", runs=folder / "runs", threads=1)
    given: list[Examples] = []
    real: Callable[..., Any] = training.moderation.train_adapter

    def spy(base: object, examples: Examples, *rest: object, **options: object) -> object:
        given.append(examples)
        return real(base, examples, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
        patch.setattr(training.moderation, "train_adapter", spy)
        bundle = train_moderation(config, run)
    return Trained(bundle=bundle, run=run, config=config, seen=given[0])


def test_the_bundle_serves(trained: Trained) -> None:
    moderator = Moderator.load(trained.run.out)
    assert moderator.heads == HEADS
    [decision] = moderator.moderate([{"id": "a", "text": "win free bet casino"}], regions=["GB"])
    assert decision.status == "ok"
    assert moderator.bundle.manifest.digest == trained.bundle.manifest.digest


def test_the_adapter_sees_neither_the_held_out_fold_nor_what_is_kept_for_the_heads(trained: Trained) -> None:
    folds, seed = trained.config.data.folds, trained.config.seed
    assert (fold_of(trained.seen.group, folds=folds, seed=seed) != 0).all()
    assert set(trained.seen.source) == {OWN_ADS, "bets"}
    assert set(trained.seen.licence) == {"open"}


def test_the_record_tells_what_was_learnt_from(trained: Trained) -> None:
    record = json.loads(trained.bundle.file(CONFIG).read_text(encoding="utf-8"))
    assert record["sources"] == {"bets": 30, OWN_ADS: 60, "rtplx_prompts": 15}
    assert record["rows"] == 30 + 60 + 15
    assert record["disguised_copies"] > 0  # beside the rows, not among them
    assert record["labels"]["gambling"] == {"positives": 16 + 15, "negatives": 14 + 45}
    assert record["labels"]["weapons"]["positives"] == 0
    assert record["labels"]["toxic"] == {"positives": 0, "negatives": 0}
    assert record["parity"]["peft_max_abs"] < 1e-4


def test_the_base_weights_depend_on_the_base_alone(trained: Trained, tiny_bundle: Bundle) -> None:
    """Another adapter and other heads over one base: a retrain leaves the large file as it is."""
    crossfit = load_bundle(trained.run.runs / f"{trained.config.name}-crossfit")
    hashes = {bundle.sha256(BASE_WEIGHTS) for bundle in (trained.bundle, crossfit, tiny_bundle)}
    assert len(hashes) == 1
    graphs = {bundle.sha256("encoder.onnx") for bundle in (trained.bundle, crossfit, tiny_bundle)}
    assert len(graphs) == 3


def test_a_head_without_labels_never_fires(trained: Trained) -> None:
    thresholds = Moderator.load(trained.run.out).thresholds
    assert (thresholds.heads["weapons"].escalate, thresholds.heads["weapons"].act) == (1.0, 1.0)
    assert thresholds.heads["gambling"].positives > 0
    assert thresholds.prevalence == trained.config.thresholds.prevalence


def test_without_a_data_folder_our_own_ads_are_all_there_is(trained: Trained) -> None:
    examples = load_examples(None, trained.config.data)
    assert set(examples.source) == {OWN_ADS}
    with pytest.raises(FileNotFoundError, match="WARDLINE_DATA"):
        load_examples(trained.run.runs, trained.config.data)


def test_another_base_is_another_run(trained: Trained) -> None:
    arguments = (trained.config, trained.seen)
    assert training.moderation._key("a" * 64, *arguments) != training.moderation._key("b" * 64, *arguments)
    fewer = trained.seen.take(np.arange(len(trained.seen) - 1))
    assert training.moderation._key("a" * 64, *arguments) != training.moderation._key("a" * 64, trained.config, fewer)
    heads = dataclasses.replace(trained.config.heads, unlabelled_share=0.7)
    other = dataclasses.replace(trained.config, heads=heads)
    assert training.moderation._key("a" * 64, *arguments) != training.moderation._key("a" * 64, other, trained.seen)


def test_another_second_stage_does_not_resume_from_this_ones_checkpoint(trained: Trained) -> None:
    config = trained.config
    rows = np.arange(len(trained.seen))
    longer = dataclasses.replace(config, heads=dataclasses.replace(config.heads, epochs=config.heads.epochs + 1))
    weighted = training.moderation._weigh(trained.seen, rows, config)
    fewer = training.moderation._weigh(trained.seen, rows[1:], config)
    key = training.moderation._heads_key
    assert len({key(weighted, config), key(weighted, longer), key(fewer, config)}) == 3
    assert not list(trained.run.runs.rglob("*.pt"))
