from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import BertModel

from training.base_model import load_base_model
from training.config import DataConfig
from training.distill import padded
from training.encoder_config import SharedConfig
from training.examples import HEADS, Examples, concatenate, fold_of
from training.parallel import Sentences, pack
from training.shared import Pairs, Tasks, Topics, adapt, category_names, moderation_rows
from training.tokenizer import train_tokenizer
from training.two_paths import TwoPathEncoder, graft

ENGLISH = ("fresh bread", "free bet", "win cash now", "tea every morning", "play responsibly", "vodka and wine")
OTHERS = ("свіжий хліб", "вільна ставка", "виграй гроші зараз", "чай щоранку", "грай відповідально", "горілка і вино")
TEXTS = (*ENGLISH, *OTHERS)
NUMBERS = np.array([*range(6), *range(6)])
CONFIG = SharedConfig(rank=4, alpha=8, tokens_per_step=64, learning_rate=5e-3, checkpoint_steps=4)


def examples(n: int, *, source: str = "posts", licence: str = "open", start: int = 0) -> Examples:
    """Return rows about bets and bread in turn; the first head knows which is which."""
    targets = np.full((n, len(HEADS)), np.nan, dtype=np.float32)
    targets[:, 0] = np.arange(n) % 2
    return Examples(
        texts=tuple(("fresh bread every morning", "free bet win cash")[i % 2] for i in range(n)), targets=targets,
        source=np.full(n, source), licence=np.full(n, licence), lang=np.full(n, "en"), kind=np.full(n, "post"),
        group=np.array([f"{source}{start + i}" for i in range(n)]), region=np.full(n, ""),
    )  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS * 5, vocabulary=450, alphabet=60)


@pytest.fixture(scope="module")
def encoder(tiny_base: Path, tokenizer: Tokenizer) -> TwoPathEncoder:
    base = load_base_model(str(tiny_base))
    table = torch.randn(tokenizer.get_vocab_size(), base.dim, generator=torch.Generator().manual_seed(0))
    assert isinstance(base.model, BertModel)
    return graft(base.model, base.tokenizer, table, tokenizer)


@pytest.fixture(scope="module")
def tasks(tokenizer: Tokenizer) -> Tasks:
    pairs = [np.random.default_rng(i).permutation(np.arange(6, 12)) for i in range(20)]
    return Tasks(
        moderation=examples(40),
        topics=Topics(("хліб", "casino", "bread", "ставка") * 5, np.array([0, 1, 0, 1] * 5)),
        pairs=Pairs(pack(tokenizer, TEXTS, max_tokens=99), NUMBERS, pairs),
    )


def vectors(encoder: TwoPathEncoder, tasks: Tasks) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        found: dict[str, torch.Tensor] = encoder(*padded(tasks.pairs.tokens, np.arange(12), max_tokens=64))._asdict()
    return found


def test_the_transformer_learns_the_tasks_and_the_static_path_stays(
    encoder: TwoPathEncoder, tokenizer: Tokenizer, tasks: Tasks, tmp_path: Path
) -> None:
    before, adapted = vectors(encoder, tasks), copy.deepcopy(encoder)
    adapt(adapted, tokenizer, tasks, CONFIG, checkpoint=tmp_path / "checkpoint.pt", seed=0)
    after = vectors(adapted, tasks)
    torch.testing.assert_close(after["static"], before["static"])
    diagonal = [(v["transformer"][:6] * v["transformer"][6:]).sum(1).mean() for v in (before, after)]
    assert diagonal[1] > diagonal[0]
    assert type(adapted.bert) is BertModel  # merged
    assert set(adapted.state_dict()) == set(encoder.state_dict())
    moved = {name for name, value in adapted.state_dict().items() if not torch.equal(value, encoder.state_dict()[name])}
    assert moved
    assert all(".dense.weight" in name or ".self." in name for name in moved)
    apart = _between_kinds(adapted, tokenizer) / _between_kinds(encoder, tokenizer)
    assert apart > 1.2


def _between_kinds(encoder: TwoPathEncoder, tokenizer: Tokenizer) -> float:
    """Return how far apart the two kinds of moderation rows lie."""
    rows = [torch.tensor([tokenizer.encode(text).ids]) for text in ("fresh bread every morning", "free bet win cash")]
    with torch.no_grad():
        bread, bets = (encoder(row, torch.ones_like(row)).transformer[0] for row in rows)
    return float((bread - bets).norm())


def test_what_keeps_the_geometry_keeps_it(
    encoder: TwoPathEncoder, tokenizer: Tokenizer, tasks: Tasks, tmp_path: Path
) -> None:
    before = vectors(encoder, tasks)["transformer"]
    moved = []
    for weight in (0.0, 50.0):
        config = dataclasses.replace(CONFIG, keep_weight=weight)
        found = adapt(copy.deepcopy(encoder), tokenizer, tasks, config, checkpoint=tmp_path / f"{weight}.pt", seed=0)
        moved.append(float((vectors(found, tasks)["transformer"] - before).norm(dim=1).mean()))
    assert moved[1] < 0.7 * moved[0]


def test_category_names_keep_their_language_and_lose_the_vertical() -> None:
    texts = ("Food > Bread", "Їжа > Хліб", "Їжа", "Toys > Balls > Red", "Іграшки > М'ячі > Червоні", "plain text")
    lang = np.array(["en", "uk", "uk", "en", "uk", "en"])
    source = np.array(["shop", "shop", "shop", "shop", "shop", "docs"])
    sentences = Sentences(texts, lang, source, np.array([0, 0, 0, 3, 3, 5]))
    found = category_names(sentences, source="shop", rows=10, rng=np.random.default_rng(0))
    assert dict(zip(found.texts, found.labels.tolist(), strict=True)) == {
        "Bread": 0, "Хліб": 0, "Balls > Red": 1, "М'ячі > Червоні": 1,
    }  # fmt: skip
    assert len(category_names(sentences, source="shop", rows=2, rng=np.random.default_rng(0)).texts) == 2


def test_the_base_sees_neither_the_held_out_fold_nor_other_licences() -> None:
    every = concatenate([
        examples(30), examples(30, source="closed", licence="sa"), examples(30, source="rtplx_prompts"),
        examples(30, source="own_ads"),
    ])  # fmt: skip
    data = DataConfig(without_sources=("rtplx_prompts",))
    found = moderation_rows(every, data, CONFIG, seed=7)
    assert set(found.source.tolist()) == {"posts", "own_ads"}
    assert (fold_of(found.group, folds=data.folds, seed=7) != 0).all()
