from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from training.tensors import save_tensors

TENSORS = {"b": torch.arange(6.0).view(2, 3).half(), "a": torch.tensor([1, 2, 3])}
METADATA = {"wardline.name": "region:ID", "wardline.parent": "area:ü", "format": "pt", "wardline.encoder": "0" * 64}


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    save_tensors(tmp_path / "t", TENSORS, METADATA)
    found = load_file(str(tmp_path / "t"))
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype
    with safe_open(str(tmp_path / "t"), framework="pt") as file:
        assert file.metadata() == METADATA


@pytest.mark.parametrize("run", range(5))
def test_the_same_values_are_the_same_bytes(tmp_path: Path, run: int) -> None:
    backwards = dict(reversed(list(METADATA.items())))
    save_tensors(tmp_path / "a", TENSORS, METADATA)
    save_tensors(tmp_path / "b", dict(reversed(list(TENSORS.items()))), backwards)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes(), run


def test_a_transposed_tensor_is_written_as_it_reads(tmp_path: Path) -> None:
    save_tensors(tmp_path / "t", {"x": TENSORS["b"].T}, {})
    assert torch.equal(load_file(str(tmp_path / "t"))["x"], TENSORS["b"].T)
