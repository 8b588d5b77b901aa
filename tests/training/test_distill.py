from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import BertModel

from training.base_model import BaseModel, load_base_model
from training.distill import DistillConfig, _loss, distil, near_batches, padded, teach, vectors_of
from training.losses.infonce import infonce
from training.losses.similarity import similarity_loss
from training.parallel import PackedTokens, pack
from training.tokenizer import train_tokenizer
from training.two_paths import TwoPathEncoder, graft

ENGLISH = ("fresh bread", "free bet", "win cash now", "tea every morning", "play responsibly", "vodka and wine")
OTHERS = ("свіжий хліб", "вільна ставка", "виграй гроші зараз", "чай щоранку", "грай відповідально", "горілка і вино")
TEXTS = (*ENGLISH, *OTHERS, "хліб свіжий")
NUMBERS = np.array([*range(6), *range(6), 0])
CONFIG = DistillConfig(
    pool_batches=2,
    learning_rate=3e-3,
    rows_learning_rate=1e-2,
    teacher_weight=0.5,
    anchor_weight=0.4,
    checkpoint_steps=3,
)


@dataclasses.dataclass(frozen=True)
class Made:
    base: BaseModel
    tokenizer: Tokenizer
    encoder: TwoPathEncoder
    tokens: PackedTokens


@pytest.fixture(scope="module")
def made(tiny_base: Path) -> Made:
    base = load_base_model(str(tiny_base))
    tokenizer = train_tokenizer(TEXTS * 5, vocabulary=450, alphabet=60)
    table = torch.randn(tokenizer.get_vocab_size(), base.dim, generator=torch.Generator().manual_seed(0))
    assert isinstance(base.model, BertModel)
    encoder = graft(base.model, base.tokenizer, table, tokenizer)
    return Made(base, tokenizer, encoder, pack(tokenizer, TEXTS, max_tokens=99))


def test_padded_rows_are_what_the_tokenizer_gives(made: Made) -> None:
    ids, mask = padded(made.tokens, np.array([3, 0]), max_tokens=64)
    for row, text in enumerate((TEXTS[3], TEXTS[0])):
        expected = made.tokenizer.encode(text).ids
        assert ids[row][mask[row] == 1].tolist() == expected
    cut, _ = padded(made.tokens, np.array([3]), max_tokens=4)
    assert cut[0].tolist() == [*made.tokenizer.encode(TEXTS[3]).ids[:3], made.tokenizer.encode("").ids[-1]]


def test_the_teacher_is_mean_pooled_in_any_order(made: Made) -> None:
    found = teach(made.base, TEXTS, np.array([5, 1, 1, 3]), max_tokens=64)
    assert found.rows.tolist() == [1, 3, 5]
    for row in (3, 1):
        ids = torch.tensor([made.base.tokenizer.encode(TEXTS[row]).ids])
        states = made.base.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
        mean = torch.nn.functional.normalize(states.mean(0), dim=0).detach()
        torch.testing.assert_close(found.of(np.array([row]))[0], mean, atol=2e-3, rtol=2e-3)


def test_batches_hold_every_row_once_and_near_rows_together() -> None:
    rng = np.random.default_rng(0)
    topics = rng.permutation(np.repeat(np.arange(16), 64))
    centres = 3 * rng.standard_normal((16, 24))
    vectors = centres[topics] + rng.standard_normal((1_024, 24))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    batches = near_batches(vectors, size=32, neighbours=8, pool=32, rng=rng)
    assert sorted(np.concatenate(batches).tolist()) == list(range(1_024))
    assert {len(batch) for batch in batches} == {32}
    together = [np.mean([len(set(topics[batch[k : k + 8]])) for k in range(0, 32, 8)]) for batch in batches]
    assert np.mean(together) < 3  # by chance eight rows have about six topics
    assert np.mean([len(set(topics[batch])) for batch in batches]) > 3  # and the leaves come from all over
    assert len(near_batches(vectors[:100], size=32, neighbours=8, pool=32, rng=rng)) == 3
    with pytest.raises(ValueError, match="batch_sentences=32 must be a multiple of neighbours=5"):
        near_batches(vectors, size=32, neighbours=5, pool=4, rng=rng)


