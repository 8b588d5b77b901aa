"""The check between the forms of one model: PEFT's, the float32 graph and the int8 graph, every slot in one batch."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import structlog
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from retrieval_shared.adapters import Layout, folder_of, read_adapter, stack_adapters
from retrieval_shared.bundle import ADAPTERS, BASE_WEIGHTS, GRAPH, HEADS, sha256_of
from retrieval_shared.head import read_heads
from retrieval_shared.onnx_encoder import linears_of
from training.adapter import load_peft
from training.base_model import BaseModel
from training.examples import HEADS as HEAD_NAMES
from training.export import Feeds, parity, run_onnx
from training.head_adapters import load_peft_head

log = structlog.get_logger()

FLOAT_GRAPH = "float32.onnx"
"""Lies beside the int8 graph until it was checked."""
MAX_EXPORT_GAP = 1e-4
"""Largest difference allowed between PEFT and the float32 graph, of any vector, logit or attention."""
MIN_INT8_COSINE = 0.95
"""Smallest cosine allowed between a vector of the int8 and of the float32 graph."""
PARITY_TEXTS = (
    "Bet £10 on any match and get £30 in free bets. 18+, play responsibly.",
    "a",
    "Fresh sourdough every morning, delivered to your door. Skip or pause any week. " * 3,
    "Купите сейчас 🎁 50% off für alle",
)


def check_parity(folder: Path, base: BaseModel, slots: Sequence[str]) -> dict[str, float]:
    """Return how far the graphs of an unfinished bundle are from PEFT and from each other; remove the float32 one.

    One mixed batch holds every text under every slot. The graphs run with adapters and heads as serving reads them
    from the bundle; PEFT loads the same files, one slot and one head at a time.

    Args:
        folder: the bundle's folder, with both graphs, adapters and heads.
        base: the encoder, rounded.
        slots: names of the slots from 1.

    Raises:
        ValueError: a difference is larger than allowed.
    """
    feeds = parity_inputs(base.tokenizer, slots=1 + len(slots))
    resident = _resident(folder, slots)
    plain = run_onnx(folder / FLOAT_GRAPH, feeds, resident)
    oracle = _oracle(folder, base, slots, feeds)
    int8 = parity(plain, run_onnx(folder / GRAPH, feeds, resident))
    checks = {
        "peft_max_abs": parity(oracle, plain).max_abs,
        "int8_min_cosine": int8.min_cosine,
        "int8_max_abs": int8.max_abs,
    }
    log.info("parity", **{name: round(value, 6) for name, value in checks.items()})
    # In this form a difference that is not a number is refused as well.
    if not (checks["peft_max_abs"] <= MAX_EXPORT_GAP and checks["int8_min_cosine"] >= MIN_INT8_COSINE):
        raise ValueError(f"parity: found {checks}, allowed max_abs {MAX_EXPORT_GAP}, int8 cosine {MIN_INT8_COSINE}")
    (folder / FLOAT_GRAPH).unlink()
    return checks


def parity_inputs(tokenizer: Tokenizer, *, slots: int) -> Feeds:
    """Return the graph's inputs for a mixed batch: every text once, read under every slot."""
    encodings = [encoding.ids for encoding in tokenizer.encode_batch(list(PARITY_TEXTS))]
    width = max(map(len, encodings))
    return {
        "input_ids": np.array([row + [0] * (width - len(row)) for row in encodings]),
        "attention_mask": np.array([[1] * len(row) + [0] * (width - len(row)) for row in encodings]),
        "branch_row": np.tile(np.arange(len(PARITY_TEXTS)), slots),
        "slot": np.repeat(np.arange(slots), len(PARITY_TEXTS)),
    }


def _resident(folder: Path, slots: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(str(folder / GRAPH), providers=["CPUExecutionProvider"])
    encoder = sha256_of(folder / BASE_WEIGHTS)
    adapters = [read_adapter(folder / ADAPTERS / folder_of(name)) for name in slots]
    heads = read_heads(folder / HEADS, HEAD_NAMES, encoder=encoder)
    return {**stack_adapters(adapters, Layout(encoder, linears_of(session))).inputs, **heads.inputs}


def _oracle(folder: Path, base: BaseModel, slots: Sequence[str], feeds: Feeds) -> list[NDArray[np.float32]]:
    """Return vectors, logits and attention of the mixed batch as PEFT gives them, slot by slot."""
    ids, mask = (torch.from_numpy(feeds[name]) for name in ("input_ids", "attention_mask"))
    heads = [load_peft_head(folder / HEADS, name) for name in HEAD_NAMES]
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for slot in (None, *slots):
        own = copy.deepcopy(base.model)
        model = own if slot is None else load_peft(own, folder / ADAPTERS / folder_of(slot))
        with torch.no_grad():
            states = model(input_ids=ids, attention_mask=mask).last_hidden_state
            vector = base.vector(ids, mask, states)
            found = [head(states, mask, vector) for head in heads]
        logits, attention = (torch.stack(list(each), dim=1) for each in zip(*found, strict=True))
        parts.append((vector, logits, attention))
    return [torch.cat(list(each)).numpy() for each in zip(*parts, strict=True)]
