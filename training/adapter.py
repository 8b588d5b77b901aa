"""First stage: a LoRA over the encoder's upper layers and the pooling block, learnt with heads on a balanced sample."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from retrieval_shared.adapters import CONFIG, ENCODER_KEY, LORA_A, LORA_B, NAME_KEY, PARENT_KEY, WEIGHTS
from retrieval_shared.head import ATTENTION_HEADS_KEY
from retrieval_shared.torch_families import BERT, FAMILIES, Family, family_of
from training.balance import Balance, balance_of
from training.base_model import BaseModel
from training.branch import Branch
from training.config import AdapterConfig, HeadsConfig
from training.encoder_config import SharedConfig
from training.examples import DISGUISED, HEADS, OWN_ADS, Examples
from training.heads import PooledHeads
from training.loop import LoopConfig, row_batches, run_steps
from training.pooling import pooling_block
from training.sampling import Weighted, balanced_sample
from training.tensors import save_tensors

log = structlog.get_logger()


@dataclass(frozen=True)
class TrainedAdapter:
    """What the first stage leaves behind."""

    folder: Path
    """The adapter as PEFT saves it, loadable with `PeftModel.from_pretrained`."""
    heads: Path
    """Pooling block and judges trained along, where the second stage starts from."""


@dataclass(frozen=True)
class Rows:
    """What a stage learns from: n rows and what their labels weigh."""

    branch: Branch
    weighted: Weighted


def train_adapter(
    base: BaseModel, rows: Rows, config: AdapterConfig, heads: HeadsConfig, *, folder: Path, seed: int
) -> TrainedAdapter:
    """Train the adapter, or return it when `folder` already holds it.

    Args:
        base: the encoder, its weights already rounded to int8.
        rows: the sample.
        config: this stage.
        heads: width of the heads.
        folder: where checkpoints and the result lie; a stopped run resumes from there.
        seed: seeds the initialisation and the order.
    """
    done = TrainedAdapter(folder=folder / "adapter", heads=folder / "heads.safetensors")
    if done.heads.is_file():
        log.info("adapter found, not trained again", folder=folder.name)
        return done
    torch.manual_seed(seed)
    pool = PooledHeads(
        pooling_block(base.model, attention_heads=heads.attention_heads), len(HEADS), hidden=heads.hidden
    )
    model = get_peft_model(base.model, lora_config(config, base.model))
    pool.dropout.fill_(heads.dropout)
    batches = row_batches(rows.branch.lengths, budget=config.tokens_per_step, rng=np.random.default_rng(seed))
    balance = balance_of(
        config.balance, shared_parameters(model, pool), list(pool.judge.parameters()), rows.weighted, seed=seed
    )
    steps: list[Callable[[], Tensor]] = [partial(_loss, model, pool, balance, rows, batch) for batch in batches]
    log.info("adapter", rows=len(rows.branch.lengths), tokens=int(rows.branch.lengths.sum()), steps=len(steps))
    groups = [
        *lora_groups(model, config),
        {"params": list(pool.judge.parameters()), "lr": config.head_learning_rate},
        {"params": list(pool.block.parameters()), "lr": config.head_learning_rate / 4},
    ]
    loop = LoopConfig(config.warmup, config.checkpoint_steps, folder / "checkpoint.pt")
    # The encoder stays in evaluation mode: in one pass over the rows dropout doubles a step's cost and gains nothing.
    # What the balance keeps is saved with the rest, and moved by no optimiser.
    modules = [model.eval(), pool.train(), balance]
    run_steps(modules, torch.optim.AdamW(groups, weight_decay=0.01), steps, loop, title="adapter")
    model.save_pretrained(str(done.folder))
    metadata = {ATTENTION_HEADS_KEY: str(pool.block.attention_heads)}
    save_file({name: value.contiguous() for name, value in pool.state_dict().items()}, str(done.heads), metadata)
    return done


def lora_config(config: AdapterConfig | SharedConfig, model: nn.Module | None = None) -> LoraConfig:
    """Return the PEFT configuration: LoRA on the linear layers of the encoder's blocks, or of its upper ones.

    Args:
        config: rank and alpha; an `AdapterConfig` also says how many upper layers carry LoRA.
        model: the encoder that is adapted; None: a BERT, all of whose layers are.
    """
    family: Family = FAMILIES[BERT] if model is None else family_of(model.config)
    upper: dict[str, Any] = {}
    if isinstance(config, AdapterConfig) and model is not None:
        layers = int(model.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]
        if config.layers > layers:
            raise ValueError(f"adapter.layers: found {config.layers}, allowed 1 to {layers}, which the encoder has")
        upper = {
            "layers_to_transform": list(range(layers - config.layers, layers)),
            "layers_pattern": family.layers.rpartition(".")[2],
        }
    return LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=0.0,
        target_modules=list(family.linears.values()),
        bias="none",
        **upper,
    )


def shared_parameters(model: nn.Module, pool: PooledHeads) -> list[nn.Parameter]:
    """Return what all heads share and the first stage trains: the adapter and the pooling block."""
    return [p for p in (*model.parameters(), *pool.block.parameters()) if p.requires_grad]


def lora_groups(model: PeftModel, config: AdapterConfig) -> list[dict[str, Any]]:
    """Return the optimiser's groups of a PEFT model: each layer's LoRA, the uppermost unfrozen first."""
    by_layer: dict[int, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            layer = next(int(part) for part in name.split(".") if part.isdigit())
            by_layer.setdefault(layer, []).append(parameter)
    return [
        {"params": by_layer[layer], "lr": config.learning_rate, "start": config.unfreeze * (turn + 1)}
        for turn, layer in enumerate(sorted(by_layer, reverse=True))
    ]


def load_peft(base: nn.Module, folder: Path) -> PeftModel:
    """Return PEFT's own form of an adapted encoder: the oracle the exported graph is checked against."""
    return PeftModel.from_pretrained(base, str(folder)).eval()


