from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eval.bench.branches_graphs import check_graphs
from eval.bench.branches_memory import made_up, measure_memory
from retrieval_shared.onnx_encoder import OnnxEncoder

if TYPE_CHECKING:
    from retrieval_shared.bundle import Bundle


def test_memory_is_told_per_region_and_per_merged_model(tiny_bundle: Bundle, tiny_graphs: Path) -> None:
    """Rank 2, one layer of width 32 and inner width w: 4 linears of 32 x 32, one of 32 x w and one of w x 32."""
    encoder = OnnxEncoder(tiny_bundle, threads=1)
    found = measure_memory(encoder, tiny_graphs, check_graphs(tiny_graphs, encoder=tiny_bundle.sha256("base.int8.bin")))
    inner = next(b.shape[1] for name, (_, b) in encoder.adapters[0].matrices.items() if "intermediate" in name)
    assert found["bytes_of_matrices"] == 4 * 2 * (4 * (32 + 32) + 2 * (32 + inner))
    assert found["regions"] == 64
    assert set(found["merged_mb"]) == {"int8", "float32"}
    assert encoder.slots == tiny_bundle.manifest.slots  # the encoder it was given is as it was


def test_made_up_adapters_have_the_shapes_and_values_of_their_own(tiny_bundle: Bundle) -> None:
    like = OnnxEncoder(tiny_bundle, threads=1).adapters[0]
    first, second = made_up(like, range(3, 5))
    assert (first.name, second.name) == ("region:X3", "region:X4")
    for module, (a, b) in like.matrices.items():
        assert [m.shape for m in first.matrices[module]] == [a.shape, b.shape]
        assert not np.array_equal(first.matrices[module][0], second.matrices[module][0])
