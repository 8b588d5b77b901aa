"""Training the multilingual encoder: tokenizer, static table, both paths, joint adaptation; every stage resumable."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import BertModel

from retrieval_shared.bundle import sha256_of
from training.base_model import BaseModel, load_base_model
from training.distill import TeacherVectors, distil, near_batches, teach, vectors_of
from training.encoder_config import DistillConfig, EncoderConfig
from training.encoder_record import encoder_record, write_record
from training.examples import REPOSITORY, Examples, load_examples, public_rows
from training.loop import read_curve
from training.parallel import PackedTokens, Sentences, load_parallel, pack, pair_chances, with_siblings
from training.shared import Pairs, Tasks, adapt, category_names, moderation_rows
from training.static_table import draws, train_static_table
from training.tokenizer import train_tokenizer
from training.two_paths import TwoPathEncoder, fit_joint, graft, load_encoder, save_encoder, whole_words

log = structlog.get_logger()

CATEGORIES = "shopify_taxonomy"
"""The source whose sentences are paths of product categories."""
_JOINED_AT_ONCE = 2_048
"""Sentences of one look at both paths."""


@dataclass(frozen=True)
class EncoderRun:
    """Where a run reads and writes."""

    data: Path
    """Data folder with `parallel/part-*.jsonl.xz`."""
    out: Path
    """Folder of the finished encoder, in Hugging Face layout."""
    runs: Path
    """Checkpoints and caches; a later run with the same inputs resumes from them."""
    threads: int = 2
    """Threads of torch."""
    device: str = "cpu"
    """Where both paths are trained: `cpu`, or `cuda` in bfloat16."""


@dataclass(frozen=True)
class Corpus:
    """What both paths learn from."""

    sentences: Sentences
    """S sentences in all languages."""
    tokens: PackedTokens
    """Their token ids."""
    teacher: BaseModel
    """What their English sides are compared by."""


def train_encoder(config: EncoderConfig, run: EncoderRun) -> TwoPathEncoder:
    """Train and return the encoder; every stage that `run.runs` already holds for these inputs is taken from there.

    Raises:
        FileNotFoundError: the data folder holds no parallel text, or no moderation rows.
        ValueError: the teacher is another one than the configuration names.
    """
    torch.set_num_threads(run.threads)
    public_rows(run.data)  # needed last, and missed first
    sentences = load_parallel(run.data / "parallel")
    digest = _digest(sentences)
    # Each stage lies inside the one it was made from, under a name of its own settings: to change one keeps the others.
    folder = run.runs / f"encoder-{_key(digest, config.seed, *_of_tokenizer(config))}"
    folder.mkdir(parents=True, exist_ok=True)
    teacher = load_base_model(config.teacher, sha256=config.teacher_sha256)
    tokenizer = _tokenizer(config, sentences, teacher, folder)
    tokens = _tokens(config, tokenizer, sentences, folder)
    chances = pair_chances(sentences, alpha=config.alpha, caps=config.caps)
    log.info("encoder", sentences=len(sentences), pairs=int((chances > 0).sum()), tokens=len(tokens.ids))
    static = folder = folder / f"static-{_key(config.alpha, config.caps, config.static)}"
    table = train_static_table(
        tokens, sentences.english, chances, config.static,
        vocabulary=tokenizer.get_vocab_size(), folder=folder, seed=config.seed,
    )  # fmt: skip
    corpus = Corpus(sentences, tokens, teacher)
    transformer = folder = folder / f"transformer-{_key(config.teacher_sha256, config.weights, config.transformer)}"
    if not (folder / "encoder" / "config.json").is_file():
        encoder = graft(_layers(teacher), teacher.tokenizer, table.rows.weight.detach(), tokenizer)
        encoder = _distilled(encoder.to(run.device), corpus, config, config.transformer, folder, seed=config.seed + 1)
        save_encoder(folder / "encoder", encoder, tokenizer)
    folder = folder / f"two_paths-{_key(*_of_joint(config), config.distil)}"
    if not (folder / "encoder" / "config.json").is_file():
        encoder = _joined(load_encoder(transformer / "encoder").to(run.device), corpus, config)
        encoder = _distilled(encoder, corpus, config, config.distil, folder, seed=config.seed + 2)
        save_encoder(folder / "encoder", encoder, tokenizer)
    rows = [sha256_of(path) for path in (public_rows(run.data), REPOSITORY / config.data.ads)]
    shared = folder / f"shared-{_key(config.shared, config.data, rows)}"
    if not (shared / "encoder" / "config.json").is_file():
        tasks = _tasks(config, sentences, tokens, load_examples(run.data, config.data))
        checkpoint = shared / "shared.checkpoint.pt"
        encoder = load_encoder(folder / "encoder").to(run.device)
        adapt(encoder, tokenizer, tasks, config.shared, checkpoint=checkpoint, seed=config.seed)
        save_encoder(shared / "encoder", _joined(encoder, corpus, config), tokenizer)
    encoder = load_encoder(shared / "encoder")
    save_encoder(run.out, encoder, tokenizer)
    stages = {"static": static, "transformer": transformer, "two_paths": folder, "shared": shared}
    curves = [read_curve(at / f"{name}.checkpoint.pt") for name, at in stages.items()]
    write_record(run.out, encoder_record(config, sentences, sha256=digest, curves=curves))
    return encoder


def _tasks(config: EncoderConfig, sentences: Sentences, tokens: PackedTokens, examples: Examples) -> Tasks:
    """Return what the encoder is adapted to: rows, names of categories, and pairs it has not met in this order."""
    rng = np.random.default_rng(config.seed)
    wanted = dataclasses.replace(config.distil, sentences=config.shared.sentences)
    groups = _drawn(config, wanted, sentences, seed=config.seed + 3)
    size = wanted.batch_sentences
    batches = [np.concatenate(groups[at : at + size]) for at in range(0, len(groups) - size + 1, size)]
    return Tasks(
        moderation=moderation_rows(examples, config.data, config.shared, seed=config.seed),
        topics=category_names(sentences, source=CATEGORIES, rows=config.shared.topic_rows, rng=rng),
        pairs=Pairs(tokens, sentences.english, batches),
    )


def _layers(teacher: BaseModel) -> BertModel:
    if not isinstance(teacher.model, BertModel):
        raise ValueError(f"teacher {teacher.name!r}: found {type(teacher.model).__name__}, expected a BertModel")
    return teacher.model


def _distilled(
    encoder: TwoPathEncoder, corpus: Corpus, config: EncoderConfig, wanted: DistillConfig, folder: Path, *, seed: int
) -> TwoPathEncoder:
    """Return the encoder after the stage `wanted`, which keeps its teacher's vectors and its checkpoint in `folder`."""
    sentences, tokens = corpus.sentences, corpus.tokens
    groups = _drawn(config, wanted, sentences, seed=seed)
    taught = _taught(corpus.teacher, sentences, np.concatenate(groups), wanted, folder)
    batches = _batches(groups, sentences.english, taught, wanted, seed=config.seed)
    stage = folder.name.rpartition("-")[0]
    return distil(
        encoder, tokens, sentences.english, batches, taught, wanted,
        title=stage.replace("_", " "), checkpoint=folder / f"{stage}.checkpoint.pt",
    )  # fmt: skip


