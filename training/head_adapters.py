"""The heads on disk: the shared pooling block in one file, each head as a LoRA of it that PEFT saves and loads."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file

from retrieval_shared.head import ATTENTION_HEADS_KEY, BLOCK, JUDGE, PROJECTIONS
from training.adapter import save_adapter
from training.heads import PooledHeads, PoolingBlock, ViolationHead
from training.tensors import save_tensors


def save_heads(folder: Path, heads: PooledHeads, names: Sequence[str], *, encoder: str, base: str) -> None:
    """Write the block, and every head as an adapter `head:<name>` that `PeftModel` loads over a `ViolationHead`.

    Everything is held in half precision.

    Args:
        folder: the bundle's folder of heads; what it held is removed.
        heads: H heads with LoRA.
        names: their names.
        encoder: sha256 of the base weights.
        base: what the configuration called the base.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    block = {name: value.detach().half() for name, value in heads.block.parts().items()}
    metadata = {"format": "pt", ATTENTION_HEADS_KEY: str(heads.block.attention_heads)}
    save_tensors(folder / BLOCK, block, metadata)
    for h, name in enumerate(names):
        saved = folder / f"{name}.peft"
        peft_head(heads, h).save_pretrained(str(saved))
        save_adapter(saved, folder / name, name=f"head:{name}", encoder=encoder, base=f"{base}: {BLOCK}")
        shutil.rmtree(saved)


def peft_head(heads: PooledHeads, number: int) -> PeftModel:
    """Return one head in PEFT's form: a LoRA on the block's linear layers, the judge saved beside it."""
    hidden = heads.judge.outer.shape[1]
    config = LoraConfig(
        r=heads.rank, lora_alpha=heads.alpha, target_modules=list(PROJECTIONS), modules_to_save=["judge"],
        lora_dropout=0.0, bias="none",
    )  # fmt: skip
    model = get_peft_model(cast("Any", ViolationHead(heads.block, hidden=hidden)), config)
    own = cast("Any", model.get_base_model())
    with torch.no_grad():
        for name in PROJECTIONS:
            linear = getattr(own, name)
            linear.lora_A["default"].weight.copy_(heads.lora[f"{name}_a"][number])
            linear.lora_B["default"].weight.copy_(heads.lora[f"{name}_b"][number])
        for name in JUDGE:
            getattr(own.judge.modules_to_save["default"], name).copy_(getattr(heads.judge, name)[number])
    return model.eval()


def load_peft_head(folder: Path, name: str) -> PeftModel:
    """Return one head of a bundle as PEFT loads it: the oracle that the graph is checked against."""
    block = {key: value.float() for key, value in load_file(str(folder / BLOCK)).items()}
    with safe_open(str(folder / BLOCK), framework="pt") as file:
        attention_heads = int(file.metadata()[ATTENTION_HEADS_KEY])
    judge = load_file(str(folder / name / "adapter_model.safetensors"))["base_model.model.judge.outer"]
    pooling = PoolingBlock(block["query.weight"].shape[0], attention_heads)
    pooling.load_state_dict(block)
    return PeftModel.from_pretrained(cast("Any", ViolationHead(pooling, hidden=len(judge))), str(folder / name)).eval()
