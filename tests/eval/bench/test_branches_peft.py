from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from eval.bench import branches_peft
from eval.bench.branches import job_of
from eval.bench.branches_peft import load_models, measure, read_torch

if TYPE_CHECKING:
    from retrieval_shared.bundle import Bundle

IDS = np.arange(5, 20).reshape(3, 5)


def test_each_row_is_read_under_its_own_adapter(tiny_graphs: Path) -> None:
    plain, adapted = load_models(tiny_graphs)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if ".lora_B.2." in name:
                parameter.fill_(0.1)  # the others stay at zero, as PEFT begins
    base = read_torch(plain, IDS)
    found = read_torch(adapted, IDS, adapters=[1, 2, 20])
    assert torch.abs(found[[0, 2]] - base[[0, 2]]).max() < 1e-5
    assert torch.abs(found[1] - base[1]).max() > 0.01


def test_both_are_measured_in_the_same_rounds(
    tiny_graphs: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = torch.get_num_threads()
    monkeypatch.setattr(branches_peft, "ROWS", (2, 21))
    job = job_of(["free bet now"], [], bundle=tiny_bundle.path, graphs=tiny_graphs) | {"rounds": 2}
    try:
        found = measure(job)
    finally:
        torch.set_num_threads(threads)
    assert list(found["times"]) == [
        f"{whose}_{how}_{n}" for n in (2, 21) for whose in ("torch", "ours") for how in ("plain", "mixed")
    ]
    assert all(len(seconds) == 2 for seconds in found["times"].values())
    assert {"torch", "peft"} <= set(found["versions"])