def _joined(encoder: TwoPathEncoder, corpus: Corpus, config: EncoderConfig) -> TwoPathEncoder:
    """Return the encoder with its joint projection fitted to what both paths now say of a sample of sentences."""
    sentences = corpus.sentences
    chances = pair_chances(sentences, alpha=config.distil.alpha, caps=config.caps, weights=config.weights)
    [rows] = draws(chances, steps=1, size=config.joint_sentences, seed=config.seed)
    rows = np.unique(np.concatenate([rows, sentences.english[rows]]))
    with torch.no_grad():
        found = [
            vectors_of(encoder, corpus.tokens, part, max_tokens=config.distil.max_tokens)
            for part in np.array_split(rows, -(-len(rows) // _JOINED_AT_ONCE))
        ]
    transformer, static = (torch.cat([getattr(part, path) for part in found]) for path in ("transformer", "static"))
    fit_joint(encoder, transformer, static, share=config.joint_share, whitening=config.joint_whitening)
    log.info("joint projection", sentences=len(rows))
    return encoder


def _drawn(config: EncoderConfig, wanted: DistillConfig, sentences: Sentences, *, seed: int) -> list[NDArray[np.int64]]:
    """Return the translations to learn from, those of one English sentence together."""
    chances = pair_chances(sentences, alpha=wanted.alpha, caps=config.caps, weights=config.weights)
    [rows] = draws(chances, steps=1, size=wanted.sentences, seed=seed)
    rng = np.random.default_rng(config.seed)
    return with_siblings(rows, sentences.english, siblings=wanted.siblings, rng=rng)


def _batches(
    groups: Sequence[NDArray[np.int64]],
    english: NDArray[np.int64],
    taught: TeacherVectors,
    wanted: DistillConfig,
    *,
    seed: int,
) -> list[NDArray[np.int64]]:
    """Return the translations of each step."""
    vectors = taught.vectors[np.searchsorted(taught.rows, english[[group[0] for group in groups]])]
    parts = near_batches(
        vectors, size=wanted.batch_sentences, neighbours=wanted.neighbours, pool=wanted.pool_batches,
        rng=np.random.default_rng(seed),
    )  # fmt: skip
    return [np.concatenate([groups[i] for i in part]) for part in parts]


def _taught(
    teacher: BaseModel, sentences: Sentences, rows: NDArray[np.int64], wanted: DistillConfig, folder: Path
) -> TeacherVectors:
    path = folder / "teacher.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        taught = teach(teacher, sentences.texts, sentences.english[rows], max_tokens=wanted.max_tokens)
        part = path.with_suffix(".part.npz")
        np.savez(part, rows=taught.rows, vectors=taught.vectors)
        part.replace(path)
    with np.load(path) as stored:
        return TeacherVectors(rows=stored["rows"], vectors=stored["vectors"])


def _tokenizer(config: EncoderConfig, sentences: Sentences, teacher: BaseModel, folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    if not path.is_file():
        _, number, counts = np.unique(sentences.lang, return_inverse=True, return_counts=True)
        chances: NDArray[np.float64] = counts[number].astype(np.float64) ** (config.tokenizer_alpha - 1.0)
        [rows] = draws(chances, steps=1, size=config.tokenizer_sentences, seed=config.seed)
        texts = (sentences.texts[i] for i in np.unique(rows))
        tokenizer = train_tokenizer(
            texts, vocabulary=config.vocabulary, alphabet=config.alphabet,
            words=whole_words(teacher.tokenizer), whole_words=config.whole_words,
        )  # fmt: skip
        tokenizer.save(str(path))
    return Tokenizer.from_file(str(path))


def _tokens(config: EncoderConfig, tokenizer: Tokenizer, sentences: Sentences, folder: Path) -> PackedTokens:
    path = folder / "tokens.npz"
    if not path.is_file():
        packed = pack(tokenizer, sentences.texts, max_tokens=config.max_tokens)
        part = path.with_suffix(".part.npz")
        np.savez(part, ids=packed.ids, offsets=packed.offsets)
        part.replace(path)
    with np.load(path) as stored:
        return PackedTokens(ids=stored["ids"], offsets=stored["offsets"])


def _of_tokenizer(config: EncoderConfig) -> tuple[object, ...]:
    sizes = config.vocabulary, config.alphabet, config.whole_words, config.max_tokens
    return *sizes, config.teacher, config.tokenizer_sentences, config.tokenizer_alpha


def _of_joint(config: EncoderConfig) -> tuple[object, ...]:
    return config.joint_share, config.joint_whitening, config.joint_sentences


def _digest(sentences: Sentences) -> str:
    digest = hashlib.sha256()
    for text in sentences.texts:
        digest.update(text.encode("utf-8", "replace") + b"\0")
    return digest.hexdigest()


def _key(*settings: object) -> str:
    """Return a short hash of settings."""
    return hashlib.sha256(repr(settings).encode()).hexdigest()[:12]
