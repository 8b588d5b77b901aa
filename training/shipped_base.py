"""The encoder of a bundle, back in torch: its int8 weights times their scales, so that only the bundle need be kept."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from transformers import BertConfig, BertModel

from retrieval_shared.bundle import BASE_WEIGHTS, CONFIG, GRAPH
from retrieval_shared.torch_encoder import HUGGING_FACE_LINEARS, HUGGING_FACE_NORMS
from retrieval_shared.torch_paths import JoinedPaths, TwoPaths
from retrieval_shared.torch_rows import read_packed

SHAPE = "shape"
"""Key of the encoder's sizes in a bundle's record of its training."""
_PREFIX = "encoder."


def is_bundle(folder: Path) -> bool:
    """Return whether a folder is a bundle's, and not one in Hugging Face layout."""
    return (folder / BASE_WEIGHTS).is_file()


def shipped_base(folder: Path) -> tuple[BertModel, TwoPaths | None]:
    """Return the bundle's transformer, rounded as it is served, and its second path (None: it has one).

    Raises:
        ValueError: the bundle does not say the sizes of its encoder: it is older, or of another family than BERT, and
            training starts from the encoder it was made from.
    """
    record = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if SHAPE not in record:
        raise ValueError(
            f"bundle {folder.name}: {CONFIG} holds no {SHAPE!r}: its encoder cannot be read back, name the one it was "
            f"made from ({record['config']['base_model']!r})"
        )
    shape, weights = record[SHAPE], _initialisers(folder)
    config = BertConfig(
        vocab_size=shape["vocabulary"], hidden_size=shape["dim"], num_hidden_layers=shape["layers"],
        num_attention_heads=shape["attention_heads"], intermediate_size=shape["inner"],
        max_position_embeddings=shape["positions"], layer_norm_eps=shape["norm_eps"], type_vocab_size=1,
    )  # fmt: skip
    two_paths = None
    if any(name.startswith("paths.") for name in weights):
        everything = torch.arange(shape["vocabulary"])[None]
        rows = torch.stack(read_packed(weights["table"], weights["table_scale"], everything), dim=2)  # [1, V, 2, d]
        two_paths = TwoPaths(rows[0], _paths(weights, shape["dim"]))
        words = two_paths.input_rows()
    else:
        words = weights["table"].float() * weights["table_scale"]
    model = BertModel(config, add_pooling_layer=False)
    state = {
        "embeddings.word_embeddings.weight": words,
        "embeddings.position_embeddings.weight": weights["position"],
        # The bundle holds the token-type row within the positions.
        "embeddings.token_type_embeddings.weight": torch.zeros(1, shape["dim"]),
        **_norm("embeddings.LayerNorm", weights, "norm"),
    }
    for i in range(shape["layers"]):
        for ours, theirs in HUGGING_FACE_NORMS.items():
            state |= _norm(f"encoder.layer.{i}.{theirs}", weights, f"blocks.{i}.{ours}")
        for ours, theirs in HUGGING_FACE_LINEARS.items():
            at = f"blocks.{i}.linears.{ours}"
            values = weights[f"{at}.weight_quantized"].float() * weights[f"{at}.weight_scale"]  # [in, out]
            state[f"encoder.layer.{i}.{theirs}.weight"] = values.T
            state[f"encoder.layer.{i}.{theirs}.bias"] = weights[f"{at}.bias"]
    model.load_state_dict(state)
    return model.eval(), two_paths


def _initialisers(folder: Path) -> dict[str, Tensor]:
    """Return the base's tensors of the bundle's graph by their names inside the encoder."""
    graph = onnx.load(str(folder / GRAPH)).graph  # with its external weights
    return {
        tensor.name.removeprefix(_PREFIX): torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for tensor in graph.initializer
        if tensor.name.startswith(_PREFIX) and ".lora_" not in tensor.name
    }


def _norm(theirs: str, weights: dict[str, Tensor], ours: str) -> dict[str, Tensor]:
    return {f"{theirs}.{part}": weights[f"{ours}.{part}"] for part in ("weight", "bias")}


def _paths(weights: dict[str, Tensor], dim: int) -> JoinedPaths:
    paths = JoinedPaths(dim)
    paths.load_state_dict({name: weights[f"paths.{name}"] for name in paths.state_dict()})
    return paths.eval()
