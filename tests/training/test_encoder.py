"""A whole run in small: the tiny encoder grows a second language."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from training.config import DataConfig
from training.encoder import EncoderRun, train_encoder
from training.encoder_config import DistillConfig, EncoderConfig, SharedConfig, StaticConfig
from training.two_paths import load_encoder

ENGLISH = ("fresh bread", "free bet", "win cash now", "tea every morning", "play responsibly", "vodka and wine")
OTHERS = ("свіжий хліб", "вільна ставка", "виграй гроші зараз", "чай щоранку", "грай відповідально", "горілка і вино")


@pytest.fixture
def run(tmp_path: Path) -> EncoderRun:
    folder = tmp_path / "data" / "parallel"
    folder.mkdir(parents=True)
    rows = [
        {"en": en, "source": "docs", "translations": {"uk": other}} for en, other in zip(ENGLISH, OTHERS, strict=True)
    ]
    rows += [{"en": "Food > Bread", "source": "shopify_taxonomy", "translations": {"uk": "Їжа > Хліб"}}]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "part-0.jsonl").write_text(text, encoding="utf-8")
    folder = tmp_path / "data" / "moderation"
    folder.mkdir()
    posts = [
        {"text": text, "labels": {"hate": k % 2}, "source": "posts", "licence": "open", "lang": "en", "kind": "post",
         "group": f"g{k}"} for k, text in enumerate(ENGLISH)
    ]  # fmt: skip
    (folder / "train.jsonl").write_text("".join(json.dumps(post) + "\n" for post in posts), encoding="utf-8")
    ad = {"kind": "positive", "lang": "en", "title": "Free bet", "labels": ["gambling"]}
    ads = [{"id": f"ad-{k}", **ad} for k in range(4)]
    (tmp_path / "ads.jsonl").write_text("".join(json.dumps(ad) + "\n" for ad in ads), encoding="utf-8")
    return EncoderRun(data=tmp_path / "data", out=tmp_path / "out", runs=tmp_path / "runs", threads=1)


@pytest.fixture
def config(tiny_base: Path, tmp_path: Path) -> EncoderConfig:
    return EncoderConfig(
        teacher=str(tiny_base), teacher_sha256="", vocabulary=400, alphabet=60, whole_words=5, tokenizer_sentences=50,
        static=StaticConfig(dim=32, pairs=320, batch_pairs=16, checkpoint_steps=5),
        transformer=DistillConfig(sentences=48, batch_sentences=6, neighbours=3, anchor_weight=1.0, checkpoint_steps=5),
        distil=DistillConfig(sentences=192, batch_sentences=6, neighbours=3, pool_batches=2, checkpoint_steps=5),
        shared=SharedConfig(rank=2, moderation_rows=6, topic_rows=4, sentences=12),
        data=DataConfig(ads=str(tmp_path / "ads.jsonl")),
    )  # fmt: skip


def test_a_run_leaves_an_encoder_and_the_next_one_takes_it(
    run: EncoderRun, config: EncoderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train_encoder(config, run)
    monkeypatch.setattr("training.encoder.adapt", lambda *_, **__: pytest.fail("adapted again"))
    monkeypatch.setattr("training.encoder.distil", lambda *_, **__: pytest.fail("trained again"))
    again = train_encoder(config, run)
    saved = load_encoder(run.out)
    for name, value in first.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value)
        torch.testing.assert_close(saved.state_dict()[name], value)
    assert sorted(path.name for path in run.out.iterdir()) == [
        "config.json", "encoder.json", "model.safetensors", "paths.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip
    record = json.loads((run.out / "encoder.json").read_text(encoding="utf-8"))
    assert [curve["stage"] for curve in record["curves"]] == [
        "static table",
        "transformer",
        "two paths",
        "joint adaptation",
    ]
    assert record["data"]["languages"] == {"uk": 7}


def test_missing_data_is_told_before_anything_is_trained(run: EncoderRun, config: EncoderConfig) -> None:
    (run.data / "parallel" / "part-0.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match=r"no parallel text .* training/data/README\.md"):
        train_encoder(config, run)
    (run.data / "moderation" / "train.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match=r"no training rows .* training/data/README\.md"):
        train_encoder(config, run)
