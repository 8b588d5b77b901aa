"""A whole training run in small: sixty rows, sixty ads, the tiny encoder, one region."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
from numpy.typing import NDArray

import training.adapter
import training.moderation
import training.region_adapters
import training.region_stage
import training.violation_heads
from moderation import Moderator
from moderation.classifier import SLOT
from retrieval_shared.adapters import WEIGHTS
from retrieval_shared.bundle import BASE_WEIGHTS, CONFIG, GRAPH, Bundle, load_bundle
from training.config import DataConfig, HeadsConfig, ModerationConfig, RegionConfig
from training.examples import DISGUISED, HEADS, OWN_ADS, Examples, fold_of, load_examples
from training.moderation import Run, Split, train_moderation


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
    rows: list[dict[str, object]] = []
    for i in range(60):
        source, licence = (("bets", "open"), ("bets", "open"), ("rtplx_prompts", "open"), ("closed", "sa"))[i % 4]
        text = f"win free bet casino {i}" if i % 8 < 4 else f"fresh bread every morning {i}"
        labels = {"gambling": int(i % 8 < 4), "hate": 0} if source == "bets" else {"hate": int(i % 8 < 4)}
        rows.append(
            {
                "id": str(i), "text": text, "lang": "en", "region": "en-US" if i % 4 == 0 else None, "source": source,
                "licence": licence, "kind": "ad" if i % 5 == 0 else "post", "labels": labels, "group": f"g{i // 2}",
            }
        )  # fmt: skip
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
            "id": f"ad-{i}", "title": None, "body": f"{bodies[i % 4]} {i}", "cta": None, "landing_text": None,
            "lang": "en", "regions": ["US"], "labels": labels[i % 4], "kind": "positive" if labels[i % 4] else "clean",
            "note": None,
        }
        for i in range(60)
    ]  # fmt: skip


def _write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _small(config: ModerationConfig, folder: Path) -> ModerationConfig:
    return dataclasses.replace(
        config,
        adapter=dataclasses.replace(config.adapter, rows=40, ad_repeats=1, tokens_per_step=256),
        heads=HeadsConfig(hidden=4, rank=2, alpha=4, epochs=2, batch_rows=64, stop_folds=4),
        # Whatever it is worth, the region's adapter is shipped.
        regions=RegionConfig(least_rows=5, epochs=1, ship_gain=-1.0, ship_loss=-1.0),
        data=DataConfig(ads=str(_write(folder / "ads.jsonl", _ads()))),
    )


@pytest.fixture(scope="module")
def trained(tiny_config: ModerationConfig, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("run")
    _write(folder / "data" / "moderation" / "train.jsonl", _rows())
    config = _small(tiny_config, folder)
    run = Run(data=folder / "data", out=folder / "bundle", runs=folder / "runs", threads=1)
    given: list[Examples] = []
    real = training.moderation.sample_rows  # type: ignore[attr-defined]

    def spy(examples: Examples, *rest: Any) -> NDArray[np.intp]:  # noqa: ANN401
        rows: NDArray[np.intp] = real(examples, *rest)
        given.append(examples.take(rows))
        return rows

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
        patch.setattr(training.moderation, "sample_rows", spy)
        patch.setattr(training.region_stage, "ENOUGH", 1)  # so few rows are held out of the region
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


def test_the_record_tells_how_each_head_fits(trained: Trained) -> None:
    record = json.loads(trained.bundle.file(CONFIG).read_text(encoding="utf-8"))
    assert list(record["fit"]) == list(HEADS)
    examples = load_examples(trained.run.data, trained.config.data)
    for h, head in enumerate(HEADS):
        found = record["fit"][head]
        assert 1 <= found["pass"] <= trained.config.heads.epochs
        # Every row is learnt from, or finds the pass, or is held out.
        positives = sum(found[f"{side}_positives"] for side in ("train", "stop", "held_out"))
        assert positives == (examples.targets[:, h] == 1).sum()
    assert record["fit"]["toxic"]["pass"] == trained.config.heads.epochs  # without labels the last pass is kept
    assert record["fit"]["gambling"]["train_auc"] is not None


def test_a_region_has_its_slot_and_its_record(trained: Trained) -> None:
    record = json.loads(trained.bundle.file(CONFIG).read_text(encoding="utf-8"))
    assert trained.bundle.manifest.slots == ("base", SLOT, "region:US")
    assert set(record["regions"]) == {"region:US"}
    region = record["regions"]["region:US"]
    assert (region["parent"], region["shipped"]) == (SLOT, True)
    # Fifteen public rows are of the region: of the folds that are learnt from, and of the held-out one.
    assert region["rows"] + region["held_out"] == 15
    moderator = Moderator.load(trained.run.out)
    decisions = moderator.moderate([{"id": "a", "text": "win free bet casino"}], regions=["US", "GB"])
    assert all(decision.status == "ok" for decision in decisions)


def test_the_graph_and_the_base_weights_depend_on_the_base_alone(trained: Trained, tiny_bundle: Bundle) -> None:
    """Other adapters and other heads over one base: a retrain leaves the large files as they are."""
    crossfit = load_bundle(trained.run.runs / f"{trained.config.name}-crossfit")
    assert len({bundle.sha256(BASE_WEIGHTS) for bundle in (trained.bundle, crossfit, tiny_bundle)}) == 1
    assert trained.bundle.sha256(GRAPH) == crossfit.sha256(GRAPH)
    adapter, head = f"adapters/task-moderation/{WEIGHTS}", f"heads/gambling/{WEIGHTS}"
    assert trained.bundle.sha256(adapter) == crossfit.sha256(adapter) != tiny_bundle.sha256(adapter)
    assert trained.bundle.sha256(head) != crossfit.sha256(head)  # which has not seen the held-out fold


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


def test_a_run_takes_every_stage_that_is_there(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    for module in (training.adapter, training.violation_heads, training.region_adapters):
        monkeypatch.setattr(module, "run_steps", never)
    monkeypatch.setattr(training.region_stage, "ENOUGH", 1)
    found: list[Any] = []
    monkeypatch.setattr(training.moderation, "_bundle", lambda *given: found.extend(given))
    train_moderation(trained.config, trained.run)
    heads, adapters, regions = found[-3:]
    assert heads.final.passes == heads.crossfit.passes
    record = json.loads(trained.bundle.file(CONFIG).read_text(encoding="utf-8"))
    assert list(heads.crossfit.passes) == [record["fit"][head]["pass"] for head in HEADS]
    assert list(adapters) == [SLOT, "region:US"]
    assert json.loads(json.dumps(regions.record)) == record["regions"]
    assert not [path for path in trained.run.runs.rglob("*.pt") if ".pass" not in path.name]  # no checkpoint is left


def test_another_base_is_another_run(trained: Trained) -> None:
    arguments = (trained.config, trained.seen)
    assert training.moderation._key("a" * 64, *arguments) != training.moderation._key("b" * 64, *arguments)
    fewer = trained.seen.take(np.arange(len(trained.seen) - 1))
    assert training.moderation._key("a" * 64, *arguments) != training.moderation._key("a" * 64, trained.config, fewer)
    for change in ({"unlabelled_share": 0.7}, {"attention_heads": 1}):
        other = dataclasses.replace(trained.config, heads=dataclasses.replace(trained.config.heads, **change))
        assert training.moderation._key("a" * 64, *arguments) != training.moderation._key("a" * 64, other, trained.seen)


def test_another_second_stage_does_not_resume_from_this_ones_checkpoint(trained: Trained) -> None:
    config = trained.config
    rows = np.arange(len(trained.seen))
    longer = dataclasses.replace(config, heads=dataclasses.replace(config.heads, epochs=config.heads.epochs + 1))
    weighted = training.moderation._weigh(trained.seen, rows, config)
    fewer = training.moderation._weigh(trained.seen, rows[1:], config)
    key = training.moderation._heads_key
    assert len({key(weighted, config), key(weighted, longer), key(fewer, config)}) == 3


def test_regions_learn_anew_where_the_rows_or_the_heads_are_others() -> None:
    config, some = ModerationConfig(), crowd()
    heads, others = (SimpleNamespace(crossfit=SimpleNamespace(passes=(n,) * len(HEADS))) for n in (1, 2))
    split = Split.of(some, config)
    fewer = Split.of(some, dataclasses.replace(config, data=DataConfig(without_sources=("posts",))))
    larger = dataclasses.replace(config, regions=RegionConfig(most_rows=9))
    cases = [(config, heads, split), (config, others, split), (config, heads, fewer), (larger, heads, split)]
    assert len({training.moderation._regions_key(*case) for case in cases}) == len(cases)  # type: ignore[arg-type]


def test_a_head_that_there_is_not_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    config = ModerationConfig(base_model="nowhere", heads=HeadsConfig(loss_of={"hat": "focal"}))
    run = Run(data=tmp_path, out=tmp_path, runs=tmp_path)
    with pytest.raises(ValueError, match=r"heads\.loss_of: found 'hat'"):
        train_moderation(config, run)


def crowd(n: int = 400) -> Examples:
    """Own ads, their copies, posts of US, prompts and closed posts in turn; English, Finnish or both."""
    i = np.arange(n) % 5
    return Examples(
        texts=tuple(map(str, range(n))),
        targets=np.zeros((n, len(HEADS)), np.float32),
        source=np.array([OWN_ADS, OWN_ADS, "posts", "rtplx_prompts", "mirror"])[i],
        licence=np.array(["open", "open", "open", "open", "sa"])[i],
        lang=np.array(["en", "en-GB", "fi", "fi/en"])[np.arange(n) % 4],
        kind=np.array(["clean", DISGUISED, "ad", "post", "post"])[i],
        group=np.arange(n).astype(str),
        region=np.array(["", "", "US", "", ""])[i],
    )


def test_each_stage_sees_what_it_may() -> None:
    data = DataConfig(without_sources=("posts",), also_sources=("mirror",))
    config = ModerationConfig(languages=("en",), data=data)
    split, some = Split.of(crowd(), config), crowd()
    held = fold_of(some.group, folds=data.folds, seed=config.seed) == 0
    np.testing.assert_array_equal(split.fold == 0, held)
    np.testing.assert_array_equal(split.allowed, some.source != "posts")
    np.testing.assert_array_equal(split.held_out, split.allowed & held & (some.lang != "fi"))
    assert split.shared.all()  # a source that is named is taken whatever its licence
    np.testing.assert_array_equal(split.for_adapters(config), ~held & (some.source != "rtplx_prompts"))
    closed = Split.of(crowd(), dataclasses.replace(config, data=dataclasses.replace(data, also_sources=())))
    np.testing.assert_array_equal(closed.shared, some.source != "mirror")


class Scorer:
    """Stands in for the classifier: the logits of text k are k; it notes the slots that were asked for."""

    seen: set[str]

    def __init__(self, _: object) -> None:
        Scorer.seen = set()

    def score(self, texts: Sequence[str], slots: Sequence[Sequence[str]]) -> SimpleNamespace:
        assert len(texts) == len(slots) <= 512
        Scorer.seen |= {slot for own in slots for slot in own}
        return SimpleNamespace(logits=np.repeat([[float(text)] for text in texts], len(HEADS), axis=1))


@pytest.mark.parametrize(
    ("slot", "limit", "public"),
    [
        (SLOT, 1_000, 240),  # all: 80 posts of the region, 80 prompts and 80 of the mirror
        (SLOT, 50, 50),
        ("region:US", 1_000, 80),
        ("region:US", 30, 30),
    ],
)
def test_curves_are_fitted_on_held_out_rows(
    slot: str, limit: int, public: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.moderation, "HELD_OUT_ROWS", limit)
    monkeypatch.setattr(training.moderation, "Classifier", Scorer)
    some, held = crowd(800), np.arange(800) < 400
    found = training.moderation._held_out(None, some, held, slot=slot)  # type: ignore[arg-type]
    rows = found.logits[:, 0].astype(int)
    assert Scorer.seen == {slot}
    assert len(set(rows.tolist())) == len(rows)
    assert held[rows].all()
    assert not (some.kind[rows] == DISGUISED).any()
    assert (some.source[rows] == OWN_ADS).sum() == 80
    assert len(rows) == 80 + public
    if slot != SLOT:
        assert set(some.region[rows[some.source[rows] != OWN_ADS]]) == {"US"}
    np.testing.assert_array_equal(found.own, some.source[rows] == OWN_ADS)
    np.testing.assert_array_equal(found.ad, np.isin(some.kind[rows], ("clean", "ad")))


def test_another_family_is_trained_on_our_own_ads_alone(
    tiny_config: ModerationConfig, tiny_families: dict[str, Path], tmp_path: Path
) -> None:
    config = dataclasses.replace(_small(tiny_config, tmp_path), base_model=str(tiny_families["modernbert"]))
    bundle = train_moderation(config, Run(data=None, out=tmp_path / "bundle", runs=tmp_path / "runs", threads=1))
    record = json.loads(bundle.file(CONFIG).read_text(encoding="utf-8"))
    assert record["parity"]["peft_max_abs"] < 1e-4
    assert "shape" not in record
    assert record["sources"] == {OWN_ADS: 60}
    assert bundle.manifest.slots == ("base", SLOT)  # our own ads are of no region
    moderator = Moderator.load(bundle.path)
    [decision] = moderator.moderate([{"id": "a", "text": "play casino and win cash"}], regions=["GB"])
    assert decision.status == "ok"
