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


BALANCES = ("static", "pcgrad", "gradnorm")
"""How the first stage balances families of heads; `training.balance` tells what each does."""


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
    balance: str = "static"
    """What a step follows where families of heads pull apart, one of `BALANCES`."""
    checkpoint_steps: int = 200
    """Steps between two checkpoints."""

    def __post_init__(self) -> None:
        """Raise `ValueError` on a share outside [0, 1], fewer than one layer or an unknown balance."""
        if self.balance not in BALANCES:
            raise ValueError(f"balance: found {self.balance!r}, allowed {', '.join(BALANCES)}")
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
        """Raise `ValueError` on an unknown loss, or a dropout, decay or start that is no such share or strength."""
        for head, loss in self.loss_of.items():
            if loss not in LOSSES:
                raise ValueError(f"loss_of: found {loss!r} for {head!r}, allowed {', '.join(LOSSES)}")
        for head, dropout in {"every head": self.dropout, **self.dropout_of}.items():
            if isinstance(dropout, str) or not 0 <= dropout < 1:
                raise ValueError(f"dropout: found {dropout!r} for {head}, allowed 0 to below 1")
        for head, decay in {"every head": self.weight_decay, **self.weight_decay_of}.items():
            if isinstance(decay, str) or not decay >= 0:  # YAML takes 1e-3 for a text
                raise ValueError(f"weight_decay: found {decay!r} for {head}, allowed 0 or more")
        if not 0 <= self.lora_start <= 1:
            raise ValueError(f"lora_start: found {self.lora_start}, allowed 0 to 1")


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
    """Lowest mean gain in average precision over the moderation adapter, which would serve the region otherwise, on
    held-out rows, at which an adapter is shipped; its interval must also not reach below `ship_loss`."""
    ship_loss: float = -0.01
    """How far below 0 the lower end of a head's gain may lie."""

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