def save_adapter(source: Path, target: Path, *, name: str, encoder: str, base: str, parent: str | None = None) -> None:
    """Write an adapter that PEFT saved as one that can be served: in half precision, saying whose it is.

    Args:
        source: PEFT's folder.
        target: the folder to write; what it held is removed.
        name: the slot.
        encoder: sha256 of the base weights.
        base: what the configuration called the base.
        parent: the slot it was trained from.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    tensors = {key: value.half() for key, value in load_file(str(source / WEIGHTS)).items()}
    metadata = {"format": "pt", NAME_KEY: name, ENCODER_KEY: encoder} | ({PARENT_KEY: parent} if parent else {})
    save_tensors(target / WEIGHTS, tensors, metadata)
    described = json.loads((source / CONFIG).read_text(encoding="utf-8"))
    # PEFT notes the folder that the base was loaded from on the machine that trained.
    described["base_model_name_or_path"] = base
    described["target_modules"] = sorted(described["target_modules"])  # a set, in whatever order
    (target / CONFIG).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def read_matrices(folder: Path, modules: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Return an adapter that PEFT saved as inputs of a graph: A `[in, r]` and B `[r, out]` of each module path.

    The scale stands in B, as `retrieval_shared.adapters.read_adapter` has it; the values are rounded to the half
    precision that adapters are served in.
    """
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    state = load_file(str(folder / WEIGHTS))
    found: dict[str, NDArray[np.float32]] = {}
    for module in modules:
        a, b = (state[f"base_model.model.{module}.lora_{side}.weight"].half().float().T for side in "AB")
        found[LORA_A + module] = a.numpy()
        found[LORA_B + module] = (b * (config["lora_alpha"] / config["r"])).numpy()
    return found


def sample_rows(
    examples: Examples, rows: NDArray[np.intp], config: AdapterConfig, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Return the balanced sample of `rows`: public rows, our own ads repeated, their disguised copies once."""
    own = examples.source[rows] == OWN_ADS
    copies = examples.kind[rows] == DISGUISED
    public, ads, disguised = rows[~own], rows[own & ~copies], rows[copies]
    drawn = balanced_sample(examples.take(public), rows=config.rows, english_share=config.english_share, rng=rng)
    return np.concatenate([public[drawn], *[ads] * config.ad_repeats, disguised])


def _loss(model: nn.Module, pool: nn.Module, balance: Balance, rows: Rows, batch: NDArray[np.intp]) -> Tensor:
    logits, _ = pool(*rows.branch.read(model, batch))  # [b, H]
    loss: Tensor = balance(logits, *weighted_tensors(rows.weighted, batch))
    return loss


def weighted_tensors(weighted: Weighted, rows: Sequence[int] | NDArray[np.intp]) -> tuple[Tensor, Tensor]:
    """Return targets and weights `[b, H]` of some rows."""
    return torch.from_numpy(weighted.targets[rows]), torch.from_numpy(weighted.weights[rows])
