"""A whole run in small: the tiny encoder grows a second language."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from training.config import DistillConfig, EncoderConfig, StaticConfig
from training.encoder import EncoderRun, train_encoder
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
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "part-0.jsonl").write_text(text, encoding="utf-8")
    return EncoderRun(data=tmp_path / "data", out=tmp_path / "out", runs=tmp_path / "runs", threads=1)


@pytest.fixture
def config(tiny_base: Path) -> EncoderConfig:
    return EncoderConfig(
        teacher=str(tiny_base), teacher_sha256="", vocabulary=400, alphabet=60, tokenizer_sentences=50,
        static=StaticConfig(dim=32, pairs=320, batch_pairs=16, checkpoint_steps=5),
        distil=DistillConfig(sentences=192, batch_sentences=6, neighbours=3, pool_batches=2, checkpoint_steps=5),
    )  # fmt: skip


def test_a_run_leaves_an_encoder_and_the_next_one_takes_it(
    run: EncoderRun, config: EncoderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train_encoder(config, run)
    monkeypatch.setattr("training.encoder.distil", lambda *_, **__: pytest.fail("trained again"))
    again = train_encoder(config, run)
    saved = load_encoder(run.out)
    for name, value in first.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value)
        torch.testing.assert_close(saved.state_dict()[name], value)
    assert sorted(path.name for path in run.out.iterdir()) == [
        "config.json", "model.safetensors", "paths.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip


def test_without_parallel_text_the_message_says_what_is_wanted(config: EncoderConfig, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no parallel text .* training/data/README\.md"):
        train_encoder(config, EncoderRun(data=tmp_path, out=tmp_path / "out", runs=tmp_path / "runs"))