def test_vectors_come_in_the_order_asked_for_with_the_gradient_of_single_texts(made: Made) -> None:
    rows = np.array([8, 0, 12, 3, 8])
    encoder = copy.deepcopy(made.encoder)
    found = vectors_of(encoder, made.tokens, rows, max_tokens=64)
    found.joint.square().sum(0).prod().backward()
    gradient = encoder.table.weight.grad
    encoder.zero_grad()
    single = [encoder(*padded(made.tokens, rows[k : k + 1], max_tokens=64)) for k in range(len(rows))]
    for together, alone in zip(found, zip(*single, strict=True), strict=True):
        torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)
    torch.cat([each.joint for each in single]).square().sum(0).prod().backward()
    torch.testing.assert_close(gradient, encoder.table.weight.grad)


def test_the_loss_is_the_sum_of_its_parts(made: Made) -> None:
    rows = np.array([6, 7, 8, 12])  # the last translates the same sentence as the first
    teacher = teach(made.base, TEXTS, np.arange(6), max_tokens=64)
    found = _loss(made.encoder, made.tokens, NUMBERS, rows, teacher, CONFIG)
    left = made.encoder(*padded(made.tokens, NUMBERS[rows], max_tokens=64))
    right = made.encoder(*padded(made.tokens, rows, max_tokens=64))
    group = torch.from_numpy(NUMBERS[rows])
    want = infonce(left.joint, right.joint, temperature=0.05, group=group)
    want = want + 0.5 * infonce(left.transformer, right.transformer, temperature=0.05, group=group)
    want = want + 0.25 * infonce(left.static, right.static, temperature=0.05, group=group)
    want = want + 15 * similarity_loss(left.joint[:3], left.joint[:3], teacher.of(NUMBERS[rows][:3]))
    want = want + 15 * similarity_loss(left.joint, right.joint, teacher.of(NUMBERS[rows]))
    taught = teacher.of(NUMBERS[rows])
    cosines = [(part.transformer * taught).sum(1) for part in (left, right)]
    want = want + 0.5 * (1 - (cosines[0][:3].mean() + cosines[1].mean()) / 2)
    anchors = infonce(left.transformer[:3], taught[:3], temperature=0.05)
    anchors = anchors + infonce(right.transformer, taught, temperature=0.05, group=group)
    want = want + 0.4 * anchors / 2
    torch.testing.assert_close(found, want)
    weights = ("similarity_weight", "transformer_weight", "static_weight", "teacher_weight", "anchor_weight")
    alone = dataclasses.replace(CONFIG, **dict.fromkeys(weights, 0.0))
    only = _loss(made.encoder, made.tokens, NUMBERS, rows, teacher, alone)
    torch.testing.assert_close(only, infonce(left.joint, right.joint, temperature=0.05, group=group))


def test_translations_find_each_other_and_a_stopped_run_ends_the_same(made: Made, tmp_path: Path) -> None:
    batches = [np.random.default_rng(i).permutation(np.arange(6, 12)) for i in range(40)]
    teacher = teach(made.base, TEXTS, np.arange(6), max_tokens=64)

    def run(name: str, steps: list[np.ndarray]) -> TwoPathEncoder:
        return distil(
            copy.deepcopy(made.encoder),
            made.tokens,
            NUMBERS,
            steps,
            teacher,
            CONFIG,
            title="two paths",
            checkpoint=tmp_path / name,
        )

    whole = run("whole", batches)
    with torch.no_grad():
        left = whole(*padded(made.tokens, np.arange(6), max_tokens=64))
        right = whole(*padded(made.tokens, np.arange(6, 12), max_tokens=64))
    assert ((left.joint @ right.joint.T).argmax(1) == torch.arange(6)).all()
    assert ((left.transformer @ right.transformer.T).argmax(1) == torch.arange(6)).float().mean() > 0.8

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.loop._save", _saving_then(stop))
        with pytest.raises(KeyboardInterrupt):
            run("stopped", batches)
    resumed = run("stopped", batches)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, msg=name)


def _saving_then(stop: object) -> object:
    from training import loop

    save = loop._save

    def both(*arguments: object) -> None:
        save(*arguments)  # type: ignore[arg-type]
        stop()  # type: ignore[operator]

    return both
