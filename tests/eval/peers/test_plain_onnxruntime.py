from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eval.peers.minilm import GRAPH, TOKENIZER
from eval.peers.plain_onnxruntime import load

WORDS = {"[PAD]": 0, "[UNK]": 1, "bread": 2, "tea": 3}
TABLE = np.array([[9.0, 9.0], [0.0, 0.0], [3.0, 0.0], [0.0, 4.0]], dtype=np.float32)  # the pad row must never count


@pytest.fixture
def word_table(tmp_path: Path) -> Path:
    """A folder with a graph whose state of a token is its row of `TABLE`, and a tokenizer by words."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from tokenizers import Tokenizer, models, pre_tokenizers

    names = ("input_ids", "attention_mask", "token_type_ids")
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["states"])],
        "table",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "t"]) for name in names],
        [helper.make_tensor_value_info("states", TensorProto.FLOAT, ["n", "t", 2])],
        [numpy_helper.from_array(TABLE, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / GRAPH)
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / TOKENIZER))
    return tmp_path


@pytest.mark.parametrize("order", ["arrival", "sorted"])
@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_a_vector_is_the_unit_mean_over_real_tokens_whatever_the_batch(
    word_table: Path, batch_size: int, order: str
) -> None:
    stack = load({"minilm": str(word_table), "batch_size": batch_size, "order": order})
    found = stack.many(["bread", "bread tea bread tea", "tea"])
    np.testing.assert_allclose(found, [[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], atol=1e-6)  # (6, 8) / 10


def test_a_single_text_is_a_batch_of_one(word_table: Path) -> None:
    found = load({"minilm": str(word_table), "batch_size": 32}).one("tea")
    np.testing.assert_allclose(found, [[0.0, 1.0]], atol=1e-6)
